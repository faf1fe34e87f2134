//! What is accepted, what it comes to, and how the rest is refused.

use super::*;

fn refusal(text: &str) -> String {
    match Config::parse(text, Path::new("netd.toml")) {
        Ok(_) => panic!("accepted: {text}"),
        Err(error) => error.to_string(),
    }
}

fn config(text: &str) -> Config {
    Config::parse(text, Path::new("netd.toml")).expect(text)
}

#[test]
fn an_empty_file_means_dockers_defaults() {
    let config = config("");
    let settings = config.base_settings();
    assert_eq!(settings.default_address_pools.len(), 7);
    assert!(settings.icc && settings.ip_masq && !settings.ipv6);
    assert_eq!(config.api_socket, Path::new("/run/netd/netd.sock"));
    assert_eq!(config.metrics_addr, "127.0.0.1:9959".parse().ok());
    assert_eq!(config.snat_ports, (49_152, 65_535));
}

#[test]
fn every_key_reaches_its_place() {
    let config = config(
        "run-dir = '/r'\nmetrics-addr = 'off'\ncgroup = 'none'\ngroup = 'net'\n\
         dns = ['9.9.9.9']\ndns-search = ['a.example']\ndns-opts = ['ndots:2']\n\
         host-gateway-ip = '10.0.0.1'\nbip = '10.1.0.1/16'\nfixed-cidr = '10.1.4.0/24'\n\
         icc = false\nmtu = 1400\nbridge = 'none'\nsnat-ports = '20000-30000'\n\
         icmp-error-rate = 20\n\
         default-network-opts.bridge.'com.docker.network.driver.mtu' = '1300'\n\
         default-address-pools = [{ base = '10.2.0.0/16', size = 24 }]\n\
         [flow-table]\ntcp-syn = 5\n",
    );
    let settings = config.base_settings();
    assert_eq!(config.api_socket, Path::new("/r/netd.sock"));
    assert_eq!((config.metrics_addr, config.cgroup.as_deref()), (None, None));
    assert_eq!(config.dns.search, ["a.example"]);
    assert_eq!(config.host_gateway, ["10.0.0.1".parse::<IpAddr>().expect("address")]);
    assert_eq!(settings.default_network_opts.len(), 1);
    assert_eq!(settings.bridge.as_deref(), Some("none"));
    let compile = config.compile_settings();
    assert_eq!((compile.snat_ports, compile.mtu), ((20_000, 30_000), Some(1400)));
    assert_eq!(compile.icmp_errors, (20, 50));
    assert_eq!(compile.timeouts.tcp_syn_s, 5);
    assert_eq!(compile.timeouts.tcp_fin_s, FlowTimeouts::default().tcp_fin_s);
}

#[test]
fn every_timeout_and_size_of_the_flow_table_is_the_users_choice() {
    let config = config(
        "[flow-table]\nsize = 2048\nembryonic-size = 1024\ntcp-syn = 1\ntcp-established = 2\n\
         tcp-fin = 3\ntcp-rst = 4\nudp = 5\nudp-assured = 6\nicmp = 7\nother = 8\n\
         tcp-loose = 9\n",
    );
    assert_eq!(config.flow_table.size, Some(2_048));
    assert_eq!(config.flow_table.embryonic_size, Some(1_024));
    assert_eq!(config.flow_table.tcp_loose_s, 9);
    let wanted = FlowTimeouts {
        tcp_syn_s: 1,
        tcp_established_s: 2,
        tcp_fin_s: 3,
        tcp_rst_s: 4,
        udp_s: 5,
        udp_assured_s: 6,
        icmp_s: 7,
        other_s: 8,
    };
    assert_eq!(config.compile_settings().timeouts, wanted);
    assert!(refusal("[flow-table]\nudp = 0\n").contains("a timeout of 0"));
}

#[test]
fn an_unknown_key_is_refused_with_its_line_and_the_nearest_known() {
    assert_eq!(
        refusal("icc = true\n\nbipp = '10.0.0.1/24'\n"),
        "netd.toml:3: unknown key 'bipp': did you mean 'bip'?"
    );
    assert_eq!(
        refusal("storage-driver = 'overlay2'"),
        "netd.toml:1: unknown key 'storage-driver': remove it"
    );
    assert_eq!(
        refusal("[flow-table]\nsizes = 1"),
        "netd.toml:2: unknown key 'sizes': did you mean 'size'?"
    );
}

#[test]
fn a_value_of_the_wrong_type_is_refused_with_its_line_and_key() {
    let refusal = refusal("mtu = 1500\nicc = 'yes'\n");
    assert!(refusal.starts_with("netd.toml:2: key 'icc': invalid type"), "{refusal}");
}

#[test]
fn text_that_is_no_toml_is_refused_with_its_line() {
    assert!(refusal("icc = true\nmtu = = 3\n").starts_with("netd.toml:2: "));
}

#[test]
fn each_wrong_value_is_refused_with_line_key_and_remedy() {
    for (text, sentence) in [
        ("bip = '10.0.0.0/24'", "such as 10.0.0.1/24"),
        ("bip = 'fd00::1/64'", "other address family"),
        ("bip = '10.0.0.1/24'\nfixed-cidr = '10.0.1.0/25'", "is not within bip"),
        ("fixed-cidr = '10.0.1.3/25'", "write 10.0.1.0/25"),
        ("default-gateway = 'fd00::1'", "other address family"),
        ("state-dir = 'var'", "write it from /"),
        ("metrics-addr = '9959'", "or 'off'"),
        ("log-level = 'netd=loudest'", "write 'info'"),
        ("snat-ports = '5-4'", "runs backwards"),
        ("snat-ports = '80-9000'", "begin at 1024"),
        ("snat-ports = '2000-2010'", "at least 256"),
        ("snat-ports = 'many'", "FIRST-LAST"),
        ("icmp-error-rate = 1000001", "0 (none) to 1000000"),
        ("icmp-error-burst = 0", "a rate of 0 sends none"),
        ("veth-prefix = 'verylongprefix'", "at most 8 bytes"),
        ("default-bridge-name = 'a/b'", "can't name an interface"),
        ("bridge = 'br0'", "default-bridge-name"),
        ("mtu = 20", "68 to 65535"),
        ("ipv6 = true\nmtu = 1000", "1280 to 65535"),
        ("verify-interval = 0", "at least 1 second"),
        ("dns-search = ['a b']", "one word"),
        ("default-network-opts.overlay.x = 'y'", "only 'bridge'"),
        ("default-address-pools = []", "the list is empty"),
        ("default-address-pools = [{ base = '10.0.0.1/16', size = 24 }]", "write 10.0.0.0/16"),
        ("default-address-pools = [{ base = '10.0.0.0/16', size = 8 }]", "use 16 to 30"),
        ("flow-table.size = 3", "1024 to"),
        ("flow-table.udp = 0", "use 1"),
    ] {
        let refusal = refusal(text);
        let line = text.lines().count();
        assert!(refusal.starts_with(&format!("netd.toml:{line}: key '")), "{refusal}");
        assert!(refusal.contains(sentence), "{text}: {refusal}");
    }
}

#[test]
fn a_missing_file_is_fine_only_where_nobody_named_it() {
    let error = Config::load(Some(Path::new("/nowhere/netd.toml"))).expect_err("named");
    assert!(error.to_string().starts_with("/nowhere/netd.toml: can't be read"), "{error}");
}

#[test]
fn every_key_is_documented_for_operators() {
    let manual = include_str!("../../../docs/operations.md");
    for table in ["", "flow-table."] {
        let text = format!("{table}no-such-key = 1");
        let refused = toml::from_str::<raw::RawConfig>(&text).expect_err(&text).to_string();
        let (_, known) = refused.split_once("expected one of ").expect(&refused);
        let keys: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
        assert!(keys.len() >= 10, "{refused}");
        for key in keys {
            assert!(manual.contains(&format!("`{key}`")), "{key}");
        }
    }
}
