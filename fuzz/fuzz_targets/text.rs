//! Any text as each of the small things that are read from text: no panic, what is accepted says the same when it is printed and read
//! again, and what is strict accepts a part of what is lenient. And as what `iptables-save` printed: only what is there and ours is deleted.

#![no_main]

use std::fmt::{Debug, Display};
use std::net::IpAddr;
use std::str::FromStr;

use libfuzzer_sys::fuzz_target;
use svcplane::ipam::PortRange;
use svcplane::ipvs::{EngineName, SchedulerName};
use svcplane::k8s::{IntOrString, Quantity};
use svcplane::labels::{Labels, check_key, check_value};
use svcplane::name::{
    DnsLabel, NodeName, ObjectName, PortName, check_dns1035_label, check_dns1123_label,
    check_dns1123_subdomain,
};
use svcplane::net::{
    InterfaceName, IpFamily, Protocol, parse_cidr, parse_cidr_strict, parse_ip, parse_ip_strict,
};
use svcplane::nftables::TableName;
use svcplane::plan::Mode;
use svcplane::rules::Prefix;
use svcplane::sched::Algorithm;
use svcplane::time::Timestamp;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    kept::<DnsLabel>(text);
    kept::<EngineName>(text);
    kept::<InterfaceName>(text);
    kept::<IntOrString>(text.trim_start_matches(['+', '-', '0']));
    kept::<NodeName>(text);
    kept::<ObjectName>(text);
    kept::<PortName>(text);
    kept::<Prefix>(text);
    kept::<SchedulerName>(text);
    kept::<TableName>(text);
    again::<Algorithm>(text);
    again::<IpFamily>(text);
    again::<Labels>(text);
    again::<Mode>(text);
    again::<Protocol>(text);
    again::<Timestamp>(text);
    names(text);
    addresses(text);
    amounts(text);
    if let Ok(ports) = text.parse::<PortRange>() {
        let again: PortRange = ports.to_string().parse().expect("what is printed is read");
        assert_eq!(again.bounds(), ports.bounds(), "{text:?}");
    }
    saved(text);
});

/// What is accepted means the same when it is printed.
fn again<T: FromStr<Err: Debug> + Display + Debug + PartialEq>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        assert_eq!(value.to_string().parse::<T>().expect("what is printed is read"), value);
    }
}

/// What is accepted is kept as it is.
fn kept<T: FromStr + Display>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        assert_eq!(value.to_string(), text);
    }
}

/// Each kind of name in terms of another.
fn names(text: &str) {
    let label = check_dns1123_label(text).is_ok();
    let digit_first = text.starts_with(|c: char| c.is_ascii_digit());
    assert_eq!(check_dns1035_label(text).is_ok(), label && !digit_first, "{text:?}");
    let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let part = |part: &str| {
        let ends = part.starts_with(inside) && part.ends_with(inside);
        ends && part.chars().all(|c| inside(c) || c == '-')
    };
    assert_eq!(label, text.len() <= 63 && part(text), "{text:?}");
    let subdomain = text.len() <= 253 && text.split('.').all(part);
    assert_eq!(check_dns1123_subdomain(text).is_ok(), subdomain, "{text:?}");
    assert_eq!(text.parse::<DnsLabel>().is_ok(), label, "{text:?}");
    let lettered = text.contains(|c: char| c.is_ascii_lowercase());
    let port = label && lettered && text.len() <= 15 && !text.contains("--");
    assert_eq!(text.parse::<PortName>().is_ok(), port, "{text:?}");
    if let Ok(name) = text.parse::<ObjectName>() {
        assert_eq!(ObjectName::new(name.namespace(), name.name()), Ok(name));
    }
    // A key is a name, or a subdomain, a slash and a name; and a value is a name or nothing.
    let name = |text: &str| !text.is_empty() && check_value(text).is_ok();
    let key = match text.split_once('/') {
        None => name(text),
        Some((prefix, rest)) => check_dns1123_subdomain(prefix).is_ok() && name(rest),
    };
    assert_eq!(check_key(text).is_ok(), key, "{text:?}");
}

fn addresses(text: &str) {
    let (ip, net) = (parse_ip(text), parse_cidr(text));
    assert!(ip.is_err() || net.is_err(), "{text:?}");
    if let Ok(plain) = text.parse::<IpAddr>() {
        assert_eq!(ip, Ok(plain.to_canonical()), "{text:?}");
    }
    if let Ok(ip) = ip {
        assert_eq!(ip, ip.to_canonical(), "{text:?}");
        assert_eq!(parse_ip_strict(&ip.to_string()), Ok(ip), "{text:?}");
    }
    if let Ok(net) = net {
        assert_eq!(net, net.trunc(), "{text:?}");
        assert_eq!(parse_cidr_strict(&net.to_string()), Ok(net), "{text:?}");
    }
    if parse_ip_strict(text).is_ok() {
        assert_eq!(parse_ip_strict(text), ip, "{text:?}");
    }
    if parse_cidr_strict(text).is_ok() {
        assert_eq!(parse_cidr_strict(text), net, "{text:?}");
    }
}

/// A plus changes nothing, nor do zeros before a number, nor thousands, wherever there are few digits enough.
fn amounts(text: &str) {
    let millis = |text: &str| Quantity::from(text).millis();
    let Some(amount) = millis(text) else { return };
    if !text.starts_with('+') {
        assert_eq!(millis(&format!("+{text}")), Some(amount), "{text:?}");
        assert!(millis(&format!("0{text}")).is_none_or(|other| other == amount), "{text:?}");
    }
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    for (great, small) in [("k", ""), ("M", "k"), ("Mi", "Ki"), ("", "m"), ("m", "u")] {
        let (number, factor) = (&text[..end], if great.ends_with('i') { 1024 } else { 1000_u128 });
        let Ok(number) = number.parse::<u128>() else { return };
        if number < 1 << 80 {
            let small = format!("{}{small}", number * factor);
            assert_eq!(millis(&format!("{number}{great}")), millis(&small), "{small}");
        }
    }
}

fn saved(text: &str) {
    let config = svcplane::iptables::Config::default();
    let input = svcplane::iptables::remove(&config, text);
    let lines: Vec<&str> = text.lines().collect();
    for line in input.lines() {
        if let Some(rule) = line.strip_prefix("-D ") {
            assert!(lines.iter().any(|line| line.strip_prefix("-A ") == Some(rule)), "{rule}");
            assert!(rule.contains("-j SVCP-"), "{rule}");
        } else if let Some(chain) = line.strip_prefix("-X ") {
            let there = |line: &&str| line.strip_prefix(':').is_some_and(|l| l.starts_with(chain));
            assert!(chain.starts_with("SVCP-") && lines.iter().any(there), "{chain}");
        } else {
            let known = ["*mangle", "*filter", "*nat", "COMMIT"].contains(&line);
            assert!(known || line.starts_with(":SVCP-"), "{line}");
        }
    }
    // When it is done, nothing is left to do.
    let rest = lines.iter().filter(|line| {
        let chain = line.strip_prefix(':').and_then(|line| line.split(' ').next());
        let rule = line.strip_prefix("-A ").map(|rule| format!("-D {rule}"));
        !chain.is_some_and(|chain| config.prefix.names(chain))
            && !rule.is_some_and(|rule| input.lines().any(|line| *line == *rule))
    });
    let rest: Vec<&str> = rest.copied().collect();
    assert_eq!(svcplane::iptables::remove(&config, &rest.join("\n")), "");
}
