//! The sets and the rules that go by them, for `nft`.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::{self, Write};

use super::Config;
use super::sets::{Entry, NAMES, Sets};
use crate::net::IpFamily;
use crate::plan::{LocalDetector, Plan};
use crate::rules::{Source, disjoint, interfaces};

/// As `nft` has it: `10.0.0.1 . tcp . 80 . 10.0.0.0/8`.
struct Element<'a>(&'a Entry);

impl fmt::Display for Element<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self.0 {
            Entry::Place(ip, protocol, port) => {
                write!(f, "{ip} . {} . {port}", protocol.as_lower_str())
            }
            Entry::From(ip, protocol, port, net) => {
                write!(f, "{ip} . {} . {port} . {}", protocol.as_lower_str(), Source(net))
            }
            Entry::Ip(ip) => write!(f, "{ip}"),
            Entry::Port(port) => write!(f, "{port}"),
        }
    }
}

/// The rules that go with IPVS, and the sets that they go by, for `nft -f -`: one table in each family, named by the
/// [prefix](Config::prefix), as `svcp-ipvs`, in the place of whatever it holds.
///
/// They do what those of `iptables::beside_ipvs` do, but that health checks are let in only as far as this table is concerned: no
/// table of nftables can accept what another drops.
///
/// ```
/// use svcplane::ipvs::{self, Config};
/// use svcplane::plan::{LocalNode, Mode, Plan};
///
/// let plan = Plan::empty(LocalNode::new("node-1".parse()?), Mode::Ipvs);
/// let script = ipvs::nftables(&plan, &Config::default());
/// assert!(script.starts_with("add table ip svcp-ipvs\ndelete table ip svcp-ipvs\n"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn nftables(plan: &Plan, config: &Config) -> String {
    let mut script = String::new();
    for family in [IpFamily::V4, IpFamily::V6] {
        // A String takes whatever is written to it.
        let _ = write_table(&mut script, plan, family, config);
    }
    script
}

/// What leads from the sets for one plan to those for another, if the node is the same; empty if they are the same.
pub fn nftables_delta(before: &Plan, after: &Plan, config: &Config) -> String {
    let mut script = String::new();
    for family in [IpFamily::V4, IpFamily::V6] {
        let (old, new) = (Sets::new(before, family), Sets::new(after, family));
        let table = format!("{} {}", ip(family), table(config));
        for ((name, _), (old, new)) in NAMES.iter().zip(old.sets.iter().zip(&new.sets)) {
            let name = name.to_ascii_lowercase();
            let elements = |command: &str, entries: Vec<&Entry>| {
                let list: Vec<String> =
                    entries.into_iter().map(|entry| Element(entry).to_string()).collect();
                match &*list {
                    [] => String::new(),
                    list => {
                        format!("{command} element {table} {name} {{ {} }}\n", list.join(", "))
                    }
                }
            };
            script += &elements("delete", old.difference(new).collect());
            script += &elements("add", new.difference(old).collect());
        }
    }
    script
}

/// What deletes the tables of [`nftables`], whether they are there or not.
pub fn nftables_remove(config: &Config) -> String {
    let table = table(config);
    let remove = |ip| format!("add table {ip} {table}\ndelete table {ip} {table}\n");
    ["ip", "ip6"].map(remove).concat()
}

fn table(config: &Config) -> String {
    format!("{}-ipvs", config.prefix.as_str().to_ascii_lowercase())
}

const fn ip(family: IpFamily) -> &'static str {
    match family {
        IpFamily::V4 => "ip",
        IpFamily::V6 => "ip6",
    }
}

fn write_table(script: &mut String, plan: &Plan, family: IpFamily, config: &Config) -> fmt::Result {
    let (ip, table) = (ip(family), table(config));
    let addr = match family {
        IpFamily::V4 => "ipv4_addr",
        IpFamily::V6 => "ipv6_addr",
    };
    writeln!(script, "add table {ip} {table}\ndelete table {ip} {table}\ntable {ip} {table} {{")?;
    for ((name, kind), entries) in NAMES.iter().zip(&Sets::new(plan, family).sets) {
        let place = format!("{addr} . inet_proto . inet_service");
        let (of, flags) = match *kind {
            "hash:ip" => (addr.to_string(), ""),
            "bitmap:port" => ("inet_service".to_string(), ""),
            "hash:ip,port" => (place, ""),
            "hash:ip,port,ip" => (format!("{place} . {addr}"), ""),
            _ => (format!("{place} . {addr}"), "flags interval\n"),
        };
        let name = name.to_ascii_lowercase();
        write!(script, "set {name} {{\ntype {of}\n{flags}")?;
        if !entries.is_empty() {
            let list: Vec<String> =
                entries.iter().map(|entry| Element(entry).to_string()).collect();
            writeln!(script, "elements = {{ {} }}", list.join(",\n"))?;
        }
        writeln!(script, "}}")?;
    }

    let mark = 1_u32 << (config.masquerade_bit % 32);
    let rest = !mark;
    let key = format!("{ip} daddr . meta l4proto . th dport");
    let pods = match &plan.node().pods {
        LocalDetector::Cidrs(cidrs) => {
            let of_family = cidrs.iter().filter(|net| IpFamily::of(net.addr()) == family);
            let cidrs = disjoint(&of_family.copied().collect::<Vec<_>>());
            let cidrs = cidrs.iter().map(|net| format!("{ip} saddr {net} return\n"));
            cidrs.collect::<String>()
        }
        LocalDetector::Bridge(name) => format!("meta iifname \"{name}\" return\n"),
        LocalDetector::InterfacePrefix(prefix) => {
            format!("meta iifname \"{}\" return\n", interfaces(*prefix, '*'))
        }
        _ => String::new(),
    };
    // IPVS has what comes in at 98, and the node's own packets at -99.
    write!(
        script,
        "chain mark-all {{\nmeta mark set meta mark | {mark:#010x}\n}}\n\
         chain mark-others {{\n{pods}jump mark-all\n}}\n\
         chain mark-node {{\n{pods}fib saddr type local jump mark-all\n}}\n\
         chain marking {{\n{key} @masq-all jump mark-all\n{key} @masq-others jump mark-others\n\
         {key} @masq-node jump mark-node\n}}\n\
         chain firewall {{\n{key} @ranged {key} . {ip} saddr != @sources drop\n}}\n\
         chain prerouting {{\ntype filter hook prerouting priority -110; policy accept;\n\
         ct state new jump marking\n}}\n\
         chain output {{\ntype filter hook output priority -110; policy accept;\n\
         jump firewall\nct state new jump marking\n}}\n\
         chain input {{\ntype filter hook input priority 0; policy accept;\njump firewall\n\
         tcp dport @health accept\n{key} @frontends accept\n\
         ct state new {ip} daddr @ips reject\n}}\n\
         chain masquerade-now {{\nmeta mark set meta mark & {rest:#010x}\nmasquerade fully-random\n}}\n\
         chain postrouting {{\ntype nat hook postrouting priority 100; policy accept;\n\
         {key} . {ip} saddr @loop-back goto masquerade-now\n\
         meta mark & {mark:#010x} != 0 goto masquerade-now\n}}\n}}\n"
    )
}
