//! Allocators of addresses and ports: sizes, bands, errors, determinism, and random operations against a model.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::net::IpAddr;

use ipnet::IpNet;
use proptest::prelude::*;
use svcplane::ipam::{AllocateError, IpRange, PortRange};

use crate::ipam_model::{Ips, Model, Ports, Subject, compact};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn ips(cidr: &str, seed: u64) -> IpRange {
    IpRange::new(cidr.parse().unwrap(), seed).unwrap()
}

fn capped(cidr: &str, seed: u64) -> IpRange {
    IpRange::capped(cidr.parse().unwrap(), seed)
}

/// The address `offset` after another.
fn after(start: IpAddr, offset: u64) -> IpAddr {
    match start {
        IpAddr::V4(ip) => IpAddr::V4((u32::from(ip) + u32::try_from(offset).unwrap()).into()),
        IpAddr::V6(ip) => IpAddr::V6((u128::from(ip) + u128::from(offset)).into()),
    }
}

/// Draws `count` different items and gives the least and the greatest, if any.
fn draw<T: Ord + Copy + Debug, E: Debug>(
    count: u64,
    what: &str,
    mut next: impl FnMut() -> Result<T, E>,
) -> Option<(T, T)> {
    let drawn: BTreeSet<T> =
        (0..count).map(|_| next().unwrap_or_else(|e| panic!("{what}: {e:?}"))).collect();
    assert_eq!(drawn.len() as u64, count, "{what}: drawn twice");
    Some((*drawn.first()?, *drawn.last()?))
}

/// Checks the size and the bands of a range, of any size: what lies beyond an edge is taken at once.
fn check_bands(subject: &Ips, size: u64, band: u64, first_dynamic: Option<&str>) {
    let range = &subject.range;
    let what = format!("{range:?}");
    assert_eq!((range.free(), range.used(), range.iter().next()), (size, 0, None), "{what}");
    let network = range.net().network();
    let Some(first) = first_dynamic.map(ip) else {
        assert_eq!((size, band), (0, 0));
        assert!(!range.contains(network) && !range.has(network), "{what}");
        let mut range = range.clone();
        assert!(matches!(range.allocate_next(), Err(AllocateError::Full { .. })), "{what}");
        let refused = range.allocate(network);
        let none = matches!(refused, Err(AllocateError::NotInRange { bounds: None, .. }));
        return assert!(none, "{what}: {refused:?}");
    };
    assert_eq!(after(network, band + 1), first, "{what}");
    let last = after(network, size);
    assert!(range.contains(after(network, 1)) && range.contains(last), "{what}");
    assert!(!range.contains(network), "{what}");
    if u128::from(size) < u128::MAX >> range.net().prefix_len().max(64) {
        assert!(!range.contains(after(last, 1)), "{what}");
    }
    // The only dynamic one that is free comes first, then the static ones, then nothing.
    let mut full = subject.clone();
    let beyond = if band + 1 < size { &[(band + 1, size)][..] } else { &[] };
    full.restore_bytes(&compact(full.header(), beyond)).unwrap();
    assert_eq!((full.free(), full.used()), (band + 1, size - band - 1), "{what}");
    assert_eq!(full.allocate_next(), Ok(first), "{what}");
    let edges = (band > 0).then(|| (after(network, 1), after(network, band)));
    assert_eq!(draw(band, &what, || full.allocate_next()), edges, "{what}: static band");
    let range = range.net().to_string();
    assert_eq!(full.allocate_next(), Err(AllocateError::Full { range }), "{what}");
    assert_eq!((full.free(), full.used()), (0, size), "{what}");
}

/// The bands of KEP-3070. Kubernetes `pkg/registry/core/service/ipallocator/bitmap_test.go`,
/// `Test_calculateRangeOffset` and `TestAllocateTiny`, of IPv4; `pkg/registry/core/service/ipallocator/ipallocator_test.go`,
/// `TestAllocateTinyIPAllocator`.
#[test]
fn ipv4_ranges_have_the_addresses_and_bands_of_their_prefix() {
    for (cidr, size, band, first_dynamic) in [
        ("64.0.0.0/2", 1_073_741_822, 256, Some("64.0.1.1")),
        ("10.0.0.0/7", 33_554_430, 256, Some("10.0.1.1")),
        ("10.0.0.0/8", 16_777_214, 256, Some("10.0.1.1")),
        ("192.168.1.1/8", 16_777_214, 256, Some("192.0.1.1")),
        ("10.96.0.0/12", 1_048_574, 256, Some("10.96.1.1")),
        ("10.0.0.0/15", 131_070, 256, Some("10.0.1.1")),
        ("10.96.0.0/16", 65_534, 256, Some("10.96.1.1")),
        ("10.96.0.0/19", 8_190, 256, Some("10.96.1.1")),
        ("10.96.0.0/20", 4_094, 256, Some("10.96.1.1")),
        ("10.96.0.0/21", 2_046, 128, Some("10.96.0.129")),
        ("192.168.1.1/22", 1_022, 64, Some("192.168.0.65")),
        ("10.96.0.0/23", 510, 32, Some("10.96.0.33")),
        ("10.96.0.0/24", 254, 16, Some("10.96.0.17")),
        ("10.96.0.0/25", 126, 16, Some("10.96.0.17")),
        ("10.96.0.0/26", 62, 16, Some("10.96.0.17")),
        ("192.168.1.1/27", 30, 16, Some("192.168.1.17")),
        ("192.168.1.1/28", 14, 0, Some("192.168.1.1")),
        ("10.96.0.0/29", 6, 0, Some("10.96.0.1")),
        ("192.168.1.1/30", 2, 0, Some("192.168.1.1")),
        ("192.168.1.0/31", 0, 0, None),
        ("192.168.1.1/32", 0, 0, None),
        ("192.168.1.0/32", 0, 0, None),
        ("255.255.255.255/32", 0, 0, None),
    ] {
        check_bands(&Ips::new(cidr, false, 42), size, band, first_dynamic);
        check_bands(&Ips::new(cidr, true, 42), size, band, first_dynamic);
    }
    // Kubernetes' `RangeSize` has nothing for these two: no bitmap, and no static band.
    for (cidr, size, first) in
        [("0.0.0.0/0", u32::MAX, "0.0.0.1"), ("128.0.0.0/1", u32::MAX >> 1, "128.0.0.1")]
    {
        check_bands(&Ips::new(cidr, false, 42), u64::from(size) - 1, 0, Some(first));
        check_bands(&Ips::new(cidr, true, 42), 0, 0, None);
    }
}

/// Kubernetes `pkg/registry/core/service/ipallocator/bitmap_test.go`, `Test_calculateRangeOffset`, of IPv6.
#[test]
fn ipv6_ranges_have_the_addresses_and_bands_of_their_prefix() {
    for (cidr, all, first_65535, band, first_dynamic) in [
        ("fd00:96::/64", u64::MAX, 65_535, 256, Some("fd00:96::101")),
        ("fd00:96::/65", u64::MAX >> 1, 65_535, 256, Some("fd00:96::101")),
        ("fd00:96::/96", u64::from(u32::MAX), 65_535, 256, Some("fd00:96::101")),
        ("fd00:96::/103", 33_554_431, 65_535, 256, Some("fd00:96::101")),
        ("fd00:96::/104", 16_777_215, 65_535, 256, Some("fd00:96::101")),
        ("fd00:96::/108", 1_048_575, 65_535, 256, Some("fd00:96::101")),
        ("fd00:96::/112", 65_535, 65_535, 256, Some("fd00:96::101")),
        ("fd00:96::/116", 4_095, 4_095, 256, Some("fd00:96::101")),
        ("fd00::1/118", 1_023, 1_023, 64, Some("fd00::41")),
        ("fd00:96::/120", 255, 255, 16, Some("fd00:96::11")),
        ("fd00::1/122", 63, 63, 16, Some("fd00::11")),
        ("fd00:96::/123", 31, 31, 16, Some("fd00:96::11")),
        ("fd00::1/124", 15, 15, 0, Some("fd00::1")),
        ("fd00::1/126", 3, 3, 0, Some("fd00::1")),
        ("fd00:96::/127", 1, 1, 0, Some("fd00:96::1")),
        ("fd00::1/128", 0, 0, 0, None),
    ] {
        check_bands(&Ips::new(cidr, false, 42), all, band, first_dynamic);
        check_bands(&Ips::new(cidr, true, 42), first_65535, band, first_dynamic);
    }
    check_bands(&Ips::new("fd00::1/12", true, 42), 65_535, 256, Some("fd00::101"));
    check_bands(&Ips::new("4000::/2", true, 42), 65_535, 256, Some("4000::101"));
    for none in ["8000::/1", "::/0"] {
        check_bands(&Ips::new(none, true, 42), 0, 0, None);
    }
}

/// Kubernetes `pkg/registry/core/service/ipallocator/ipallocator_test.go`, `Test_hostsPerNetwork`. The last row is of
/// a prefix that its allocator refuses.
#[test]
fn ip_ranges_count_their_hosts() {
    for (cidr, hosts) in [
        ("192.168.1.0/24", 254),
        ("192.168.1.0/32", 0),
        ("192.168.1.0/31", 0),
        ("0.0.0.0/1", (1 << 31) - 2),
        ("0.0.0.0/0", (1 << 32) - 2),
        ("2001:db2::/112", 65_535),
        ("2001:db8::/128", 0),
        ("2001:db8::/127", 1),
        ("2001:db8::/65", i64::MAX.unsigned_abs()),
        ("2001:db8::/64", u64::MAX),
    ] {
        assert_eq!(ips(cidr, 0).free(), hosts, "{cidr}");
    }
    for cidr in ["2001:db8::/1", "2001:db8::/63", "::/0"] {
        let net: IpNet = cidr.parse().unwrap();
        let error = IpRange::new(net, 0).unwrap_err();
        assert_eq!(error.range, net.trunc());
        let text = error.to_string();
        assert!(text.contains(&net.trunc().to_string()) && text.contains("64"), "{text}");
    }
}

/// Kubernetes `pkg/registry/core/service/ipallocator/ipallocator_test.go`, `Test_broadcastAddress`: the last address of
/// a prefix, which is one of the range in IPv6 only.
#[test]
fn the_all_ones_address_is_taken_in_ipv6_only() {
    for (cidr, last) in [
        ("192.168.0.0/24", "192.168.0.255"),
        ("10.0.0.0/12", "10.15.255.255"),
        ("fd00:1:2:3::/64", "fd00:1:2:3:ffff:ffff:ffff:ffff"),
        ("00fc::/112", "fc::ffff"),
        ("fc00::/112", "fc00::ffff"),
    ] {
        let (mut range, last) = (ips(cidr, 0), ip(last));
        if last.is_ipv6() {
            assert_eq!(range.allocate(last), Ok(()), "{cidr}");
            assert!(range.iter().eq([last]), "{cidr}");
        } else {
            assert!(
                matches!(range.allocate(last), Err(AllocateError::NotInRange { .. })),
                "{cidr}"
            );
        }
    }
}

/// Kubernetes `pkg/registry/core/service/ipallocator/ipallocator_test.go`, `TestAddOffsetAddress` and
/// `Test_addOffsetAddress`: the address so many after another; here each as the only one of a snapshot.
#[test]
fn addresses_are_counted_from_the_network() {
    const BASE: &str = "fd54:ceea:51ad:2f00::";
    let upper = u64::MAX >> 1;
    for (cidr, start, offset, expected) in [
        (64, BASE, 0, BASE),
        (64, BASE, 1, "fd54:ceea:51ad:2f00::1"),
        (64, BASE, upper, "fd54:ceea:51ad:2f00:7fff:ffff:ffff:ffff"),
        (64, BASE, upper + 1, "fd54:ceea:51ad:2f00:8000::"),
        (64, BASE, u64::MAX, "fd54:ceea:51ad:2f00:ffff:ffff:ffff:ffff"),
        (64, BASE, u64::MAX - 1, "fd54:ceea:51ad:2f00:ffff:ffff:ffff:fffe"),
        (64, BASE, (u64::MAX >> 13) - 1, "fd54:ceea:51ad:2f00:7:ffff:ffff:fffe"),
        (64, BASE, u64::MAX >> 59, "fd54:ceea:51ad:2f00::1f"),
        (16, "192.168.0.0", 0, "192.168.0.0"),
        (16, "192.168.0.11", 0, "192.168.0.11"),
        (16, "192.168.0.0", 1, "192.168.0.1"),
        (16, "192.168.0.11", 1, "192.168.0.12"),
        (64, "fd00:1:2:3::", 1, "fd00:1:2:3::1"),
        (64, "fd00:1:2:3::a", 1, "fd00:1:2:3::b"),
        (16, "192.168.0.0", 255, "192.168.0.255"),
        (64, "fd00:1:2:3::", upper, "fd00:1:2:3:7fff:ffff:ffff:ffff"),
        (16, "192.168.0.0", 128, "192.168.0.128"),
        (8, "0.0.1.8", 138, "0.0.1.146"),
        (64, "00fc::1", 255, "fc::100"),
        (64, "2001:db8:1::101", 255, "2001:db8:1::200"),
        (64, "fd00:1:2:3::", 1_025, "fd00:1:2:3::401"),
    ] {
        let (start, expected) = (ip(start), ip(expected));
        let net = IpNet::new(start, cidr).unwrap().trunc();
        let mut subject = Ips::new(&net.to_string(), false, 0);
        let at = subject.slot(start) + i128::from(offset);
        let Ok(at) = u64::try_from(at) else {
            assert_eq!(subject.range.allocate(expected).is_err(), expected == net.addr());
            continue;
        };
        subject.restore_bytes(&compact(subject.header(), &[(at, at + 1)])).unwrap();
        assert!(subject.range.iter().eq([expected]), "{start} and {offset}");
        assert!(subject.has(expected) && subject.release(expected), "{start} and {offset}");
    }
}

/// Every range to the last address, in both layouts' order. Kubernetes
/// `pkg/registry/core/service/ipallocator/ipallocator_test.go`, `Test_ipIterator_Number` (how many there are in a band)
/// and `TestAllocateNextFC`.
#[test]
fn ip_ranges_fill_the_dynamic_band_first() {
    for (cidr, size, band, last) in [
        ("10.96.0.0/12", 1_048_574, 256, "10.111.255.254"),
        ("10.0.0.0/15", 131_070, 256, "10.1.255.254"),
        ("10.96.0.0/21", 2_046, 128, "10.96.7.254"),
        ("10.96.0.0/27", 30, 16, "10.96.0.30"),
        ("192.168.0.0/30", 2, 0, "192.168.0.2"),
        ("2001:db8:1::/116", 3_839 + 256, 256, "2001:db8:1::fff"),
        ("2001:db8:1::/125", 7, 0, "2001:db8:1::7"),
        ("fc::/112", 65_535, 256, "fc::ffff"),
    ] {
        let mut range = ips(cidr, 42);
        let first = after(range.net().network(), 1);
        let dynamic = draw(size - band, cidr, || range.allocate_next());
        assert_eq!(dynamic, Some((after(first, band), ip(last))), "{cidr}: dynamic band");
        let edges = (band > 0).then(|| (first, after(first, band - 1)));
        assert_eq!(draw(band, cidr, || range.allocate_next()), edges, "{cidr}: static band");
        let full = AllocateError::Full { range: range.net().to_string() };
        assert_eq!(range.allocate_next(), Err(full), "{cidr}");
        assert_eq!((range.free(), range.used()), (0, size), "{cidr}");
        assert!(range.iter().eq((0..size).map(|slot| after(first, slot))), "{cidr}: iteration");
    }
}

/// Kubernetes `pkg/registry/core/service/ipallocator/ipallocator_test.go`, `Test_ipIterator`: from the start onwards,
/// around to the band's first, up to the start. A start beyond the band cannot be drawn.
#[test]
fn what_is_proposed_goes_around_from_the_start() {
    for (cidr, static_ones, count) in
        [("192.168.0.0/30", 0, 2), ("2001:db8::/125", 0, 7), ("10.96.0.0/27", 16, 14)]
    {
        let mut range = ips(cidr, 0);
        let first = after(range.net().network(), static_ones + 1);
        let mut starts = BTreeSet::new();
        for seed in 0..100 {
            let mut sequence: Vec<IpAddr> = Vec::new();
            while sequence.len() < usize::try_from(count).unwrap() {
                sequence.push(range.propose(seed, &sequence).expect("a free one"));
            }
            let start = (0..count).find(|&n| after(first, n) == sequence[0]).expect("dynamic");
            let expected = (0..count).map(|n| after(first, (start + n) % count));
            assert!(sequence.iter().copied().eq(expected), "{cidr}: {sequence:?}");
            starts.insert(start);
            let beyond = range.propose(seed, &sequence);
            assert_eq!(beyond.is_some(), static_ones > 0, "{cidr}");
            assert!(beyond.is_none_or(|ip| ip < first), "{cidr}: {beyond:?}");
        }
        assert_eq!(starts.len() as u64, count, "{cidr}");
        assert_eq!(range.used(), 0, "{cidr}");
        let other = range.propose(3, &[]).expect("a free one");
        range.allocate(other).unwrap();
        assert_ne!(range.propose(3, &[other, other, ip("1.2.3.4"), ip("::")]), Some(other));
    }
}

/// Kubernetes `pkg/registry/core/service/ipallocator/bitmap_test.go`, `TestAllocate`, and `pkg/registry/core/service/ipallocator/ipallocator_test.go`, `TestAllocateIPAllocator`.
#[test]
fn ip_ranges_refuse_what_is_not_theirs() {
    for (mut range, edges, released, others) in [
        (
            capped("192.168.1.0/24", 0),
            "192.168.1.1 192.168.1.254",
            "192.168.1.5",
            "192.168.0.1 192.168.1.0 192.168.1.255 192.168.2.2",
        ),
        (
            capped("10.0.0.0/15", 0),
            "10.0.0.1 10.1.255.254",
            "10.0.0.5",
            "10.0.0.0 10.15.255.255 10.255.255.2 9.255.255.255 ::a00:1",
        ),
        (
            capped("2001:db8:1::/48", 0),
            "2001:db8:1::1 2001:db8:1::ffff",
            "2001:db8:1::5",
            "2001:db8::1 2001:db8:1:: 2001:db8:1::1:0 2001:db8:2::2",
        ),
        (
            ips("192.168.1.0/24", 0),
            "192.168.1.1 192.168.1.254",
            "192.168.1.5",
            "192.168.0.1 192.168.1.0 192.168.1.255 192.168.2.2",
        ),
        (
            ips("2001:db8:1::/116", 0),
            "2001:db8:1::1 2001:db8:1::fff",
            "2001:db8:1::5",
            "2001:db8::1 2001:db8:1:: 2001:db8:2::2 2001:db8:1::1000 192.168.1.1",
        ),
    ] {
        let size = range.free();
        let (first, last) = edges.split_once(' ').map(|(a, b)| (ip(a), ip(b))).unwrap();
        let (net, released) = (range.net().to_string(), ip(released));
        draw(size, &net, || range.allocate_next());
        assert!(matches!(range.allocate_next(), Err(AllocateError::Full { .. })), "{net}");
        assert!(range.release(released) && !range.release(released), "{net}");
        assert_eq!((range.free(), range.used()), (1, size - 1), "{net}");
        assert_eq!(range.allocate_next(), Ok(released), "{net}");
        assert!(range.release(released), "{net}");
        for item in others.split(' ').map(ip) {
            let bounds = Some((first, last));
            let refused = AllocateError::NotInRange { item, range: net.clone(), bounds };
            assert_eq!(range.allocate(item), Err(refused), "{item} of {net}");
            let known = range.contains(item) || range.has(item) || range.release(item);
            assert!(!known && range.free() == 1, "{item} of {net}");
        }
        for item in [first, last] {
            assert_eq!(range.allocate(item), Err(AllocateError::Allocated { item }), "{net}");
        }
        assert_eq!((range.free(), range.used()), (1, size - 1), "{net}");
        assert_eq!(range.allocate(released), Ok(()), "{net}");
        assert_eq!((range.free(), range.used()), (0, size), "{net}");
    }
}

/// Kubernetes `pkg/registry/core/service/ipallocator/bitmap_test.go`, `TestAllocateReserved`, and `pkg/registry/core/service/ipallocator/ipallocator_test.go`, `TestAllocateReservedIPAllocator`: with the dynamic band full the static one is still there for
/// requests, and a freed address of it is found.
#[test]
fn a_freed_static_address_comes_last() {
    for mut range in [capped("192.168.1.0/25", 3), ips("192.168.1.0/25", 3)] {
        draw(110, "dynamic", || range.allocate_next());
        assert!((17..=126).all(|host| range.has(after(ip("192.168.1.0"), host))));
        assert_eq!(range.free(), 16);
        for host in 1..=16 {
            let static_ip = after(ip("192.168.1.0"), host);
            assert_eq!(range.allocate(static_ip), Ok(()), "{static_ip}");
        }
        assert_eq!(range.free(), 0);
        assert!(range.release(ip("192.168.1.10")) && range.release(ip("192.168.1.99")));
        assert_eq!(range.allocate_next(), Ok(ip("192.168.1.99")));
        assert_eq!(range.allocate_next(), Ok(ip("192.168.1.10")));
        assert!(matches!(range.allocate_next(), Err(AllocateError::Full { .. })));
        assert_eq!(range.free(), 0);
    }
}

/// Kubernetes `pkg/registry/core/service/ipallocator/bitmap_test.go`, `TestAllocateSmall`, and `pkg/registry/core/service/ipallocator/ipallocator_test.go`, `TestAllocateSmallIPAllocator`.
#[test]
fn a_small_range_stays_full() {
    for mut range in [capped("192.168.1.240/30", 5), ips("192.168.1.240/30", 5)] {
        let drawn = draw(2, "both", || range.allocate_next());
        assert_eq!(drawn, Some((ip("192.168.1.241"), ip("192.168.1.242"))));
        for item in [ip("192.168.1.241"), ip("192.168.1.242")] {
            assert!(range.has(item));
            assert_eq!(range.allocate(item), Err(AllocateError::Allocated { item }));
        }
        for _ in 0..100 {
            assert!(matches!(range.allocate_next(), Err(AllocateError::Full { .. })));
        }
        assert_eq!((range.free(), range.used()), (0, 2));
    }
}

/// Kubernetes `pkg/registry/core/service/ipallocator/bitmap_test.go`, `TestForEach`, and `pkg/registry/core/service/ipallocator/ipallocator_test.go`, `TestForEachIPAllocator`; the rows of IPv6 and of a large range are not theirs.
#[test]
fn the_taken_addresses_come_in_order() {
    for mut range in [capped("192.168.1.0/24", 0), ips("192.168.1.0/24", 0), ips("192.0.0.0/4", 0)]
    {
        for texts in
            [&[][..], &["192.168.1.1"], &["192.168.1.254", "192.168.1.1"], &["192.168.1.128"]]
        {
            for text in texts.iter().copied().map(ip) {
                if !range.has(text) {
                    assert_eq!(range.allocate(text), Ok(()), "{text}");
                }
                assert!(range.has(text), "{text}");
            }
        }
        assert!(range.iter().eq(["192.168.1.1", "192.168.1.128", "192.168.1.254"].map(ip)));
    }
    let mut range = ips("fd00::/64", 0);
    let all =
        ["fd00::1", "fd00::2", "fd00::40", "fd00::41", "fd00::1:0", "fd00::ffff:ffff:ffff:ffff"];
    for item in all.iter().rev().copied().map(ip) {
        assert_eq!(range.allocate(item), Ok(()), "{item}");
    }
    assert!(range.iter().eq(all.map(ip)));
}

/// Kubernetes `pkg/registry/core/service/ipallocator/bitmap_test.go`, `TestClusterIPMetrics`, and `pkg/registry/core/service/ipallocator/ipallocator_test.go`, `TestIPAllocatorClusterIPMetrics`: what they count.
#[test]
fn more_is_asked_for_than_there_is() {
    let both = |cidr| [capped(cidr, 9), ips(cidr, 9)];
    for (mut four, mut six) in both("10.0.0.0/24").into_iter().zip(both("2001:db8::/112")) {
        assert_eq!((four.free(), six.free()), (254, 65_535));
        let (first, second) = draw(2, "two", || four.allocate_next()).unwrap();
        assert_eq!((four.free(), four.used()), (252, 2));
        for item in [first, second] {
            assert!(four.has(item));
            assert_eq!(four.allocate(item), Err(AllocateError::Allocated { item }));
            assert!(four.release(item));
        }
        assert_eq!((four.free(), four.used()), (254, 0));
        let refused = (0..264).filter(|_| four.allocate_next().is_err()).count();
        assert_eq!((four.free(), four.used(), refused), (0, 254, 10));
        draw(264, "IPv6", || six.allocate_next());
        assert_eq!((six.free(), six.used()), (65_271, 264));
    }
}

/// Kubernetes `pkg/registry/core/service/ipallocator/ipallocator_test.go`, `TestUsedWithCIDRFiltering`: addresses
/// outside do not count.
#[test]
fn addresses_of_elsewhere_do_not_count() {
    let mut range = ips("192.168.1.0/24", 0);
    for (text, good) in [
        ("192.168.1.10", true),
        ("192.168.1.20", true),
        ("192.168.2.10", false),
        ("10.0.0.1", false),
    ] {
        assert_eq!(range.allocate(ip(text)).is_ok(), good, "{text}");
    }
    assert_eq!(range.used(), 2);
}

/// A run of taken ones that is longer than anything could step through.
#[test]
fn a_long_full_run_is_passed_at_once() {
    for (cidr, size) in [("fd00:96::/64", u64::MAX), ("0.0.0.0/0", (1 << 32) - 2)] {
        for free in [300, 5_000, size / 3, size - 1] {
            let mut subject = Ips::new(cidr, false, 1);
            let others: Vec<_> =
                [(0, free), (free + 1, size)].into_iter().filter(|(a, b)| a < b).collect();
            subject.restore_bytes(&compact(subject.header(), &others)).unwrap();
            let last = subject.item(free.into()).unwrap();
            assert_eq!((subject.free(), subject.range.propose(8, &[last])), (1, None));
            assert_eq!(subject.range.propose(8, &[]), Some(last));
            assert_eq!(subject.allocate_next(), Ok(last), "{cidr}");
            assert!(subject.range.iter().zip(0..100).all(|(ip, n)| subject.slot(ip) == n));
            assert_eq!(subject.to_bytes(), compact(subject.header(), &[(0, size)]));
            let middle = subject.item((size / 2).into()).unwrap();
            assert!(subject.release(middle) && !subject.has(middle) && !subject.release(middle));
            assert_eq!(
                subject.to_bytes(),
                compact(subject.header(), &[(0, size / 2), (size / 2 + 1, size)])
            );
            assert_eq!(subject.allocate_next(), Ok(middle), "{cidr}");
            assert_eq!(subject.to_bytes(), compact(subject.header(), &[(0, size)]));
        }
    }
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

/// Kubernetes `pkg/registry/core/service/portallocator/allocator_test.go`, `Test_calculateRangeOffset` (size and band of
/// the first seven); KEP-3668's formula for the rest.
#[test]
fn port_ranges_fill_the_dynamic_band_first() {
    for (first, last, band) in [
        (30_000, 32_767, 86),
        (30_000, 30_009, 0),
        (30_000, 30_015, 0),
        (30_000, 30_127, 16),
        (30_000, 32_047, 64),
        (30_000, 34_095, 128),
        (30_000, 38_191, 128),
        (30_000, 30_016, 16),
        (65_535, 65_535, 0),
        (1, 544, 17),
        (1, 543, 16),
        (0, 65_535, 128),
    ] {
        let (size, what) = (u64::from(last - first) + 1, format!("{first}-{last}"));
        let mut ports = PortRange::new(first, last, 42);
        assert_eq!((ports.free(), ports.used()), (size, 0), "{what}");
        let dynamic = draw(size - u64::from(band), &what, || ports.allocate_next());
        assert_eq!(dynamic, Some((first + band, last)), "{what}: dynamic band");
        let edges = (band > 0).then(|| (first, first + band - 1));
        let lower = draw(u64::from(band), &what, || ports.allocate_next());
        assert_eq!(lower, edges, "{what}: static band");
        assert_eq!(ports.allocate_next(), Err(AllocateError::Full { range: what.clone() }));
        assert_eq!((ports.free(), ports.used()), (0, size), "{what}");
        assert!(ports.iter().eq(first..=last), "{what}");
    }
}

/// Kubernetes `pkg/registry/core/service/portallocator/allocator_test.go`, `TestAllocate`.
#[test]
fn port_ranges_refuse_what_is_not_theirs() {
    let mut ports: PortRange = "10000-10200".parse().unwrap();
    assert_eq!((ports.free(), ports.used()), (201, 0));
    draw(201, "10000-10200", || ports.allocate_next());
    assert!(ports.release(10_005) && !ports.release(10_005));
    assert_eq!((ports.free(), ports.used(), ports.has(10_005)), (1, 200, false));
    assert_eq!(ports.propose(1, &[]), Some(10_005));
    assert_eq!(ports.propose(1, &[10_005]), None);
    assert_eq!(ports.allocate_next(), Ok(10_005));
    assert!(ports.release(10_005));
    for item in [0, 1, 9_999, 10_201, 20_000, 65_535] {
        let range = "10000-10200".into();
        let refused = AllocateError::NotInRange { item, range, bounds: Some((10_000, 10_200)) };
        assert_eq!(ports.allocate(item), Err(refused));
        assert!(!ports.contains(item) && !ports.has(item) && !ports.release(item), "{item}");
    }
    assert!(ports.contains(10_000) && ports.contains(10_005) && ports.contains(10_200));
    assert_eq!(ports.allocate(10_001), Err(AllocateError::Allocated { item: 10_001 }));
    assert_eq!((ports.free(), ports.used()), (1, 200));
    assert_eq!(ports.allocate(10_005), Ok(()));
    assert_eq!((ports.free(), ports.used()), (0, 201));
}

/// Kubernetes `pkg/registry/core/service/portallocator/allocator_test.go`, `TestForEach`.
#[test]
fn the_taken_ports_come_in_order() {
    for taken in [&[][..], &[10_000], &[10_000, 10_200], &[10_000, 10_099, 10_200]] {
        let mut ports = PortRange::new(10_000, 10_200, 0);
        for &port in taken.iter().rev() {
            assert_eq!(ports.allocate(port), Ok(()));
            assert!(ports.has(port), "{port}");
        }
        assert!(ports.iter().eq(taken.iter().copied()), "{taken:?}");
    }
}

/// Kubernetes `pkg/registry/core/service/portallocator/allocator_test.go`, `TestNodePortMetrics`: what it counts.
#[test]
fn more_ports_are_asked_for_than_there_are() {
    let mut ports = PortRange::default();
    let (first, second) = draw(2, "two", || ports.allocate_next()).unwrap();
    assert_eq!((ports.free(), ports.used()), (2_766, 2));
    for item in [first, second] {
        assert_eq!(ports.allocate(item), Err(AllocateError::Allocated { item }));
        assert!(ports.release(item));
    }
    let refused = (0..3_000).filter(|_| ports.allocate_next().is_err()).count();
    assert_eq!((ports.free(), ports.used(), refused), (0, 2_768, 232));
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

/// Ranges for the model: text, of which kind, how many addresses, how many of them static.
const IP_RANGES: [(&str, bool, u64, u64); 14] = [
    ("192.168.1.0/24", false, 254, 16),
    ("192.168.1.0/25", true, 126, 16),
    ("10.96.0.0/27", false, 30, 16),
    ("10.96.0.0/28", true, 14, 0),
    ("10.96.0.0/30", false, 2, 0),
    ("10.96.0.0/32", false, 0, 0),
    ("10.96.0.0/19", false, 8_190, 256),
    ("fd00:96::/124", false, 15, 0),
    ("fd00:96::/118", false, 1_023, 64),
    ("fd00:96::/48", true, 65_535, 256),
    ("8.0.0.0/6", true, (1 << 26) - 2, 256),
    ("0.0.0.0/0", false, (1 << 32) - 2, 0),
    ("fd00:96::/96", false, (1 << 32) - 1, 256),
    ("fd00:96::/64", false, u64::MAX, 256),
];

/// Kinds of operations and their numbers, some drawn as there are few bits to tell them apart.
fn operations() -> impl Strategy<Value = Vec<(u8, u64)>> {
    let number = prop_oneof![3 => any::<u64>(), 2 => 0_u64..700, 1 => any::<u64>().prop_map(|n| n | 1 << 60)];
    prop::collection::vec((any::<u8>(), number), 0..120)
}

proptest! {
    #[test]
    fn ip_ranges_agree_with_a_set(
        row in 0..IP_RANGES.len(),
        seed: u64,
        operations in operations(),
    ) {
        let (cidr, capped, size, band) = IP_RANGES[row];
        let mut model = Model::new(Ips::new(cidr, capped, seed), size, band);
        for (kind, value) in operations {
            model.step(kind, value);
        }
        model.check();
    }

    #[test]
    fn port_ranges_agree_with_a_set(
        first in prop_oneof![Just(0_u16), 1_u16..60_000, Just(65_535 - 89)],
        size in 1_u16..=90,
        seed: u64,
        operations in operations(),
    ) {
        let ports = Ports::new(first, first + (size - 1), seed);
        let band = if size <= 16 { 0 } else { 16 };
        let mut model = Model::new(ports, size.into(), band);
        for (kind, value) in operations {
            model.step(kind, value);
        }
        model.check();
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
