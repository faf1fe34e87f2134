//! `--gateway`, `--ip-range` and `--aux-address` matched to the `--subnet` that contains each.
//!
//! Law: matching only, in Docker's words. Whether a value is allowed is the daemon's to say.

use std::net::IpAddr;
use std::str::FromStr as _;

use ipnetwork::IpNetwork;

use super::error::CliError;
use super::flags::Pair;
use crate::api::IpamConfig;

/// The flags as given.
#[derive(Default)]
pub(super) struct Asked<'a> {
    /// `--subnet`.
    pub(super) subnets: &'a [String],
    /// `--ip-range`.
    pub(super) ranges: &'a [String],
    /// `--gateway`.
    pub(super) gateways: &'a [String],
    /// `--aux-address`.
    pub(super) aux_addresses: &'a [Pair],
}

impl Asked<'_> {
    /// One entry for each subnet, in order.
    pub(super) fn matched(&self) -> Result<Vec<IpamConfig>, CliError> {
        if self.subnets.len() < self.ranges.len() || self.subnets.len() < self.gateways.len() {
            return refuse("every ip-range or gateway must have a corresponding subnet");
        }
        let mut configs = self.separate_subnets()?;
        for range in self.ranges {
            place(&mut configs, "range", range, put_range)?;
        }
        for gateway in self.gateways {
            place(&mut configs, "gateway", gateway, put_gateway)?;
        }
        for (name, address) in self.aux_addresses {
            place(&mut configs, "aux-address", address, |config, address| {
                config.auxiliary_addresses.insert(name.clone(), address.to_owned());
                Ok(())
            })?;
        }
        Ok(configs)
    }

    fn separate_subnets(&self) -> Result<Vec<IpamConfig>, CliError> {
        let mut configs: Vec<IpamConfig> = Vec::new();
        for subnet in self.subnets {
            for other in &configs {
                if contains(&other.subnet, subnet)? || contains(subnet, &other.subnet)? {
                    return refuse("multiple overlapping subnet configuration is not supported");
                }
            }
            configs.push(IpamConfig { subnet: subnet.clone(), ..IpamConfig::default() });
        }
        Ok(configs)
    }
}

fn place(
    configs: &mut [IpamConfig],
    kind: &str,
    value: &str,
    put: impl Fn(&mut IpamConfig, &str) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let mut found = false;
    for config in configs {
        if contains(&config.subnet, value)? {
            put(config, value)?;
            found = true;
        }
    }
    if found { Ok(()) } else { refuse(&format!("no matching subnet for {kind} {value}")) }
}

fn put_range(config: &mut IpamConfig, range: &str) -> Result<(), CliError> {
    if let Some(earlier) = config.ip_range.replace(range.to_owned()) {
        let subnet = &config.subnet;
        return refuse(&format!(
            "cannot configure multiple ranges ({range}, {earlier}) on the same subnet ({subnet})"
        ));
    }
    Ok(())
}

fn put_gateway(config: &mut IpamConfig, gateway: &str) -> Result<(), CliError> {
    if let Some(earlier) = config.gateway.replace(gateway.to_owned()) {
        let subnet = &config.subnet;
        return refuse(&format!(
            "cannot configure multiple gateways ({gateway}, {earlier}) for the same subnet ({subnet})"
        ));
    }
    Ok(())
}

/// Whether an address, or the address of a prefix, lies within a subnet. Text that is no address lies
/// nowhere.
fn contains(subnet: &str, value: &str) -> Result<bool, CliError> {
    let subnet =
        prefix(subnet).map_err(|error| CliError::Refused(format!("invalid subnet: {error}")))?;
    let address = if value.contains('/') {
        Some(prefix(value).map_err(CliError::Refused)?.ip())
    } else {
        IpAddr::from_str(value).ok()
    };
    Ok(address.is_some_and(|address| subnet.contains(address)))
}

fn prefix(text: &str) -> Result<IpNetwork, String> {
    let parsed = text.contains('/').then(|| IpNetwork::from_str(text).ok()).flatten();
    parsed.ok_or_else(|| format!("invalid CIDR address: {text}"))
}

fn refuse<T>(message: &str) -> Result<T, CliError> {
    Err(CliError::Refused(message.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(ToString::to_string).collect()
    }

    fn matched(
        subnets: &[&str],
        ranges: &[&str],
        gateways: &[&str],
        aux: &[&str],
    ) -> Result<Vec<IpamConfig>, String> {
        let aux: Vec<Pair> =
            aux.iter().map(|text| super::super::flags::named_address(text).unwrap()).collect();
        Asked {
            subnets: &texts(subnets),
            ranges: &texts(ranges),
            gateways: &texts(gateways),
            aux_addresses: &aux,
        }
        .matched()
        .map_err(|error| error.to_string())
    }

    #[test]
    fn each_value_goes_to_the_subnet_that_contains_it() {
        let configs = matched(
            &["10.1.0.0/24", "fd00::/64"],
            &["10.1.0.128/25"],
            &["fd00::1", "10.1.0.1"],
            &["a=10.1.0.5", "b=fd00::5"],
        )
        .unwrap();
        assert_eq!(
            serde_json::to_value(configs).unwrap(),
            serde_json::json!([
                {"Subnet": "10.1.0.0/24", "IPRange": "10.1.0.128/25", "Gateway": "10.1.0.1",
                 "AuxiliaryAddresses": {"a": "10.1.0.5"}},
                {"Subnet": "fd00::/64", "Gateway": "fd00::1",
                 "AuxiliaryAddresses": {"b": "fd00::5"}},
            ])
        );
    }

    #[test]
    fn refusals_are_dockers() {
        let one = &["10.1.0.0/24"][..];
        for (result, message) in [
            (matched(one, &["10.2.0.0/25"], &[], &[]), "no matching subnet for range 10.2.0.0/25"),
            (matched(one, &[], &["10.2.0.1"], &[]), "no matching subnet for gateway 10.2.0.1"),
            (matched(one, &[], &["zz"], &[]), "no matching subnet for gateway zz"),
            (
                matched(one, &[], &[], &["a=10.2.0.1"]),
                "no matching subnet for aux-address 10.2.0.1",
            ),
            (
                matched(&["10.1.0.0/24", "10.1.0.0/25"], &[], &[], &[]),
                "multiple overlapping subnet configuration is not supported",
            ),
            (
                matched(&[], &["10.1.0.0/25"], &[], &[]),
                "every ip-range or gateway must have a corresponding subnet",
            ),
            (
                matched(&[], &[], &["10.1.0.1"], &[]),
                "every ip-range or gateway must have a corresponding subnet",
            ),
            (
                matched(&["10.1.0.0/24", "10.2.0.0/24"], &[], &["10.1.0.1", "10.1.0.2"], &[]),
                "cannot configure multiple gateways (10.1.0.2, 10.1.0.1) \
                 for the same subnet (10.1.0.0/24)",
            ),
            (
                matched(
                    &["10.1.0.0/24", "10.2.0.0/24"],
                    &["10.1.0.0/25", "10.1.0.128/25"],
                    &[],
                    &[],
                ),
                "cannot configure multiple ranges (10.1.0.128/25, 10.1.0.0/25) \
                 on the same subnet (10.1.0.0/24)",
            ),
            (
                matched(&["10.1.0.0"], &[], &["10.1.0.1"], &[]),
                "invalid subnet: invalid CIDR address: 10.1.0.0",
            ),
        ] {
            assert_eq!(result.unwrap_err(), message);
        }
    }

    #[test]
    fn a_lone_subnet_is_the_daemons_to_judge() {
        assert_eq!(matched(&["10.1.0.0"], &[], &[], &[]).unwrap()[0].subnet, "10.1.0.0");
        assert_eq!(matched(&["10.1.0.1/24"], &[], &[], &[]).unwrap()[0].subnet, "10.1.0.1/24");
    }
}
