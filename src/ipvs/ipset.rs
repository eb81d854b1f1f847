//! The sets for `ipset`.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use core::fmt::{self, Write};

use super::sets::{Entry, NAMES, Sets};
use crate::net::IpFamily;
use crate::rules::{Prefix, Source, set_name};

/// As `ipset` has it: `10.0.0.1,tcp:80,10.0.0.0/8`.
struct Line<'a>(&'a Entry);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self.0 {
            Entry::Place(ip, protocol, port) => {
                write!(f, "{ip},{}:{port}", protocol.as_lower_str())
            }
            Entry::From(ip, protocol, port, net) => {
                write!(f, "{ip},{}:{port},{}", protocol.as_lower_str(), Source(net))
            }
            Entry::Ip(ip) => write!(f, "{ip}"),
            Entry::Port(port) => write!(f, "{port}"),
        }
    }
}

impl Sets {
    /// Input for `ipset restore` that puts these sets in the place of those that there are, each at once.
    pub fn ipset(&self, prefix: &Prefix) -> String {
        let mut input = String::new();
        for ((set, kind), entries) in NAMES.iter().zip(&self.sets) {
            let name = set_name(prefix, self.family, set);
            // A set that rules refer to cannot be deleted: its content is exchanged.
            let new = format!("{name}-N");
            for name in [&name, &new] {
                declare(&mut input, name, kind, self.family);
            }
            line(&mut input, format_args!("flush {new}"));
            for entry in entries {
                line(&mut input, format_args!("add {new} {}", Line(entry)));
            }
            line(&mut input, format_args!("swap {name} {new}"));
            line(&mut input, format_args!("destroy {new}"));
        }
        input
    }

    /// Input for `ipset restore` that leads to these sets from others, which are there; empty if they are the same. What is new
    /// comes before what goes.
    pub fn ipset_delta(&self, before: &Self, prefix: &Prefix) -> String {
        let mut input = String::new();
        let mut lines = |what: &str, from: &[BTreeSet<Entry>], to: &[BTreeSet<Entry>]| {
            for ((set, _), (from, to)) in NAMES.iter().zip(from.iter().zip(to)) {
                let name = set_name(prefix, self.family, set);
                for entry in to.difference(from) {
                    line(&mut input, format_args!("{what} {name} {} -exist", Line(entry)));
                }
            }
        };
        lines("add", &before.sets, &self.sets);
        lines("del", &self.sets, &before.sets);
        input
    }

    /// Input for `ipset restore` that deletes all sets of a prefix, once no rules refer to them.
    pub fn ipset_remove(prefix: &Prefix, family: IpFamily) -> String {
        let mut input = String::new();
        for (set, kind) in NAMES {
            let name = set_name(prefix, family, set);
            declare(&mut input, &name, kind, family);
            line(&mut input, format_args!("destroy {name}"));
        }
        input
    }
}

fn declare(input: &mut String, name: &str, kind: &str, family: IpFamily) {
    let more = match (kind, family) {
        ("bitmap:port", _) => "range 0-65535",
        (_, IpFamily::V4) => "family inet maxelem 1048576",
        (_, IpFamily::V6) => "family inet6 maxelem 1048576",
    };
    line(input, format_args!("create {name} {kind} {more} -exist"));
}

fn line(input: &mut String, text: fmt::Arguments<'_>) {
    // A String takes whatever is written to it.
    let _ = writeln!(input, "{text}");
}
