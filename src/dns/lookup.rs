//! From a name to what it stands for.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::entry::{Entry, Host, Kind, Pointer, Port};
use super::name::undashed;
use super::zone::{ReverseZone, Zone};
use super::{Name, NameBuf, PodMode};

/// What a name stands for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place<'a> {
    /// Nothing that this zone has a say in.
    Elsewhere,
    /// Nothing. So it is for a reverse zone, if it is one's.
    Nothing(Option<&'a ReverseZone>),
    /// A name that has others under it and nothing else. Likewise.
    Empty(Option<&'a ReverseZone>),
    Apex,
    ReverseApex(&'a ReverseZone),
    Version,
    NameServer,
    Service(&'a Entry),
    Host(&'a Entry, &'a Host),
    Port(&'a Entry, &'a Port),
    /// A pod, by its address.
    Pod(IpAddr),
    Pointers(&'a [Pointer], &'a ReverseZone),
}

/// More labels than any name of the zone has before the zone's.
const MANY: usize = 6;

impl Zone {
    pub(super) fn place(&self, name: Name<'_>) -> Place<'_> {
        let lowered = NameBuf::from(name).lowered();
        let (name, origin) = (lowered.labels_on_wire(), self.origin.labels_on_wire());
        let Some(own) = name.len().checked_sub(origin.len()) else { return self.reverse(name) };
        if name[own..] != *origin {
            return self.reverse(name);
        }
        // Where each label begins, and that the last of them ends where the zone's name begins.
        let mut starts = [0; MANY];
        let (mut at, mut count) = (0, 0);
        while at < own {
            if let Some(start) = starts.get_mut(count) {
                *start = at;
            }
            count += 1;
            at += 1 + usize::from(name[at]);
        }
        if at != own {
            return self.reverse(name);
        }
        let Some(starts) = starts.get(..count) else { return Place::Nothing(None) };
        self.inside(&name[..own], starts)
    }

    /// A name of the zone itself: the labels before the zone's, and where each begins.
    fn inside(&self, name: &[u8], starts: &[usize]) -> Place<'_> {
        let [others @ .., last] = starts else { return Place::Apex };
        let (before, last) = name.split_at(*last);
        match (last, others) {
            (b"\x03svc", _) => self.in_services(before, others),
            (b"\x03pod", _) => self.in_pods(before, others),
            (b"\x0bdns-version", []) => Place::Version,
            (b"\x03dns", []) => Place::Empty(None),
            (b"\x03dns", [_]) if before == b"\x02ns" => Place::NameServer,
            _ => Place::Nothing(None),
        }
    }

    fn in_services(&self, name: &[u8], starts: &[usize]) -> Place<'_> {
        let (service, others) = match *starts {
            [] => return Place::Empty(None),
            [_] => return self.in_namespaces(name),
            [ref others @ .., service, _] => (service, others),
        };
        let Some(entry) = self.find(&name[service..]) else { return Place::Nothing(None) };
        let found = match (&entry.kind, others) {
            (Kind::Virtual | Kind::Headless | Kind::External(_), []) => Some(Place::Service(entry)),
            (Kind::Virtual | Kind::Headless, &[start]) => {
                let label = &name[start..service];
                match entry.host(label) {
                    Some(host) => Some(Place::Host(entry, host)),
                    None => entry.has_ports_under(label).then_some(Place::Empty(None)),
                }
            }
            (Kind::Virtual | Kind::Headless, &[port, protocol]) => entry
                .port(&name[port + 1..protocol], &name[protocol + 1..service])
                .map(|port| Place::Port(entry, port)),
            _ => None,
        };
        found.unwrap_or(Place::Nothing(None))
    }

    fn in_namespaces(&self, label: &[u8]) -> Place<'_> {
        match self.namespace(label) {
            Some(_) => Place::Empty(None),
            None => Place::Nothing(None),
        }
    }

    fn in_pods(&self, name: &[u8], starts: &[usize]) -> Place<'_> {
        let (mode, nothing) = (self.config.pods, Place::Nothing(None));
        match *starts {
            // As CoreDNS has it, also where pods have no names.
            [] => Place::Empty(None),
            _ if mode == PodMode::Disabled => nothing,
            [_] => self.in_namespaces(name),
            [_, namespace] => {
                let (label, namespace) = name.split_at(namespace);
                let (Some(known), Some(ip)) = (self.namespace(namespace), undashed(&label[1..]))
                else {
                    return nothing;
                };
                let there = mode == PodMode::Insecure || known.pod_ips.contains_key(&ip);
                if there { Place::Pod(ip) } else { nothing }
            }
            _ => nothing,
        }
    }

    /// A name under `in-addr.arpa` or `ip6.arpa`, in lower case.
    fn reverse(&self, name: &[u8]) -> Place<'_> {
        let Some((net, is_net)) = reverse_net(name) else { return Place::Elsewhere };
        let Some(zone) = self.reverse_zones.iter().find(|zone| zone.net.contains(&net)) else {
            return Place::Elsewhere;
        };
        if !is_net {
            return Place::Nothing(Some(zone));
        }
        if net == zone.net {
            return Place::ReverseApex(zone);
        }
        if net.prefix_len() < net.max_prefix_len() {
            let empty = self.any_called(net);
            return if empty { Place::Empty(Some(zone)) } else { Place::Nothing(Some(zone)) };
        }
        match self.called(net.addr()) {
            [] => Place::Nothing(Some(zone)),
            pointers => Place::Pointers(pointers, zone),
        }
    }
}

/// The addresses that such a name stands for; and false if it has more in it, which stands for none of them.
fn reverse_net(name: &[u8]) -> Option<(IpNet, bool)> {
    const V4: &[u8] = b"\x07in-addr\x04arpa";
    const V6: &[u8] = b"\x03ip6\x04arpa";
    let v4 = name.strip_suffix(V4);
    let own = v4.or_else(|| name.strip_suffix(V6))?;
    let mut labels: [&[u8]; 33] = [&[]; 33];
    let mut count = 0;
    let mut rest = own;
    while let Some((&len, behind)) = rest.split_first() {
        let (label, behind) = behind.split_at_checked(usize::from(len))?;
        // More labels than an address has: the last ones count, and it is no address.
        if count >= labels.len() {
            labels.rotate_left(1);
        }
        *labels.get_mut(count.min(32))? = label;
        count += 1;
        rest = behind;
    }
    let labels = labels.get(..count.min(33))?;
    let most = if v4.is_some() { 4 } else { 32 };
    let (mut octets, mut read) = ([0_u8; 16], 0);
    for label in labels.iter().rev().take(most) {
        if v4.is_some() {
            let Some(octet) = decimal(label) else { break };
            *octets.get_mut(read)? = octet;
        } else {
            let Some(nibble) = nibble(label) else { break };
            *octets.get_mut(read / 2)? |= nibble << (4 * (1 - read % 2));
        }
        read += 1;
    }
    let read_len = u8::try_from(read).ok()?;
    let net = if v4.is_some() {
        let [a, b, c, d, ..] = octets;
        IpNet::V4(Ipv4Net::new(Ipv4Addr::new(a, b, c, d), read_len * 8).ok()?)
    } else {
        IpNet::V6(Ipv6Net::new(Ipv6Addr::from(octets), read_len * 4).ok()?)
    };
    Some((net, read == count))
}

/// Without leading zeros.
fn decimal(label: &[u8]) -> Option<u8> {
    let digits = label.iter().all(u8::is_ascii_digit) && (label.len() == 1 || label[0] != b'0');
    core::str::from_utf8(label).ok().filter(|_| digits)?.parse().ok()
}

fn nibble(label: &[u8]) -> Option<u8> {
    match label {
        [digit @ b'0'..=b'9'] => Some(digit - b'0'),
        [letter @ b'a'..=b'f'] => Some(letter - b'a' + 10),
        _ => None,
    }
}
