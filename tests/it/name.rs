//! Names: the RFC 1123, RFC 1035 and IANA forms, and `namespace/name`.

use std::collections::{BTreeSet, HashMap};

use proptest::prelude::*;
use svcplane::name::{
    DnsLabel, NameError, NodeName, ObjectName, PortName, check_dns1035_label, check_dns1123_label,
    check_dns1123_subdomain, check_port_name,
};

type Check = fn(&str) -> Result<(), NameError>;

fn long(bytes: usize) -> String {
    "a".repeat(bytes)
}

fn accepts(what: &str, check: Check, texts: &[&str]) {
    for text in texts {
        assert_eq!(check(text), Ok(()), "{what} {text:?}");
    }
}

fn rejects(what: &str, check: Check, max: usize, texts: &[&str]) {
    for text in texts {
        let error = check(text).expect_err(&format!("{what} {text:?} is accepted"));
        let right = match error {
            NameError::Empty => text.is_empty(),
            NameError::TooLong { max: reported } => reported == max && text.len() > max,
            NameError::Malformed { .. } => !text.is_empty() && text.len() <= max,
            _ => false,
        };
        assert!(right, "{what} {text:?}: {error:?}");
    }
}

const LETTER_FIRST: [&str; 6] = ["a", "ab", "abc", "a1", "a-1", "a--1--2--b"];
const DIGIT_FIRST: [&str; 6] = ["0", "01", "012", "1a", "1-a", "1--a--b--2"];
const DOTTED: [&str; 13] = [
    "a.a",
    "a.b",
    "1.2",
    "ab.a",
    "abc.a",
    "a1.a",
    "a-1.a",
    "a--1--2--b.a",
    "ab.1",
    "a.b.c.d.e",
    "11.22.33.44.55",
    "0.a",
    "1--a--b--2.a",
];
const BAD_IN_ANY: [&str; 37] = [
    "", "A", "ABC", "aBc", "A1", "A-1", "1-A", "-", "a-", "-a", "1-", "-1", "_", "a_", "_a", "a_b",
    "1_", "_1", "1_2", ".", "a.", ".a", "1.", ".1", " ", "a ", " a", "a b", "1 ", " 1", "1 2",
    "a@b", "a,b", "a;b", "a:b", "a%b", "a?b",
];
const BAD_DOTTED: [&str; 14] = [
    "a..b", "1..2", "A.a", "aBc.a", "ab.A", "A1.a", "a-.b", "a.-b", ".a.b", "a.b.", "_.a", "a_b.c",
    "a$b", "rā.is",
];

/// Kubernetes apimachinery `pkg/util/validation/validation_test.go`, `TestIsDNS1123Label`, `TestIsDNS1035Label`.
#[test]
fn dns_labels() {
    let (fits, too_long) = (long(63), long(64));
    for (what, check) in
        [("RFC 1123", check_dns1123_label as Check), ("RFC 1035", check_dns1035_label)]
    {
        accepts(what, check, &LETTER_FIRST);
        accepts(what, check, &[&fits]);
        rejects(what, check, 63, &BAD_IN_ANY);
        rejects(what, check, 63, &DOTTED);
        rejects(what, check, 63, &[&too_long]);
    }
    accepts("RFC 1123", check_dns1123_label, &DIGIT_FIRST);
    rejects("RFC 1035", check_dns1035_label, 63, &DIGIT_FIRST);
}

/// Kubernetes apimachinery `pkg/util/validation/validation_test.go`, `TestIsDNS1123Subdomain`.
#[test]
fn dns_subdomains() {
    // No part is held to 63 bytes, only the whole to 253 bytes.
    let (fits, too_long) = (long(253), long(254));
    let check: Check = check_dns1123_subdomain;
    for texts in [&LETTER_FIRST[..], &DIGIT_FIRST, &DOTTED, &[&fits]] {
        accepts("subdomain", check, texts);
    }
    for texts in [&BAD_IN_ANY[..], &BAD_DOTTED, &[&too_long]] {
        rejects("subdomain", check, 253, texts);
    }
}

/// Kubernetes apimachinery `pkg/util/validation/validation_test.go`, `TestIsValidPortName`.
#[test]
fn port_names() {
    let good = [
        "telnet",
        "re-mail-ck",
        "pop3",
        "a",
        "a-1",
        "1-a",
        "a-1-b-2-c",
        "1-a-2-b-3",
        "a23456789012345",
    ];
    let bad = [
        "longerthan15characters",
        "",
        "aaaaaaaaaaaaaaaa",
        "12345",
        "1-2-3-4",
        "-begin",
        "end-",
        "two--hyphens",
        "whois++",
        "Telnet",
        "a.b",
    ];
    accepts("port name", check_port_name, &good);
    rejects("port name", check_port_name, 15, &bad);
    // A Service's port name is a label, and so may be what a container's may not.
    for text in ["12345", "two--hyphens", "longerthan15characters"] {
        assert!(text.parse::<DnsLabel>().is_ok(), "{text:?} as a Service's port name");
        assert!(text.parse::<PortName>().is_err(), "{text:?} as a container's port name");
    }
}

#[test]
fn object_names() {
    let longest = format!("{}/{}", long(63), long(253));
    for (text, namespace, name) in [
        ("default/redis", "default", "redis"),
        ("1/0", "1", "0"),
        ("kube-system/a.b.c", "kube-system", "a.b.c"),
        (&longest, &long(63), &long(253)),
    ] {
        let parsed: ObjectName = text.parse().unwrap_or_else(|e| panic!("{text:?}: {e}"));
        assert_eq!((parsed.namespace(), parsed.name()), (namespace, name), "{text:?}");
        assert_eq!((parsed.as_str(), &*parsed.to_string()), (text, text));
        assert_eq!(ObjectName::new(namespace, name), Ok(parsed), "{text:?}");
    }
    let (long_namespace, long_name) = (format!("{}/a", long(64)), format!("a/{}", long(254)));
    for text in [
        "",
        "/",
        "a",
        "a/",
        "/a",
        "a/b/c",
        "a//b",
        "a.b/c",
        "A/b",
        "a/B",
        "a /b",
        "-a/b",
        "a/b-",
        "no@#invalid.;chars\"allowed/a",
        "a/-_Invliad^&Characters",
        &long_namespace,
        &long_name,
    ] {
        assert!(text.parse::<ObjectName>().is_err(), "{text:?} is accepted");
    }
}

/// By namespace, then name; the bytes of the joined text would sort `-` and `.` before `/`.
#[test]
fn object_names_are_ordered_by_namespace_then_name() {
    let ascending =
        ["a/b", "a/b-c", "a/b.c", "a/x", "a-b/a", "a-b/x", "a0/a", "aa/a", "b/a", "b/a0"];
    let set: BTreeSet<ObjectName> =
        ascending.iter().rev().map(|text| text.parse().unwrap()).collect();
    assert!(set.iter().map(ObjectName::as_str).eq(ascending), "{set:?}");
}

#[test]
fn names_are_found_by_text_in_a_map() {
    let ports: HashMap<DnsLabel, u16> =
        [("http", 80), ("https", 443)].map(|(name, port)| (name.parse().unwrap(), port)).into();
    assert_eq!((ports.get("https"), ports.get("dns")), (Some(&443), None));
}

proptest! {
    /// Each kind by its definition in terms of another, on texts dense in the edges of all of them; the
    /// types take what their checks take and keep the text.
    #[test]
    fn kinds_relate_as_defined(text in "[a-c0-2.-]{0,8}|[ac1-]{13,18}|[a.-]{61,65}|[aB_é]{0,3}") {
        let label = check_dns1123_label(&text).is_ok();
        let digit_first = text.starts_with(|c: char| c.is_ascii_digit());
        prop_assert_eq!(check_dns1035_label(&text).is_ok(), label && !digit_first);
        let parts = text.split('.').all(|part| part.len() > 63 || check_dns1123_label(part).is_ok());
        if text.len() <= 63 {
            prop_assert_eq!(check_dns1123_subdomain(&text).is_ok(), parts);
        }
        let lettered = text.contains(|c: char| c.is_ascii_lowercase());
        let port = label && lettered && text.len() <= 15 && !text.contains("--");
        prop_assert_eq!(check_port_name(&text).is_ok(), port);

        let kept = |check: Check| check(&text).map(|()| text.clone());
        let label = text.parse().map(|name: DnsLabel| name.to_string());
        prop_assert_eq!(label, kept(check_dns1123_label));
        let port = text.parse().map(|name: PortName| name.as_str().to_owned());
        prop_assert_eq!(port, kept(check_port_name));
        let node = text.parse().map(|name: NodeName| name.to_string());
        prop_assert_eq!(node, kept(check_dns1123_subdomain));
    }
}
