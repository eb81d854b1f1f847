//! Allocators of addresses and ports: bands, errors, determinism, and random operations against a model.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::net::IpAddr;

use ipnet::IpNet;
use proptest::prelude::*;
use svcplane::ipam::{AllocateError, IpRange, PortRange};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn ips(cidr: &str, seed: u64) -> IpRange {
    IpRange::new(cidr.parse().unwrap(), seed).unwrap()
}

/// The address `offset` after another.
fn after(start: IpAddr, offset: usize) -> IpAddr {
    match start {
        IpAddr::V4(ip) => IpAddr::V4((u32::from(ip) + u32::try_from(offset).unwrap()).into()),
        IpAddr::V6(ip) => IpAddr::V6((u128::from(ip) + offset as u128).into()),
    }
}

/// Draws `count` different items and gives the least and the greatest, if any.
fn draw<T: Ord + Copy + Debug, E: Debug>(
    count: usize,
    what: &str,
    mut next: impl FnMut() -> Result<T, E>,
) -> Option<(T, T)> {
    let mut drawn: Vec<T> =
        (0..count).map(|_| next().unwrap_or_else(|e| panic!("{what}: {e:?}"))).collect();
    drawn.sort_unstable();
    drawn.dedup();
    assert_eq!(drawn.len(), count, "{what}: drawn twice");
    Some((*drawn.first()?, *drawn.last()?))
}

// Usable count, size of the static band, first and last of the dynamic band: KEP-3070, and Kubernetes
// `pkg/registry/core/service/ipallocator/bitmap_test.go`.
const IP_RANGES: [(&str, usize, usize, &str, &str); 27] = [
    ("10.96.0.0/12", 1_048_574, 256, "10.96.1.1", "10.111.255.254"),
    ("10.0.0.0/15", 131_070, 256, "10.0.1.1", "10.1.255.254"),
    ("10.96.0.0/16", 65_534, 256, "10.96.1.1", "10.96.255.254"),
    ("10.96.0.0/19", 8_190, 256, "10.96.1.1", "10.96.31.254"),
    ("10.96.0.0/20", 4_094, 256, "10.96.1.1", "10.96.15.254"),
    ("10.96.0.0/21", 2_046, 128, "10.96.0.129", "10.96.7.254"),
    ("10.96.0.0/22", 1_022, 64, "10.96.0.65", "10.96.3.254"),
    ("10.96.0.0/23", 510, 32, "10.96.0.33", "10.96.1.254"),
    ("192.168.1.0/24", 254, 16, "192.168.1.17", "192.168.1.254"),
    ("192.168.1.0/25", 126, 16, "192.168.1.17", "192.168.1.126"),
    ("10.96.0.0/26", 62, 16, "10.96.0.17", "10.96.0.62"),
    ("10.96.0.0/27", 30, 16, "10.96.0.17", "10.96.0.30"),
    ("10.96.0.0/28", 14, 0, "10.96.0.1", "10.96.0.14"),
    ("10.96.0.0/29", 6, 0, "10.96.0.1", "10.96.0.6"),
    ("192.168.1.240/30", 2, 0, "192.168.1.241", "192.168.1.242"),
    ("fd00::1/12", 65_535, 256, "fd00::101", "fd00::ffff"),
    ("fd00:96::/64", 65_535, 256, "fd00:96::101", "fd00:96::ffff"),
    ("fd00:96::/108", 65_535, 256, "fd00:96::101", "fd00:96::ffff"),
    ("fd00:96::/112", 65_535, 256, "fd00:96::101", "fd00:96::ffff"),
    ("fd00:96::/116", 4_095, 256, "fd00:96::101", "fd00:96::fff"),
    ("fd00:96::/118", 1_023, 64, "fd00:96::41", "fd00:96::3ff"),
    ("fd00:96::/120", 255, 16, "fd00:96::11", "fd00:96::ff"),
    ("fd00:96::/122", 63, 16, "fd00:96::11", "fd00:96::3f"),
    ("fd00:96::/123", 31, 16, "fd00:96::11", "fd00:96::1f"),
    ("fd00:96::/124", 15, 0, "fd00:96::1", "fd00:96::f"),
    ("fd00:96::/126", 3, 0, "fd00:96::1", "fd00:96::3"),
    ("fd00:96::/127", 1, 0, "fd00:96::1", "fd00:96::1"),
];

#[test]
fn ip_ranges_fill_the_dynamic_band_first() {
    for (cidr, usable, band, first, last) in IP_RANGES {
        let mut range = ips(cidr, 42);
        assert_eq!((range.free(), range.used()), (usable, 0), "{cidr}");
        let dynamic = draw(usable - band, cidr, || range.allocate_next());
        assert_eq!(dynamic, Some((ip(first), ip(last))), "{cidr}: dynamic band");
        assert_eq!(range.net(), cidr.parse::<IpNet>().unwrap().trunc(), "{cidr}");
        let base = after(range.net().network(), 1);
        let edges = (band > 0).then(|| (base, after(base, band - 1)));
        assert_eq!(draw(band, cidr, || range.allocate_next()), edges, "{cidr}: static band");
        let full = AllocateError::Full { range: range.net().to_string() };
        assert_eq!(range.allocate_next(), Err(full), "{cidr}");
        assert_eq!((range.free(), range.used()), (0, usable), "{cidr}");
        assert!(range.iter().eq((0..usable).map(|slot| after(base, slot))), "{cidr}: iteration");
    }
    for cidr in ["192.168.1.0/31", "192.168.1.1/32", "255.255.255.255/32", "fd00::1/128"] {
        let mut range = ips(cidr, 42);
        assert_eq!((range.free(), range.used(), range.iter().count()), (0, 0, 0), "{cidr}");
        assert!(matches!(range.allocate_next(), Err(AllocateError::Full { .. })), "{cidr}");
        let own = range.net().network();
        assert!(matches!(range.allocate(own), Err(AllocateError::NotInRange { .. })), "{cidr}");
    }
}

#[test]
fn the_largest_ip_range() {
    let range = ips("10.0.0.0/8", 42);
    assert_eq!(range.free(), 16_777_214);
    assert!(range.contains(ip("10.255.255.254")) && !range.contains(ip("10.255.255.255")));
    assert!(IpRange::new("10.0.0.0/7".parse().unwrap(), 0).is_err());
}

/// Kubernetes `pkg/registry/core/service/ipallocator/bitmap_test.go`, `TestAllocate`.
#[test]
fn ip_ranges_refuse_what_is_not_theirs() {
    for (cidr, edges, others) in [
        (
            "192.168.1.0/24",
            "192.168.1.1 192.168.1.254",
            "192.168.0.1 192.168.1.0 192.168.1.255 192.168.2.2",
        ),
        (
            "10.0.0.0/15",
            "10.0.0.1 10.1.255.254",
            "10.0.0.0 10.15.255.255 10.255.255.2 9.255.255.255 ::a00:1",
        ),
        (
            "2001:db8:1::/48",
            "2001:db8:1::1 2001:db8:1::ffff",
            "2001:db8::1 2001:db8:1:: 2001:db8:1::1:0 2001:db8:2::2",
        ),
    ] {
        let mut range = ips(cidr, 0);
        let free = range.free();
        let (first, last) = edges.split_once(' ').map(|(a, b)| (ip(a), ip(b))).unwrap();
        for item in others.split(' ').map(ip) {
            let refused =
                AllocateError::NotInRange { item, range: cidr.into(), bounds: Some((first, last)) };
            assert_eq!(range.allocate(item), Err(refused), "{item} of {cidr}");
            let known = range.contains(item) || range.has(item) || range.release(item);
            assert!(!known && range.free() == free, "{item} of {cidr}");
        }
        for item in [first, last] {
            assert_eq!(range.allocate(item), Ok(()), "{item} of {cidr}");
            assert_eq!(range.allocate(item), Err(AllocateError::Allocated { item }), "{cidr}");
        }
        assert!(range.iter().eq([first, last]), "{cidr}");
    }
}

/// Kubernetes `pkg/registry/core/service/ipallocator/bitmap_test.go`, `TestAllocateReserved`: with the dynamic
/// band full the static one is still there for requests, and a freed address of it is found.
#[test]
fn a_freed_static_address_comes_last() {
    let mut range = ips("192.168.1.0/25", 3);
    draw(110, "dynamic", || range.allocate_next());
    assert_eq!(range.free(), 16);
    for host in 1..=16 {
        let static_ip = after(ip("192.168.1.0"), host);
        assert_eq!(range.allocate(static_ip), Ok(()), "{static_ip}");
    }
    assert!(range.release(ip("192.168.1.10")) && range.release(ip("192.168.1.99")));
    assert_eq!(range.allocate_next(), Ok(ip("192.168.1.99")));
    assert_eq!(range.allocate_next(), Ok(ip("192.168.1.10")));
    assert!(matches!(range.allocate_next(), Err(AllocateError::Full { .. })));
}

// The generator as documented, two rounds of SplitMix64 seeding a PCG XSL RR 128/64 (MCG), computed apart
// from this crate.
#[test]
fn sequences_are_fixed_by_the_seed() {
    for (seed, addresses, numbers) in [
        (
            0,
            ["10.96.153.26", "10.96.91.16", "10.96.201.29", "10.96.97.214"],
            [31_685, 31_033, 32_190],
        ),
        (
            7,
            ["10.96.47.183", "10.96.159.249", "10.96.93.217", "10.96.213.37"],
            [30_577, 31_758, 31_062],
        ),
    ] {
        let mut range = ips("10.96.0.0/16", seed);
        assert_eq!(
            addresses.map(|_| range.allocate_next().unwrap()),
            addresses.map(ip),
            "seed {seed}"
        );
        let mut ports = PortRange::new(30_000, 32_767, seed);
        assert_eq!(numbers.map(|_| ports.allocate_next().unwrap()), numbers, "seed {seed}");
    }
}

/// Kubernetes `pkg/registry/core/service/portallocator/allocator_test.go` (size and band of the first six),
/// KEP-3668's formula for the rest.
#[test]
fn port_ranges_fill_the_dynamic_band_first() {
    for (first, last, band) in [
        (30_000, 32_767, 86),
        (30_000, 30_009, 0),
        (30_000, 30_015, 0),
        (30_000, 30_127, 16),
        (30_000, 32_047, 64),
        (30_000, 34_095, 128),
        (30_000, 30_016, 16),
        (65_535, 65_535, 0),
        (1, 544, 17),
        (1, 543, 16),
        (1, 8_192, 128),
        (0, 65_535, 128),
    ] {
        let (size, what) = (usize::from(last - first) + 1, format!("{first}-{last}"));
        let mut ports = PortRange::new(first, last, 42);
        assert_eq!((ports.free(), ports.used()), (size, 0), "{what}");
        let dynamic = draw(size - usize::from(band), &what, || ports.allocate_next());
        assert_eq!(dynamic, Some((first + band, last)), "{what}: dynamic band");
        let edges = (band > 0).then(|| (first, first + band - 1));
        let lower = draw(usize::from(band), &what, || ports.allocate_next());
        assert_eq!(lower, edges, "{what}: static band");
        assert_eq!(ports.allocate_next(), Err(AllocateError::Full { range: what.clone() }));
        assert_eq!((ports.free(), ports.used()), (0, size), "{what}");
    }
}

/// Kubernetes `pkg/registry/core/service/portallocator/allocator_test.go`, `TestAllocate`.
#[test]
fn port_ranges_refuse_what_is_not_theirs() {
    let mut ports: PortRange = "10000-10200".parse().unwrap();
    draw(201, "10000-10200", || ports.allocate_next());
    assert!(ports.release(10_005) && !ports.release(10_005));
    assert_eq!((ports.free(), ports.has(10_005)), (1, false));
    assert_eq!(ports.allocate_next(), Ok(10_005));
    for item in [0, 1, 9_999, 10_201, 20_000, 65_535] {
        let range = "10000-10200".into();
        let refused = AllocateError::NotInRange { item, range, bounds: Some((10_000, 10_200)) };
        assert_eq!(ports.allocate(item), Err(refused));
        assert!(!ports.has(item) && !ports.release(item), "{item}");
    }
    assert_eq!(ports.allocate(10_001), Err(AllocateError::Allocated { item: 10_001 }));
    assert_eq!((ports.free(), ports.used()), (0, 201));
}

/// Kubernetes apimachinery `pkg/util/net/port_range_test.go`, `TestPortRange`.
#[test]
fn port_ranges_read() {
    for (text, expected, size) in [
        ("100-200", "100-200", 101),
        (" 100-200 ", "100-200", 101),
        ("0-0", "0-0", 1),
        ("100", "100-100", 1),
        ("1+0", "1-1", 1),
        ("0+0", "0-0", 1),
        ("100+200", "100-300", 201),
        ("0+65535", "0-65535", 65_536),
        ("65535+0", "65535-65535", 1),
    ] {
        let ports: PortRange = text.parse().unwrap_or_else(|e| panic!("{text:?}: {e}"));
        assert_eq!((&*ports.to_string(), ports.free()), (expected, size), "{text:?}");
    }
    let bad = "100 - 200|-100|100-|200-100|60000-70000|70000-80000|70000+80000|1+-1|1-+1|1+65535|-|+|\
        1-2-3|1+2+3|1-2+3|65536|+1|0x10|a|1,2|1–2";
    for text in bad.split('|') {
        let error = text.parse::<PortRange>().expect_err(text);
        assert_eq!(error.text, text);
    }
    assert_eq!(PortRange::default().to_string(), "30000-32767");
    let mut none = PortRange::new(9, 3, 0);
    assert_eq!((none.to_string(), none.free(), none.used()), (String::new(), 0, 0));
    assert!(matches!(none.allocate(9), Err(AllocateError::NotInRange { bounds: None, .. })));
    assert!(matches!(none.allocate_next(), Err(AllocateError::Full { .. })));
}

/// Kubernetes apimachinery `pkg/util/net/port_range_test.go`, `TestPortRange`: no text is the range without ports.
#[test]
fn an_empty_text_is_an_empty_port_range() {
    assert_eq!("".parse::<PortRange>().map(|ports| ports.free()), Ok(0), "\"\"");
}

/// Runs random operations on a range of `$size` slots, the first `$band` of them static, and on the set of
/// its taken slots; gives the set. `$item` is the item at an offset and `$slot` the slot of an item, if it
/// is not before the first.
macro_rules! model {
    ($range:ident, $size:expr, $band:expr, $operations:ident, $item:expr, $slot:expr) => {{
        let mut model = BTreeSet::new();
        for (kind, offset) in $operations {
            let item = $item(offset);
            let slot = $slot(item).filter(|&slot| slot < $size);
            let taken = slot.is_some_and(|slot| model.contains(&slot));
            prop_assert_eq!($range.has(item), taken, "{}", item);
            match (kind, slot) {
                (0..=4, _) => match $range.allocate_next() {
                    Ok(drawn) => {
                        let slot = $slot(drawn).filter(|&slot| slot < $size);
                        prop_assert!(slot.is_some_and(|slot| !model.contains(&slot)), "{}", drawn);
                        let dynamic_full = model.range($band..).count() == $size - $band;
                        prop_assert!(slot >= Some($band) || dynamic_full, "{} too early", drawn);
                        model.extend(slot);
                    }
                    Err(AllocateError::Full { .. }) => prop_assert_eq!(model.len(), $size),
                    Err(error) => prop_assert!(false, "{error}"),
                },
                (5 | 6, None) => {
                    let refused =
                        matches!($range.allocate(item), Err(AllocateError::NotInRange { .. }));
                    prop_assert!(refused, "{}", item);
                }
                (5 | 6, Some(slot)) if model.insert(slot) => {
                    prop_assert_eq!($range.allocate(item), Ok(()))
                }
                (5 | 6, Some(_)) => {
                    prop_assert_eq!($range.allocate(item), Err(AllocateError::Allocated { item }));
                }
                _ => {
                    prop_assert_eq!($range.release(item), taken, "{}", item);
                    slot.map(|slot| model.remove(&slot));
                }
            }
            prop_assert_eq!(($range.used(), $range.free()), (model.len(), $size - model.len()));
        }
        model
    }};
}

proptest! {
    /// The offsets count from the network address, which is no slot.
    #[test]
    fn ip_ranges_agree_with_a_set(
        row in 8..IP_RANGES.len(),
        seed: u64,
        operations in prop::collection::vec((0..9, 0_usize..70), 0..250),
    ) {
        let (cidr, size, band, ..) = IP_RANGES[row];
        let mut range = ips(cidr, seed);
        let network = range.net().network();
        let taken = model!(range, size, band, operations, |n| after(network, n), |item| {
            (1..=size + 1).find(|&n| after(network, n) == item).map(|n| n - 1)
        });
        let expected = taken.iter().map(|slot| after(network, slot + 1));
        prop_assert!(range.iter().eq(expected), "{:?}", range.iter().collect::<Vec<_>>());
    }

    #[test]
    fn port_ranges_agree_with_a_set(
        first in prop_oneof![Just(0_u16), 1_u16..60_000, Just(65_535 - 89)],
        size in 1_u16..=90,
        seed: u64,
        operations in prop::collection::vec((0..9, 0_u16..100), 0..250),
    ) {
        let mut ports = PortRange::new(first, first + (size - 1), seed);
        let (size, band) = (usize::from(size), if size <= 16 { 0 } else { 16 });
        let around = |n: u16| first.saturating_sub(5).saturating_add(n);
        model!(ports, size, band, operations, around, |port: u16| {
            port.checked_sub(first).map(usize::from)
        });
    }

    /// The three forms mean the same ports, and a range prints as it reads.
    #[test]
    fn port_range_forms_agree(a: u16, b: u16, noise in "[0-9+ -]{0,12}") {
        let forms = [format!("{a}-{b}"), format!("{a}+{}", i32::from(b) - i32::from(a))];
        for text in forms {
            let read = text.parse::<PortRange>().ok().map(|ports| ports.to_string());
            prop_assert_eq!(read, (a <= b).then(|| format!("{a}-{b}")), "{}", text);
        }
        if let Ok(ports) = noise.parse::<PortRange>() {
            let text = ports.to_string();
            prop_assert_eq!(text.parse().map(|again: PortRange| again.to_string()), Ok(text));
        }
    }
}
