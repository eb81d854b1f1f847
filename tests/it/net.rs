//! Address and prefix texts as stored objects may hold them, families, protocols and special addresses.

use std::fmt::{Debug, Display};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::prelude::*;
use svcplane::net::{
    IpFamily, Protocol, SpecialAddress, parse_cidr, parse_cidr_strict, parse_ip, parse_ip_strict,
    special_address,
};

/// Kubernetes apimachinery `pkg/util/validation/ip_test.go`, `TestIsValidIP` and `TestGetWarningsForIP`: what
/// the legacy fields accept. The last four rows: Kubernetes utils' fork of Go's `net/ip.go`.
#[test]
fn addresses() {
    for (text, canonical) in [
        ("1.2.3.4", "1.2.3.4"),
        ("0.0.0.0", "0.0.0.0"),
        ("255.255.255.255", "255.255.255.255"),
        ("1234::abcd", "1234::abcd"),
        ("::", "::"),
        ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("0:0:0:0:0:0:0:0", "::"),
        ("0001:002:03:4::", "1:2:3:4::"),
        ("1234::ABCD", "1234::abcd"),
        ("1.1.1.01", "1.1.1.1"),
        ("192.012.2.2", "192.12.2.2"),
        ("::ffff:1.1.1.1", "1.1.1.1"),
        ("2001:db8:0:0::2", "2001:db8::2"),
        ("0001.000000.009.0255", "1.0.9.255"),
        ("::ffff:1.1.1.01", "1.1.1.1"),
        ("::FFFF:102:304", "1.2.3.4"),
        ("64:ff9b::192.0.2.033", "64:ff9b::c000:221"),
    ] {
        assert_eq!(parse_ip(text).map(|ip| ip.to_string()).as_deref(), Ok(canonical), "{text:?}");
    }
    for text in [
        "",
        "aaaaaaa",
        "myhost.mydomain",
        "1.2.3.0/24",
        "1.2.3.400",
        "-1.0.0.0",
        "2001:db8::10005",
        "1.2.3.4:80",
        "[2001:db8::1]",
        "[2001:db8::1]:80",
        "example.com:80",
        "1234::abcd%eth0",
        "169.254.0.0%eth0",
        "1.2.3",
        "1.2.3.4.5",
        "1.2.3.",
        ".1.2.3",
        "1..2.3",
        "+1.2.3.4",
        " 1.2.3.4",
        "0x1.2.3.4",
        "1.2.3.a",
        "256.1.1.1",
        "::ffff:1.1.1.256",
        "::1.2.3",
        "1::2::3",
        ":1.2.3.4",
        "1:2:3:4:5:6:7:1.2.3.4",
        "1:2:3:4:5:6:7:8:9",
        "[2001:0db8:85a3:0042:1000:8a2e:0370:7334]",
    ] {
        assert!(parse_ip(text).is_err(), "{text:?} is accepted");
    }
}

/// Kubernetes apimachinery `pkg/util/validation/ip_test.go`, `TestIsValidCIDR` and `TestGetWarningsForCIDR`.
#[test]
fn prefixes() {
    for (text, canonical) in [
        ("1.0.0.0/8", "1.0.0.0/8"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("1.1.1.1/32", "1.1.1.1/32"),
        ("2001:4860:4860::/48", "2001:4860:4860::/48"),
        ("::/0", "::/0"),
        ("::1/128", "::1/128"),
        ("2a00:79e0:2:0::/64", "2a00:79e0:2::/64"),
        ("2001:DB8::/64", "2001:db8::/64"),
        ("1.1.01.0/24", "1.1.1.0/24"),
        ("::ffff:192.12.2.0/120", "192.12.2.0/24"),
        ("::ffff:1.1.1.0/120", "1.1.1.0/24"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("::ffff:1.2.3.4/128", "1.2.3.4/32"),
        ("1.2.3.4/24", "1.2.3.0/24"),
        ("2001:db8::1/64", "2001:db8::/64"),
        ("192.168.0.0/016", "192.168.0.0/16"),
        ("192.12.2.0/024", "192.12.2.0/24"),
        ("192.012.2.8/24", "192.12.2.0/24"),
    ] {
        assert_eq!(parse_cidr(text).map(|n| n.to_string()).as_deref(), Ok(canonical), "{text:?}");
    }
    for text in [
        "",
        "aaaaaaa",
        "1.2.3.4",
        "192.168.0.1/healthz",
        "192.168.0.1/0/99",
        "192.168.0.0/-16",
        "192.168.0.0/+16",
        "1.2.3.4/33",
        "::/129",
        "::ffff:1.2.3.4/129",
        "foo.bar",
        "   ",
        "1.2.3.0/",
        "/24",
        "1.2.3.0 /24",
        "1.2.3.0/24 ",
        "1.2.3.0/256",
        "1.2.3.400/8",
        "fe80::1%eth0/64",
    ] {
        assert!(parse_cidr(text).is_err(), "{text:?} is accepted");
    }
}

/// How many of the checks of a text accept it: what legacy fields accept, what they accept in strict mode, what new
/// fields accept (the canonical form).
fn accepted<T: Display>(text: &str, lenient: Option<T>, strict: Option<T>) -> usize {
    match (lenient, strict) {
        (None, None) => 0,
        (Some(_), None) => 1,
        (Some(_), Some(value)) if value.to_string() != text => 2,
        (Some(_), Some(_)) => 3,
        (None, Some(value)) => panic!("{text:?} is {value} in strict mode only"),
    }
}

/// Kubernetes apimachinery `pkg/util/validation/ip_test.go`, `TestIsValidIP`, its three degrees of strictness; and
/// `TestGetWarningsForIP`.
#[test]
fn strictness_of_addresses() {
    for (text, expected) in [
        ("1.2.3.4", 3),
        ("0.0.0.0", 3),
        ("255.255.255.255", 3),
        ("1234::abcd", 3),
        ("::", 3),
        ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 3),
        ("192.12.2.2", 3),
        ("2001:db8::2", 3),
        ("0:0:0:0:0:0:0:0", 2),
        ("0001:002:03:4::", 2),
        ("1234::ABCD", 2),
        ("2001:db8:0:0::2", 2),
        ("64:ff9b::192.0.2.33", 2),
        ("1.1.1.01", 1),
        ("::ffff:1.1.1.1", 1),
        ("192.012.2.2", 1),
        ("::ffff:192.12.2.2", 1),
        ("::ffff:102:304", 1),
        ("64:ff9b::192.0.2.033", 1),
        ("", 0),
        ("aaaaaaa", 0),
        ("myhost.mydomain", 0),
        ("1.2.3.0/24", 0),
        ("1.2.3.400", 0),
        ("-1.0.0.0", 0),
        ("2001:db8::10005", 0),
        ("1.2.3.4:80", 0),
        ("[2001:db8::1]", 0),
        ("[2001:db8::1]:80", 0),
        ("example.com:80", 0),
        ("1234::abcd%eth0", 0),
        ("169.254.0.0%eth0", 0),
    ] {
        let found = accepted(text, parse_ip(text).ok(), parse_ip_strict(text).ok());
        assert_eq!(found, expected, "{text:?}");
    }
}

/// Kubernetes apimachinery `pkg/util/validation/ip_test.go`, `TestIsValidCIDR`, its three degrees of strictness; and
/// `TestGetWarningsForCIDR`.
#[test]
fn strictness_of_prefixes() {
    for (text, expected) in [
        ("1.0.0.0/8", 3),
        ("0.0.0.0/0", 3),
        ("1.1.1.1/32", 3),
        ("2001:4860:4860::/48", 3),
        ("::/0", 3),
        ("::1/128", 3),
        ("192.12.2.0/24", 3),
        ("2001:db8::/64", 3),
        ("2a00:79e0:2:0::/64", 2),
        ("2001:DB8::/64", 2),
        ("1.1.01.0/24", 1),
        ("::ffff:1.1.1.0/24", 1),
        ("::ffff:1.1.1.0/120", 1),
        ("1.2.3.4/24", 1),
        ("2001:db8::1/64", 1),
        ("192.168.0.0/016", 1),
        ("192.012.2.0/24", 1),
        ("192.12.2.0/024", 1),
        ("::ffff:192.12.2.0/120", 1),
        ("192.12.2.8/24", 1),
        ("0.0.0.0/00", 1),
        ("", 0),
        ("aaaaaaa", 0),
        ("1.2.3.4", 0),
        ("192.168.0.1/healthz", 0),
        ("192.168.0.1/0/99", 0),
        ("192.168.0.0/-16", 0),
        ("192.168.0.0/+16", 0),
        ("1.2.3.0/33", 0),
        ("fe80::%eth0/64", 0),
    ] {
        let found = accepted(text, parse_cidr(text).ok(), parse_cidr_strict(text).ok());
        assert_eq!(found, expected, "{text:?}");
    }
}

/// Kubernetes apimachinery `pkg/util/validation/ip_test.go`, `TestIsValidCIDR`, "ipv4-in-ipv6 with ipv4-sized
/// prefix": legacy fields accept it. Kubernetes utils' `ParseCIDR` applies the length to all 128 bits.
#[test]
fn ipv4_mapped_prefix_with_a_length_below_96() {
    let text = "::ffff:1.1.1.0/24";
    assert_eq!(parse_cidr(text).map(|net| net.to_string()).as_deref(), Ok("::/24"), "{text:?}");
}

/// Kubernetes `pkg/apis/core/validation/validation.go`, `ValidateNonSpecialIP`.
#[test]
fn special_addresses() {
    use SpecialAddress::{LinkLocal, LinkLocalMulticast, Loopback, Unspecified};
    for (text, expected) in [
        ("0.0.0.0", Some(Unspecified)),
        ("::", Some(Unspecified)),
        ("0.0.0.1", None),
        ("126.255.255.255", None),
        ("127.0.0.0", Some(Loopback)),
        ("127.255.255.255", Some(Loopback)),
        ("128.0.0.0", None),
        ("::1", Some(Loopback)),
        ("::2", None),
        ("::ffff:127.0.0.1", Some(Loopback)),
        ("169.253.255.255", None),
        ("169.254.0.0", Some(LinkLocal)),
        ("169.254.169.254", Some(LinkLocal)),
        ("169.255.0.0", None),
        ("fe80::", Some(LinkLocal)),
        ("febf:ffff::1", Some(LinkLocal)),
        ("fe7f:ffff::1", None),
        ("fec0::1", None),
        ("223.255.255.255", None),
        ("224.0.0.1", Some(LinkLocalMulticast)),
        ("224.0.0.255", Some(LinkLocalMulticast)),
        ("224.0.1.0", None),
        ("ff02::1", Some(LinkLocalMulticast)),
        ("ff12::1", Some(LinkLocalMulticast)),
        ("fff2::1", Some(LinkLocalMulticast)),
        ("ff01::1", None),
        ("ff05::2", None),
        ("ff20::1", None),
        ("fe02::1", None),
        ("239.1.2.3", None),
        ("255.255.255.255", None),
        ("10.96.0.10", None),
        ("fd00:96::a", None),
    ] {
        assert_eq!(special_address(parse_ip(text).unwrap()), expected, "{text}");
    }
}

fn named<T: FromStr + Display + Debug + PartialEq>(value: T, text: &str, others: &[&str]) {
    assert_eq!(value.to_string(), text);
    assert_eq!(text.parse().ok(), Some(value), "{text:?}");
    for other in others {
        assert!(other.parse::<T>().is_err(), "{other:?} is accepted");
    }
}

/// Kubernetes `core/v1` types; IANA protocol numbers.
#[test]
fn families_and_protocols() {
    let families = ["ipv4", "IPV4", "IP", "", "not-a-valid-ip-family", " IPv4"];
    for (family, text, sample) in [
        (IpFamily::V4, "IPv4", IpAddr::V4(Ipv4Addr::BROADCAST)),
        (IpFamily::V6, "IPv6", IpAddr::V6(Ipv6Addr::LOCALHOST)),
    ] {
        named(family, text, &families);
        assert_eq!(IpFamily::of(sample), family, "{sample}");
        assert_ne!(IpFamily::of(sample), family.other(), "{sample}");
    }
    for (protocol, text, lower, number) in [
        (Protocol::Tcp, "TCP", "tcp", 6),
        (Protocol::Udp, "UDP", "udp", 17),
        (Protocol::Sctp, "SCTP", "sctp", 132),
    ] {
        named(protocol, text, &[lower, "", "INVALID", "Protocol", "TCP "]);
        assert_eq!((protocol.as_lower_str(), protocol.number()), (lower, number), "{text}");
    }
    assert_eq!(Protocol::default(), Protocol::Tcp);
}

fn ip() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u32>().prop_map(|bits| IpAddr::V4(bits.into())),
        any::<u128>().prop_map(|bits| IpAddr::V6(bits.into())),
        any::<u32>().prop_map(|bits| IpAddr::V6(Ipv4Addr::from(bits).to_ipv6_mapped())),
        any::<u32>().prop_map(|bits| IpAddr::V6(u128::from(bits).into())),
    ]
}

proptest! {
    /// What the standard library prints reads back, in its canonical family; padding an IPv4 octet with
    /// zeros changes nothing.
    #[test]
    fn canonical_addresses_read_back(ip in ip(), pad in prop::array::uniform4(0_usize..6)) {
        prop_assert_eq!(parse_ip(&ip.to_string()), Ok(ip.to_canonical()));
        if let IpAddr::V4(v4) = ip.to_canonical() {
            let octets: Vec<_> =
                v4.octets().iter().zip(pad).map(|(octet, width)| format!("{octet:0width$}")).collect();
            prop_assert_eq!(parse_ip(&octets.join(".")), Ok(v4.into()));
        }
    }

    /// A prefix reads as `ipnet` reads it, cut to its length.
    #[test]
    fn canonical_prefixes_read_back(v4: u32, v4_len in 0_u8..=32, v6: u128, v6_len in 0_u8..=128) {
        let v4 = Ipv4Net::new(v4.into(), v4_len).unwrap();
        prop_assert_eq!(parse_cidr(&v4.to_string()), Ok(IpNet::V4(v4.trunc())));
        let v6 = Ipv6Net::new((v6 | 1 << 127).into(), v6_len).unwrap();
        prop_assert_eq!(parse_cidr(&v6.to_string()), Ok(IpNet::V6(v6.trunc())));
    }

    /// Any text: no panic, whatever the standard library reads is read as the same, and what is read
    /// prints as a text of the same value.
    #[test]
    fn any_text(
        text in "\\PC{0,12}|[0-9a-f:.]{0,20}|([0-9.]{0,12}|[0-9a-f:]{0,9}|[0-9]\\.0\\.0\\.1|[0-9a-f]::)(/[0-9]{0,3})?",
    ) {
        if let Ok(ip) = text.parse::<IpAddr>() {
            prop_assert_eq!(parse_ip(&text), Ok(ip.to_canonical()));
        }
        if let Ok(ip) = parse_ip(&text) {
            prop_assert_eq!(parse_ip(&ip.to_string()), Ok(ip));
            prop_assert_eq!(parse_ip_strict(&ip.to_string()), Ok(ip));
            prop_assert_eq!(ip, ip.to_canonical());
            prop_assert!(parse_cidr(&text).is_err());
        }
        if let Ok(net) = parse_cidr(&text) {
            prop_assert_eq!(net, net.trunc());
            prop_assert_eq!(parse_cidr(&net.to_string()), Ok(net));
            prop_assert_eq!(parse_cidr_strict(&net.to_string()), Ok(net));
        }
        if let Ok(ip) = parse_ip_strict(&text) {
            prop_assert_eq!(parse_ip(&text), Ok(ip));
        }
        if let Ok(net) = parse_cidr_strict(&text) {
            prop_assert_eq!(parse_cidr(&text), Ok(net));
        }
    }
}
