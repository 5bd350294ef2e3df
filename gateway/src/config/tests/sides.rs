//! Tables: which pairs of sides fit, and what is said of those that do not.

use super::*;

/// The keys and reasons of what is wrong, as `key: reason`.
fn said(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(|problem| format!("{}: {}", problem.key, problem.reason)).collect()
}

/// A text of [`MINIMAL`], and what stands there instead.
type Change = (&'static str, &'static str);
/// How each of the problems begins.
type Expected = &'static [&'static str];

/// Both sides on the tunnel's device.
const ONE_DEVICE: Change = ("net_af_packet1,iface=ext0", "net_af_packet0,iface=tun0");

#[test]
fn any_family_will_do_on_either_side() {
    let tunnel_v6 = ("\"192.0.2.10/24\"", "\"2001:db8:2::10/64\"");
    let tunnel_both = ("\"192.0.2.10/24\"", "\"192.0.2.10/24\", \"2001:db8:2::10/64\"");
    let external_v6: &[_] = &[
        ("\"203.0.113.2/24\"", "\"2001:db8:113::2/64\""),
        ("\"203.0.113.1\"", "\"fe80::1\""),
        ("\"203.0.113.16/28\"", "\"2001:db8:113::/64\""),
    ];
    for changes in [&[tunnel_v6][..], &[tunnel_both], external_v6] {
        assert_eq!(good(&replaced(changes)).1, [], "{changes:?}");
    }
    let (config, _) = good(&replaced(&[&[tunnel_both], external_v6].concat()));
    let tunnel: Vec<String> = config.tunnel.port.on_link().map(|net| net.to_string()).collect();
    assert_eq!(tunnel, ["192.0.2.10/24", "2001:db8:2::10/64"]);
    let PortConfig { addresses_v4, addresses_v6, gateways_v4, gateways_v6, .. } =
        config.external.port;
    assert_eq!((addresses_v4, gateways_v4), (vec![], vec![]));
    assert_eq!(addresses_v6, ["2001:db8:113::2/64".parse().unwrap()]);
    assert_eq!(gateways_v6, ["fe80::1".parse::<std::net::Ipv6Addr>().unwrap()]);
    assert_eq!(config.external.egress_prefixes_v6, ["2001:db8:113::/64".parse().unwrap()]);
}

#[test]
fn each_family_that_policies_may_claim_needs_a_way_out() {
    let dual = dual_stack();
    let without =
        |texts: &[&str]| texts.iter().fold(dual.clone(), |text, cut| text.replace(cut, ""));
    let cases: &[(String, &[&str])] = &[
        (
            without(&[", \"2001:db8:113::1\""]),
            &[
                "ports.external.gateways: has no IPv6 router: only destinations that are on-link can be reached",
            ],
        ),
        (
            without(&["\"203.0.113.1\", "]),
            &[
                "ports.external.gateways: has no IPv4 router: only destinations that are on-link can be reached",
            ],
        ),
        (
            without(&[", \"2001:db8:113::1\"", ", \"2001:db8:113::2/64\""]),
            &[
                "ports.external.egress_prefixes: has IPv6, and the port has no IPv6 address or router: such traffic cannot leave",
            ],
        ),
        (
            without(&["\"203.0.113.1\", ", "\"203.0.113.2/24\", "]),
            &[
                "ports.external.egress_prefixes: has IPv4, and the port has no IPv4 address or router: such traffic cannot leave",
            ],
        ),
        // A link-local router is a way out without any address.
        (without(&[", \"2001:db8:113::2/64\""]).replace("2001:db8:113::1", "fe80::1"), &[]),
        // Addresses for ping alone.
        (without(&[", \"2001:db8:113::/64\"", ", \"2001:db8:113::1\""]), &[]),
    ];
    for (text, expected) in cases {
        assert_eq!(said(&good(text).1), *expected, "{text}");
    }
}

#[test]
fn ipv6_needs_1280_bytes() {
    let with_mtu = |text: &str, section: &str, mtu: u16| {
        let place = format!("[{section}]\n");
        assert!(text.contains(&place), "{text}");
        text.replace(&place, &format!("{place}mtu = {mtu}\n"))
    };
    let (v4, dual) = (MINIMAL.to_owned(), dual_stack());
    let v6_vtep = dual.replace("\"192.0.2.10/24\"", "\"192.0.2.10/24\", \"2001:db8:2::10/64\"");
    let link_local = replaced(&[("\"203.0.113.1\"", "\"203.0.113.1\", \"fe80::1\"")]);
    let too_small = |mtu, section| {
        vec![format!("{section}.mtu: {mtu} is less than the 1280 of RFC 8200 section 5")]
    };
    let no_room = |room| {
        vec![format!(
            "ports.tunnel.mtu: leaves {room} bytes for a packet in the tunnel, and IPv6 needs 1280 \
             (RFC 8200 section 5)"
        )]
    };
    // (text, section, mtu, errors, warnings)
    let cases = [
        (&v4, "ports.external", 576, vec![], vec![]),
        (&v4, "ports.tunnel", 576, vec![], vec![]),
        (&dual, "ports.external", 1279, too_small(1279, "ports.external"), vec![]),
        (&link_local, "ports.external", 1279, too_small(1279, "ports.external"), vec![]),
        (&dual, "ports.external", 1280, vec![], vec![]),
        (&dual, "ports.tunnel", 1329, vec![], no_room(1279)),
        (&dual, "ports.tunnel", 1330, vec![], vec![]),
        (&dual, "ports.tunnel", 1279, vec![], no_room(1229)),
        (&v6_vtep, "ports.tunnel", 1279, too_small(1279, "ports.tunnel"), vec![]),
        (&v6_vtep, "ports.tunnel", 1349, vec![], no_room(1279)),
        (&v6_vtep, "ports.tunnel", 1350, vec![], vec![]),
    ];
    for (text, section, mtu, wanted_errors, wanted_warnings) in cases {
        let text = with_mtu(text, section, mtu);
        if wanted_errors.is_empty() {
            assert_eq!(said(&good(&text).1), wanted_warnings, "{text}");
        } else {
            assert_eq!(said(&errors(&text)), wanted_errors, "{text}");
        }
    }
}

#[test]
fn one_device_may_serve_both_sides() {
    let vlans = ("[ports.external]\n", "[ports.external]\nvlan = 20\n");
    assert_eq!(good(MINIMAL).0.one_armed(), None);
    assert_eq!(good(&replaced(&[vlans])).0.one_armed(), None);
    for (changes, expected) in
        [(&[ONE_DEVICE][..], OneArmed::ByAddress), (&[ONE_DEVICE, vlans], OneArmed::ByVlan)]
    {
        let (config, warnings) = good(&replaced(changes));
        assert_eq!((config.one_armed(), warnings), (Some(expected), vec![]));
    }
}

#[test]
fn one_device_has_one_mtu_and_its_sides_can_be_told_apart() {
    let vlan = ("[ports.external]\n", "[ports.external]\nvlan = 20\n");
    let mtu = ("[ports.external]\n", "[ports.external]\nmtu = 9000\n");
    let tunnel_dual = ("\"192.0.2.10/24\"", "\"192.0.2.10/24\", \"2001:db8:2::10/64\"");
    let link_local =
        ("[ports.tunnel]\n", "[ports.tunnel]\ngateways = [\"192.0.2.1\", \"fe80::1\"]\n");
    let claimed = ("\"203.0.113.16/28\"", "\"203.0.113.16/28\", \"192.0.2.64/28\"");
    let overlap = ("\"203.0.113.2/24\"", "\"203.0.113.2/24\", \"192.0.2.9/28\"");
    // (changes, what is wrong by address, what is wrong by VLAN)
    let cases: &[(&[Change], Expected, Expected)] = &[
        (
            &[mtu],
            &["ports.external.mtu: 9000 is not the 1500 of ports.tunnel"],
            &["ports.external.mtu: 9000 is not the 1500 of ports.tunnel"],
        ),
        (
            &[tunnel_dual, link_local],
            &[
                "ports.tunnel.gateways: fe80::1 is link-local, and the sides share a device and a VLAN",
            ],
            &[],
        ),
        (
            &[claimed],
            &[
                "ports.external.egress_prefixes: 192.0.2.64/28 overlaps 192.0.2.10/24 of ports.tunnel, \
               and the sides share a device and a VLAN",
            ],
            &[],
        ),
        (
            &[overlap],
            &["ports.external.addresses: 192.0.2.9/28 overlaps 192.0.2.10/24 of ports.tunnel"],
            &["ports.external.addresses: 192.0.2.9/28 overlaps 192.0.2.10/24 of ports.tunnel"],
        ),
        // All at once.
        (
            &[mtu, claimed, overlap],
            &[
                "ports.external.mtu: 9000 is not",
                "ports.external.egress_prefixes: 192.0.2.64/28",
                "ports.external.addresses: 192.0.2.9/28",
            ],
            &["ports.external.mtu: 9000 is not", "ports.external.addresses: 192.0.2.9/28"],
        ),
    ];
    for (changes, by_address, by_vlan) in cases {
        for (vlan, expected) in [(None, by_address), (Some(vlan), by_vlan)] {
            let changes = [&[ONE_DEVICE], *changes, vlan.as_slice()].concat();
            let text = replaced(&changes);
            let found = match Config::parse(&text) {
                Ok((_, warnings)) => said(&warnings),
                Err(ConfigError::Invalid(errors)) => said(&errors),
                Err(error) => panic!("{error}"),
            };
            assert_eq!(found.len(), expected.len(), "{found:#?}\nin\n{text}");
            for (found, expected) in found.iter().zip(*expected) {
                assert!(found.starts_with(expected), "{expected}\n{found}\nin\n{text}");
            }
        }
    }
    // With a device for each side, all of this but the overlap is as it should be.
    good(&replaced(&[mtu, tunnel_dual, link_local, claimed]));
}

#[test]
fn the_examples_of_one_armed_gateways_are_good() {
    let text = include_str!("../../../../configs/gateway.toml");
    let commented = text.lines().filter_map(|line| line.strip_prefix("#     "));
    let example = commented.map(|line| format!("{line}\n")).collect::<String>();
    let gateway = "[gateway]\nname = \"gw-a\"\n";
    let (by_vlan, warnings) = good(&format!("{gateway}{example}"));
    assert_eq!((by_vlan.one_armed(), warnings), (Some(OneArmed::ByVlan), vec![]));
    let same_vlan = example.replace("vlan = 20", "vlan = 10");
    let (by_address, _) = good(&format!("{gateway}{same_vlan}"));
    assert_eq!(by_address.one_armed(), Some(OneArmed::ByAddress));
}
