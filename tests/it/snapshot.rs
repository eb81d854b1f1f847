//! What is taken, kept and put back: the forms byte by byte, and what is refused.

use std::net::IpAddr;

use ipnet::IpNet;
use svcplane::ipam::{
    AllocateError, Change, Delta, IpRange, PortRange, RangeAllocation, SnapshotError,
};

use crate::ipam_model::{Ips, Ports, Subject, compact, sealed};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn ips(cidr: &str, taken: &[&str]) -> IpRange {
    let mut range = IpRange::new(cidr.parse().unwrap(), 1).unwrap();
    for text in taken {
        range.allocate(ip(text)).unwrap();
    }
    range
}

/// Big-endian, no leading zeros: `3`, `0` and `8`, `0`, the first and the last of a /24.
#[test]
fn bitmaps_are_written_as_kubernetes_writes_them() {
    let mut long = vec![0; 32];
    (long[0], long[31]) = (0x20, 0x01);
    for (taken, data) in [
        (&[][..], &[][..]),
        (&["192.168.1.4"], &[0x08]),
        (&["192.168.1.1", "192.168.1.9"], &[0x01, 0x01]),
        (&["192.168.1.1"], &[0x01]),
        (&["192.168.1.1", "192.168.1.254"], &long),
    ] {
        let range = ips("192.168.1.0/24", taken);
        let snapshot = range.snapshot().unwrap();
        assert_eq!(snapshot, RangeAllocation::new("192.168.1.0/24", data), "{taken:?}");
        let mut other = ips("192.168.1.0/24", &["192.168.1.77"]);
        // Kubernetes reads leading zeros too.
        for zeros in 0..3 {
            let data = [&vec![0; zeros], data].concat();
            let read = other.restore(&RangeAllocation::new("192.168.1.0/24", data));
            assert_eq!((read, other.used()), (Ok(()), taken.len() as u64));
            assert!(other.iter().eq(taken.iter().copied().map(ip)), "{taken:?}");
        }
    }
    let mut ports = PortRange::new(30_000, 32_767, 0);
    ports.allocate(30_003).unwrap();
    ports.allocate(30_008).unwrap();
    assert_eq!(ports.snapshot(), RangeAllocation::new("30000-32767", [0x01, 0x08]));
    assert_eq!(PortRange::new(1, 0, 0).snapshot(), RangeAllocation::new("", []));
}

/// Kubernetes `pkg/registry/core/service/ipallocator/bitmap_test.go`, `TestSnapshot`.
#[test]
fn ip_ranges_come_back() {
    let mut range = ips("192.168.1.0/24", &[]);
    let taken: Vec<IpAddr> = (0..10).map(|_| range.allocate_next().unwrap()).collect();
    let snapshot = range.snapshot().unwrap();
    assert_eq!(snapshot.range.parse::<IpNet>().unwrap(), range.net());
    let mismatched = |expected: &str, found: &str| SnapshotError::MismatchedRange {
        expected: expected.into(),
        found: found.into(),
    };
    for cidr in ["192.168.2.0/24", "192.168.1.0/25", "192.168.0.0/16", "fd00::/120"] {
        let mut other = ips(cidr, &[]);
        let own = other.allocate_next().unwrap();
        let error = mismatched(cidr, "192.168.1.0/24");
        assert_eq!(other.restore(&snapshot), Err(error.clone()));
        assert_eq!(other.restore_bytes(&range.to_bytes()), Err(error));
        assert!(other.iter().eq([own]), "{cidr}");
    }
    for (found, same) in [("192.168.1.7/24", true), ("192.168.1.0", false), ("", false)] {
        let mut other = ips("192.168.1.0/24", &[]);
        let read = other.restore(&RangeAllocation::new(found, &*snapshot.data));
        let error = mismatched("192.168.1.0/24", found);
        assert_eq!(read, if same { Ok(()) } else { Err(error) }, "{found}");
    }
    let mut other = ips("192.168.1.0/24", &[]);
    other.restore(&snapshot).unwrap();
    assert!(taken.iter().all(|&ip| other.has(ip)));
    assert_eq!(other.free(), range.free());
}

/// Kubernetes `pkg/registry/core/service/ipallocator/bitmap_test.go`, `TestNewFromSnapshot`.
#[test]
fn half_a_range_comes_back() {
    let mut range = ips("192.168.0.0/24", &[]);
    let taken: Vec<IpAddr> = (0..128).map(|_| range.allocate_next().unwrap()).collect();
    let snapshot = range.snapshot().unwrap();
    let mut range = ips("192.168.0.0/24", &[]);
    range.restore(&snapshot).unwrap();
    assert_eq!((range.free(), range.used()), (126, 128));
    assert!(taken.iter().all(|&ip| range.has(ip)));
}

/// Kubernetes `pkg/registry/core/service/portallocator/allocator_test.go`, `TestSnapshot` and `TestNewFromSnapshot`.
#[test]
fn port_ranges_come_back() {
    for (text, count, free) in [("10000-10200", 10, 191), ("200-300", 50, 51)] {
        let mut range: PortRange = text.parse().unwrap();
        let taken: Vec<u16> = (0..count).map(|_| range.allocate_next().unwrap()).collect();
        let snapshot = range.snapshot();
        assert_eq!(snapshot.range, text);
        let mut other: PortRange = snapshot.range.parse().unwrap();
        other.restore(&snapshot).unwrap();
        assert!(taken.iter().all(|&port| other.has(port)));
        assert_eq!((other.free(), other.used()), (free, count));
        for elsewhere in ["200-301", "201-300", "10000", ""] {
            let mut other: PortRange = elsewhere.parse().unwrap();
            let expected = other.to_string();
            let error = SnapshotError::MismatchedRange { expected, found: text.into() };
            assert_eq!(other.restore(&snapshot), Err(error.clone()));
            assert_eq!(other.restore_bytes(&range.to_bytes()), Err(error));
            assert_eq!(other.used(), 0);
        }
    }
    let mut range: PortRange = "200-300".parse().unwrap();
    range.restore(&RangeAllocation::new(" 200+100", [1])).unwrap();
    assert!(range.iter().eq([200]));
}

#[test]
fn what_a_bitmap_does_not_have_is_in_no_bitmap() {
    for (cidr, there) in [
        ("fd00::/111", false),
        ("fd00::/112", true),
        ("fd00::/64", false),
        ("64.0.0.0/2", true),
        ("0.0.0.0/1", false),
        ("0.0.0.0/0", false),
        ("10.0.0.0/31", true),
    ] {
        assert_eq!(ips(cidr, &[]).snapshot().is_some(), there, "{cidr}");
        let capped = IpRange::capped(cidr.parse().unwrap(), 0);
        assert_eq!(capped.snapshot().map(|snapshot| snapshot.range), Some(cidr.into()));
    }
    // From the first 65,535 to all of them, and back while it can be.
    let mut capped = IpRange::capped("fd00::/64".parse().unwrap(), 0);
    capped.allocate(ip("fd00::ffff")).unwrap();
    let mut all = ips("fd00::/64", &[]);
    all.restore(&capped.snapshot().unwrap()).unwrap();
    assert!(all.iter().eq([ip("fd00::ffff")]));
    all.restore_bytes(&capped.to_bytes()).unwrap();
    capped.restore_bytes(&all.to_bytes()).unwrap();
    all.allocate(ip("fd00::1:0")).unwrap();
    let error =
        SnapshotError::OutOfRange { range: "fd00::/64".into(), index: 65_535, size: 65_535 };
    assert_eq!(capped.restore_bytes(&all.to_bytes()), Err(error));
    assert!(capped.iter().eq([ip("fd00::ffff")]));
}

#[test]
fn bits_beyond_the_range_are_refused() {
    let mut range = ips("10.0.0.0/28", &["10.0.0.3"]);
    for (data, index) in [(&[0x40, 0x01][..], 14), (&[0x80, 0], 15), (&[0x01, 0, 0x01], 16)] {
        let error = SnapshotError::OutOfRange { range: "10.0.0.0/28".into(), index, size: 14 };
        assert_eq!(range.restore(&RangeAllocation::new("10.0.0.0/28", data)), Err(error));
        assert!(range.iter().eq([ip("10.0.0.3")]) && range.free() == 13);
    }
    range.restore(&RangeAllocation::new("10.0.0.0/28", [0x3f, 0xff])).unwrap();
    assert_eq!(range.free(), 0);
    let mut ports = PortRange::new(5, 7, 0);
    let error = SnapshotError::OutOfRange { range: "5-7".into(), index: 3, size: 3 };
    assert_eq!(ports.restore(&RangeAllocation::new("5-7", [0x0f])), Err(error));
    assert_eq!((ports.used(), ports.restore(&RangeAllocation::new("5-7", [0x07]))), (0, Ok(())));
}

#[test]
fn compact_snapshots_are_short() {
    let range = ips("10.96.0.0/12", &["10.96.0.1", "10.96.0.2", "10.96.1.1"]);
    let bytes = [1, 4, 10, 96, 0, 0, 12, 0, 2, 0xfe, 0x01, 1];
    assert_eq!(range.to_bytes(), sealed(bytes.to_vec()));
    let mut ports = PortRange::default();
    ports.allocate(30_007).unwrap();
    assert_eq!(ports.to_bytes(), sealed(vec![1, 2, 0x75, 0x30, 0x7f, 0xff, 7, 1]));
    // All of a /64, without a list of them.
    let mut all = Ips::new("fd00::/64", false, 0);
    let bytes = compact(all.header(), &[(0, u64::MAX)]);
    assert_eq!(bytes.len(), 19 + 11 + 4);
    assert_eq!((all.restore_bytes(&bytes), all.free()), (Ok(()), 0));
}

/// Each with a good check at its end.
#[test]
fn malformed_snapshots_say_where() {
    let good = ips("10.0.0.0/28", &["10.0.0.3"]);
    let header = &[1, 4, 10, 0, 0, 0, 28][..];
    let long = [0xff; 9];
    for (rest, at) in [
        (&[0][..], 8),
        (&[0, 0], 8),
        (&[0x80], 8),
        (&[0x80, 0, 1], 7),
        (&[2, 1, 0, 1], 9),
        (&[2, 1, 1, 0], 10),
        (&[&long[..], &[2, 1]].concat(), 7),
        (&[0xff; 12], 7),
    ] {
        let mut range = good.clone();
        let error = range.restore_bytes(&sealed([header, rest].concat())).unwrap_err();
        let found = matches!(error, SnapshotError::Malformed { at: found, .. } if found == at);
        assert!(found, "{rest:x?}: {error:?}");
        assert_eq!(range.to_bytes(), good.to_bytes());
    }
    let most = [&long[..], &[1]].concat();
    for (rest, index) in [
        (&[13, 2][..], 14),
        (&[14, 1], 14),
        (&[20, 1], 20),
        (&[&most[..], &[1]].concat(), u64::MAX),
        (&[&[3, 1][..], &most, &most].concat(), u64::MAX),
        (&[&[0][..], &most].concat(), 14),
    ] {
        let mut range = good.clone();
        let error = SnapshotError::OutOfRange { range: "10.0.0.0/28".into(), index, size: 14 };
        assert_eq!(range.restore_bytes(&sealed([header, rest].concat())), Err(error), "{rest:x?}");
        assert_eq!(range.to_bytes(), good.to_bytes());
    }
    let mut range = good.clone();
    for (bytes, at) in [
        (vec![], 0),
        (vec![1, 4, 10], 3),
        (sealed(vec![]), 0),
        (sealed(vec![2, 4, 10, 0, 0, 0, 28]), 0),
        (sealed(vec![1]), 1),
        (sealed(vec![1, 5, 10, 0, 0, 0, 28]), 1),
        (sealed(vec![1, 4, 10, 0]), 2),
        (sealed(vec![1, 4, 10, 0, 0, 0]), 6),
        (sealed(vec![1, 4, 10, 0, 0, 0, 33]), 6),
        (Ports::new(1, 2, 0).to_bytes(), 1),
        ([header, &[2, 1, 9, 9, 9, 9]].concat(), 9),
    ] {
        let error = range.restore_bytes(&bytes).unwrap_err();
        let found = matches!(error, SnapshotError::Malformed { at: found, .. } if found == at);
        assert!(found, "{bytes:x?}: {error:?}");
    }
    let mut ports = PortRange::new(1, 2, 0);
    let error = ports.restore_bytes(&good.to_bytes()).unwrap_err();
    assert!(matches!(error, SnapshotError::Malformed { at: 1, .. }), "{error:?}");
    assert!(ports.restore_bytes(&sealed(vec![1, 2, 0, 1, 0])).is_err());
}

/// The host bits of a range's address are no part of it, and no writer puts them there.
#[test]
fn a_compact_snapshot_has_one_spelling() {
    let mut range = ips("10.0.0.0/28", &[]);
    let error = range.restore_bytes(&sealed(vec![1, 4, 10, 0, 0, 7, 28])).unwrap_err();
    assert_eq!(error.to_string(), "snapshot of range \"10.0.0.7/28\": expected \"10.0.0.0/28\"");
    assert_eq!(range.restore_bytes(&sealed(vec![1, 4, 10, 0, 0, 0, 28])), Ok(()));
}

#[test]
fn errors_name_what_was_expected() {
    let mut range = ips("10.0.0.0/28", &[]);
    let text = range.restore(&RangeAllocation::new("10.0.0.0/28", [0x40, 0])).unwrap_err();
    assert_eq!(
        text.to_string(),
        "snapshot of range 10.0.0.0/28 has number 14 taken: expected less than 14"
    );
    let text = range.restore_bytes(&[7, 0, 0, 0, 0]).unwrap_err();
    assert_eq!(text.to_string(), "malformed at byte 0: expected version 1");
    let text = range.apply(&Delta::from_iter([Change::Release(ip("10.0.0.1"))])).unwrap_err();
    assert_eq!(text.to_string(), "10.0.0.1 is not allocated");
}

#[test]
fn deltas_are_written_as_documented() {
    let (four, six) = (ip("10.0.0.9"), ip("fd00::1"));
    let delta = Delta::from_iter([Change::Release(six), Change::Allocate(four)]);
    let six = [&[0x86, 0xfd][..], &[0; 14], &[1]].concat();
    let bytes = sealed([&[1][..], &six, &[4, 10, 0, 0, 9]].concat());
    assert_eq!(delta.to_bytes(), bytes);
    assert_eq!(Delta::<IpAddr>::from_bytes(&bytes), Ok(delta));
    let delta = Delta::from_iter([Change::Allocate(30_000_u16), Change::Release(30_001)]);
    let bytes = sealed(vec![1, 2, 0x75, 0x30, 0x82, 0x75, 0x31]);
    assert_eq!(delta.to_bytes(), bytes);
    assert_eq!(Delta::<u16>::from_bytes(&bytes), Ok(delta));
    assert_eq!(Delta::<u16>::from_bytes(&sealed(vec![1])), Ok(Delta::default()));
    for (bad, at) in [(&[1, 3][..], 1), (&[1, 0x85], 1), (&[1, 2, 0], 2), (&[0], 0), (&[], 0)] {
        let error = Delta::<u16>::from_bytes(&sealed(bad.to_vec())).unwrap_err();
        let found = matches!(error, SnapshotError::Malformed { at: found, .. } if found == at);
        assert!(found, "{bad:x?}: {error:?}");
    }
    assert!(Delta::<IpAddr>::from_bytes(&bytes).is_err());
    for at in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] ^= 0x80;
        assert!(Delta::<u16>::from_bytes(&bad).is_err(), "byte {at}");
        assert!(Delta::<u16>::from_bytes(&bytes[..at]).is_err(), "{at} bytes");
    }
}

#[test]
fn a_delta_is_all_or_nothing() {
    use Change::{Allocate, Release};
    let [a, b, c] = ["10.0.0.1", "10.0.0.2", "10.0.0.3"].map(ip);
    let outside = ip("10.0.0.15");
    for (changes, expected) in [
        (vec![], Ok(())),
        (vec![Release(a), Allocate(a), Release(a), Allocate(c)], Ok(())),
        (vec![Allocate(c), Release(a), Release(a)], Err(AllocateError::NotAllocated { item: a })),
        (vec![Release(a), Allocate(c), Allocate(b)], Err(AllocateError::Allocated { item: b })),
        (vec![Allocate(c), Allocate(c)], Err(AllocateError::Allocated { item: c })),
    ] {
        let mut range = ips("10.0.0.0/28", &["10.0.0.1", "10.0.0.2"]);
        assert_eq!(range.apply(&changes.iter().copied().collect()), expected, "{changes:?}");
        let all = expected.is_ok() && !changes.is_empty();
        let taken = if all { [b, c] } else { [a, b] };
        assert!(range.iter().eq(taken) && range.free() == 12, "{changes:?}");
    }
    for change in [Allocate(outside), Release(outside)] {
        let mut range = ips("10.0.0.0/28", &[]);
        let error = range.apply(&[Allocate(a), change].into_iter().collect()).unwrap_err();
        assert!(matches!(error, AllocateError::NotInRange { item, .. } if item == outside));
        assert_eq!(range.used(), 0);
    }
    let mut ports = PortRange::new(5, 9, 0);
    let refused = ports.apply(&[Allocate(5), Release(9)].into_iter().collect());
    assert_eq!((refused, ports.used()), (Err(AllocateError::NotAllocated { item: 9 }), 0));
    let refused = ports.apply(&[Allocate(5), Release(4)].into_iter().collect());
    assert!(matches!(refused, Err(AllocateError::NotInRange { item: 4, .. })));
    assert_eq!((ports.used(), ports.apply(&[Allocate(5)].into_iter().collect())), (0, Ok(())));
}

/// A range that comes back goes on with its own random starts.
#[test]
fn restoring_does_not_start_again() {
    let mut range = ips("10.96.0.0/16", &[]);
    let mut other = range.clone();
    range.allocate_next().unwrap();
    range.restore(&other.snapshot().unwrap()).unwrap();
    other.allocate_next().unwrap();
    let first = other.iter().next().unwrap();
    assert!(other.release(first));
    assert_eq!(range.allocate_next(), other.allocate_next());
    assert!(!range.has(first));
}
