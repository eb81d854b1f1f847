//! What replies mean, in the words of the recordings.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZero;

use serde::Deserialize;
use serde_json::Value;
use svcplane::ipvs::{
    Daemon, Forwarding, ListedReal, ListedVirtual, Netmask, Reply, Stats, Timeouts, Tunnel,
    Version, VirtualKey,
};
use svcplane::net::IpFamily;

use super::Outcome;

/// An attribute as it is described.
#[derive(Deserialize)]
pub(super) struct Attribute {
    #[serde(rename = "attr")]
    name: String,
    #[serde(default)]
    value: Value,
    #[serde(default)]
    nested: Vec<Self>,
}

/// Whether a reply means what its description says.
pub(super) fn compare(reply: &Reply, attrs: &[Attribute], input: &str, outcome: &mut Outcome) {
    let mut leaves = Vec::new();
    flatten("", attrs, &mut leaves);
    let got = means(reply);
    for (path, expected) in leaves {
        let got = got.get(&path).map_or("nothing", String::as_str);
        outcome.compare(&format!("{input}: {path}"), expected, got.to_owned());
    }
}

fn flatten(above: &str, attrs: &[Attribute], leaves: &mut Vec<(String, String)>) {
    for attr in attrs.iter().filter(|attr| attr.name != "PAD") {
        let path = format!("{above}{}", attr.name);
        if attr.nested.is_empty() {
            let value = match &attr.value {
                Value::String(text) => text.clone(),
                Value::Object(flags) => {
                    let part = |name| flags.get(name).and_then(Value::as_str).unwrap_or_default();
                    format!("{}/{}", part("flags"), part("mask"))
                }
                other => other.to_string(),
            };
            leaves.push((path, value));
        } else {
            flatten(&format!("{path}/"), &attr.nested, leaves);
        }
    }
}

/// What a reply means, in the words of the descriptions.
fn means(reply: &Reply) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    let mut put = |path: &str, value: &dyn ToString| {
        out.insert(path.to_owned(), value.to_string());
    };
    match reply {
        Reply::Version(Version { major, minor, patch, connection_table_size, .. }) => {
            put("INFO_VERSION", &u32::from_be_bytes([0, *major, *minor, *patch]));
            put("INFO_CONN_TAB_SIZE", connection_table_size);
        }
        Reply::Timeouts(Timeouts { tcp, tcp_fin, udp }) => {
            let timeouts =
                [("TIMEOUT_TCP", tcp), ("TIMEOUT_TCP_FIN", tcp_fin), ("TIMEOUT_UDP", udp)];
            for (name, timeout) in timeouts {
                put(name, &timeout.map_or(0, NonZero::get));
            }
        }
        Reply::Daemon(daemon) => daemon_means(daemon, &mut put),
        Reply::Virtual(listed) => virtual_means(listed, &mut put),
        Reply::Real(listed) => real_means(listed, &mut put),
        _ => {}
    }
    out
}

type Put<'a> = &'a mut dyn FnMut(&str, &dyn ToString);

fn daemon_means(daemon: &Daemon, put: Put<'_>) {
    put("DAEMON/STATE", &if daemon.role.as_str() == "master" { 1 } else { 2 });
    put("DAEMON/MCAST_IFN", &daemon.interface);
    put("DAEMON/SYNC_ID", &daemon.sync_id);
    put("DAEMON/SYNC_MAXLEN", &daemon.max_len.map_or(0, NonZero::get));
    put("DAEMON/MCAST_PORT", &daemon.port.map_or(0, NonZero::get));
    put("DAEMON/MCAST_TTL", &daemon.ttl.map_or(0, NonZero::get));
    match daemon.group {
        Some(IpAddr::V4(group)) => put("DAEMON/MCAST_GROUP", &hex(&group.octets())),
        Some(IpAddr::V6(group)) => put("DAEMON/MCAST_GROUP6", &hex(&group.octets())),
        None => {}
    }
}

fn virtual_means(listed: &ListedVirtual, put: Put<'_>) {
    let server = &listed.server;
    put("SERVICE/AF", &family(server.key().family()));
    match server.key() {
        VirtualKey::Address { protocol, ip, port } => {
            put("SERVICE/PROTOCOL", &protocol.number());
            put("SERVICE/ADDR", &ip_hex(ip));
            put("SERVICE/PORT", &port);
        }
        VirtualKey::Mark { mark, .. } => put("SERVICE/FWMARK", &mark),
    }
    put("SERVICE/SCHED_NAME", &server.scheduler);
    if let Some(engine) = server.engine {
        put("SERVICE/PE_NAME", &engine);
    }
    let flags = [
        (1, server.persistence().is_some()),
        (2, true),
        (4, server.one_packet),
        (8, server.flags.fallback),
        (16, server.flags.port),
        (32, server.flags.third),
    ];
    let flags: u32 = flags.iter().map(|(bit, set)| if *set { *bit } else { 0 }).sum();
    put("SERVICE/FLAGS", &format!("{flags:#010x}/0xffffffff"));
    let persistence = server.persistence();
    put("SERVICE/TIMEOUT", &persistence.map_or(0, |persistence| persistence.timeout.0));
    let netmask = Netmask::host(server.key().family());
    let netmask = persistence.map_or(netmask, |persistence| persistence.netmask);
    put("SERVICE/NETMASK", &netmask_hex(netmask));
    stats_mean("SERVICE", &listed.stats, put);
}

/// An IPv4 mask as it is, and the length of an IPv6 prefix as a number of four bytes, the first of which is the lowest.
fn netmask_hex(netmask: Netmask) -> String {
    let text = netmask.to_string();
    match (text.parse::<Ipv4Addr>(), text.parse::<u32>()) {
        (Ok(mask), _) => hex(&mask.octets()),
        (_, Ok(length)) => hex(&length.to_le_bytes()),
        _ => text,
    }
}

fn real_means(listed: &ListedReal, put: Put<'_>) {
    let server = &listed.server;
    put("DEST/ADDR_FAMILY", &family(IpFamily::of(server.key.ip)));
    put("DEST/ADDR", &ip_hex(server.key.ip));
    put("DEST/PORT", &server.key.port);
    let (method, tunnel) = match server.forwarding {
        Forwarding::Masquerade => (0, None),
        Forwarding::Local => (1, None),
        Forwarding::Tunnel(tunnel) => (2, Some(tunnel)),
        Forwarding::Direct => (3, None),
        Forwarding::Other(other) => (other.get(), None),
        _ => (u8::MAX, None),
    };
    put("DEST/FWD_METHOD", &method);
    let (kind, port, checksums) = match tunnel {
        Some(Tunnel::Gue { port, checksum, remote_checksum }) => {
            (1, port.get(), u8::from(checksum) + 2 * u8::from(remote_checksum))
        }
        Some(Tunnel::Gre { checksum }) => (2, 0, checksum.into()),
        _ => (0, 0, 0),
    };
    put("DEST/TUN_TYPE", &kind);
    put("DEST/TUN_PORT", &port);
    put("DEST/TUN_FLAGS", &checksums);
    put("DEST/WEIGHT", &server.weight);
    put("DEST/U_THRESH", &server.thresholds.upper());
    put("DEST/L_THRESH", &server.thresholds.lower());
    put("DEST/ACTIVE_CONNS", &listed.active);
    put("DEST/INACT_CONNS", &listed.inactive);
    put("DEST/PERSIST_CONNS", &listed.persistent);
    stats_mean("DEST", &listed.stats, put);
}

fn stats_mean(above: &str, stats: &Stats, put: Put<'_>) {
    let numbers = [
        ("CONNS", stats.connections),
        ("INPKTS", stats.packets_in),
        ("OUTPKTS", stats.packets_out),
        ("INBYTES", stats.bytes_in),
        ("OUTBYTES", stats.bytes_out),
        ("CPS", stats.connections_per_second),
        ("INPPS", stats.packets_in_per_second),
        ("OUTPPS", stats.packets_out_per_second),
        ("INBPS", stats.bytes_in_per_second),
        ("OUTBPS", stats.bytes_out_per_second),
    ];
    for (name, number) in numbers {
        put(&format!("{above}/STATS/{name}"), &number);
        put(&format!("{above}/STATS64/{name}"), &number);
    }
}

const fn family(family: IpFamily) -> u16 {
    match family {
        IpFamily::V4 => 2,
        IpFamily::V6 => 10,
    }
}

fn ip_hex(ip: IpAddr) -> String {
    let mut bytes = [0; 16];
    match ip {
        IpAddr::V4(ip) => bytes[..4].copy_from_slice(&ip.octets()),
        IpAddr::V6(ip) => bytes = ip.octets(),
    }
    hex(&bytes)
}

pub(super) fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}
