//! Addresses.

use ipnetwork::IpNetwork;

use super::id::NetworkId;

/// How full a pool is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolUsage {
    /// Its network.
    pub network: NetworkId,
    /// Its network's name.
    pub network_name: String,
    /// Its prefix.
    pub pool: IpNetwork,
    /// Addresses of endpoints, the gateway and auxiliary ones.
    pub allocated: u128,
    /// Addresses that endpoints can still get without asking for one by name.
    pub available: u128,
}
