//! Which endpoints of a port traffic goes to: readiness, then topology, then those that still serve while they go.

use alloc::vec::Vec;
use core::cmp::Ordering;
use core::fmt;
use core::net::{IpAddr, SocketAddr};

use super::{LocalNode, Targets};
use crate::backend::Backend;
use crate::endpoints::Endpoint;

/// Why traffic goes to these endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Basis {
    /// It goes to none: there is none that could take it, or no policy that lets it.
    #[default]
    Nothing,
    /// They are ready.
    Ready,
    /// They are ready, and their hints name this node.
    SameNode,
    /// They are ready, and their hints name this node's zone.
    SameZone,
    /// None is ready; they still serve while they terminate.
    Terminating,
}

impl fmt::Display for Basis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Nothing => "none",
            Self::Ready => "ready",
            Self::SameNode => "ready, with hints for this node",
            Self::SameZone => "ready, with hints for this node's zone",
            Self::Terminating => "terminating, as none is ready",
        })
    }
}

/// The endpoints of one port in one family, as seen from a node.
pub(super) struct Candidates<'a> {
    pub(super) node: &'a LocalNode,
    pub(super) endpoints: Vec<(SocketAddr, &'a Endpoint)>,
}

const fn ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.ready
}

const fn draining(endpoint: &Endpoint) -> bool {
    endpoint.conditions.serving && endpoint.conditions.terminating
}

impl<'a> Candidates<'a> {
    /// Whether any of them could take traffic, here or elsewhere.
    pub(super) fn any(&self) -> bool {
        self.endpoints.iter().any(|(_, endpoint)| ready(endpoint) || draining(endpoint))
    }

    /// Where open flows may go on to.
    pub(super) fn serving(&self) -> Vec<SocketAddr> {
        let serving =
            self.endpoints.iter().filter(|(_, e)| e.conditions.serving || e.conditions.ready);
        let mut serving: Vec<SocketAddr> = serving.map(|(addr, _)| *addr).collect();
        serving.sort_unstable();
        serving
    }

    /// Which of the addresses of some backends are not known to be on another node.
    pub(super) fn here<'b>(&self, backends: impl Iterator<Item = &'b Backend>) -> Vec<IpAddr> {
        let not_elsewhere = |(_, e): &&(SocketAddr, &Endpoint)| {
            e.node.as_ref().is_none_or(|on| *on == self.node.name)
        };
        let mut known: Vec<IpAddr> =
            self.endpoints.iter().filter(not_elsewhere).map(|(addr, _)| addr.ip()).collect();
        known.sort_unstable();
        let mut here: Vec<IpAddr> =
            backends.map(|b| b.addr.ip()).filter(|ip| known.binary_search(ip).is_ok()).collect();
        here.sort_unstable();
        here.dedup();
        here
    }

    /// The endpoint, if there is one, without which all that are ready would have hints.
    pub(super) fn without_hints(&self) -> Option<&'a Endpoint> {
        let bare = |e: &Endpoint| e.hints.nodes.is_empty() && e.hints.zones.is_empty();
        let mut ready = self.endpoints.iter().map(|(_, e)| *e).filter(|e| ready(e));
        let without = ready.clone().find(|e| bare(e))?;
        ready.any(|e| !bare(e)).then_some(without)
    }

    /// Traffic that may go anywhere.
    pub(super) fn cluster(&self, weight: impl Fn(&Endpoint) -> u32) -> Targets {
        let basis = self.topology();
        let near = |endpoint: &Endpoint| match basis {
            Basis::SameNode => self.hints_node(endpoint),
            Basis::SameZone => self.hints_zone(endpoint),
            _ => true,
        };
        self.choose(basis, near, |_| true, weight)
    }

    /// Traffic that has to stay on the node. Hints do not matter.
    pub(super) fn local(&self, weight: impl Fn(&Endpoint) -> u32) -> Targets {
        let here = |endpoint: &Endpoint| endpoint.node.as_ref() == Some(&self.node.name);
        self.choose(Basis::Ready, here, here, weight)
    }

    /// Those `within` that are ready; failing that, those of the `reserve` that still serve while they go.
    fn choose(
        &self,
        basis: Basis,
        within: impl Fn(&Endpoint) -> bool,
        reserve: impl Fn(&Endpoint) -> bool,
        weight: impl Fn(&Endpoint) -> u32,
    ) -> Targets {
        let collect = |wanted: &dyn Fn(&Endpoint) -> bool| {
            let wanted = self.endpoints.iter().filter(|(_, endpoint)| wanted(endpoint));
            let mut backends: Vec<Backend> = wanted
                .map(|(addr, endpoint)| Backend::new(*addr).with_weight(weight(endpoint)))
                .collect();
            sort(&mut backends);
            backends
        };
        let backends = collect(&|endpoint| ready(endpoint) && within(endpoint));
        if !backends.is_empty() {
            return Targets { backends, basis };
        }
        let backends = collect(&|endpoint| draining(endpoint) && reserve(endpoint));
        let basis = if backends.is_empty() { Basis::Nothing } else { Basis::Terminating };
        Targets { backends, basis }
    }

    fn hints_node(&self, endpoint: &Endpoint) -> bool {
        endpoint.hints.nodes.contains(&self.node.name)
    }

    fn hints_zone(&self, endpoint: &Endpoint) -> bool {
        self.zone().is_some_and(|zone| endpoint.hints.zones.iter().any(|hint| **hint == *zone))
    }

    fn zone(&self) -> Option<&str> {
        self.node.zone.as_deref().filter(|zone| !zone.is_empty())
    }

    /// What the hints of those that are ready come to. One without hints disables them for all.
    fn topology(&self) -> Basis {
        let ready = || self.endpoints.iter().map(|(_, e)| *e).filter(|e| ready(e));
        let nodes = ready().all(|e| !e.hints.nodes.is_empty());
        if nodes && ready().any(|e| self.hints_node(e)) {
            return Basis::SameNode;
        }
        let zones = ready().all(|e| !e.hints.zones.is_empty());
        if zones && ready().any(|e| self.hints_zone(e)) {
            return Basis::SameZone;
        }
        Basis::Ready
    }
}

/// How two addresses with ports stand to each other in a list of backends.
pub(super) fn order(a: SocketAddr, b: SocketAddr) -> Ordering {
    if a == b { Ordering::Equal } else { Text::of(a).cmp(&Text::of(b)) }
}

/// Puts backends of one family in order.
fn sort(backends: &mut [Backend]) {
    backends.sort_by_cached_key(|backend| Text::of(backend.addr));
}

/// An address and port, ordered as its text, by which kube-proxy orders endpoints.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Text {
    /// Of each character that could make a difference its rank.
    V4(u64),
    /// At most `[` 39 `]:65535`. It begins with what is behind all digits.
    V6([u8; 48]),
}

impl Text {
    fn of(addr: SocketAddr) -> Self {
        let IpAddr::V4(ip) = addr.ip() else {
            let mut text = Cursor { text: [0; 48], len: 0 };
            // Room enough for any; what did not fit would only be ordered otherwise.
            let _ = fmt::Write::write_fmt(&mut text, format_args!("{addr}"));
            return Self::V6(text.text);
        };
        let [a, b, c, d] = ip.octets().map(u16::from);
        // A dot is before all digits, a colon behind them; the end is before everything.
        let inner = [a, b, c].into_iter().fold(0, |key, octet| (key << 11) | ranks(octet, 3, 1, 0));
        let last = ranks(d, 3, 0, 10);
        Self::V4((((inner << 11) | last) << 18) | ranks(addr.port(), 5, 1, 0))
    }
}

/// The first characters of a number's text as a number to the base eleven: digits from `zero` on, and what ends it.
fn ranks(number: u16, characters: u32, zero: u16, end: u16) -> u64 {
    let mut power = match number {
        0..10 => 1,
        10..100 => 10,
        100..1_000 => 100,
        1_000..10_000 => 1_000,
        _ => 10_000,
    };
    let (mut rest, mut key, mut left) = (number, 0, characters);
    while power > 0 && left > 0 {
        key = key * 11 + u64::from(rest / power + zero);
        rest %= power;
        power /= 10;
        left -= 1;
    }
    if left > 0 {
        key = (key * 11 + u64::from(end)) * 11_u64.pow(left - 1);
    }
    key
}

struct Cursor {
    text: [u8; 48],
    len: usize,
}

impl fmt::Write for Cursor {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let room = self.text.get_mut(self.len..self.len + part.len()).ok_or(fmt::Error)?;
        room.copy_from_slice(part.as_bytes());
        self.len += part.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;
    use core::net::SocketAddr;

    use super::order;

    #[test]
    fn order_is_that_of_the_text() {
        let octets = [0, 1, 2, 9, 10, 19, 20, 99, 100, 109, 110, 199, 200, 255];
        let ports = [1, 8, 9, 10, 80, 81, 99, 100, 801, 8_080, 8_081, 9_999, 10_000, 65_535];
        let mut addrs: alloc::vec::Vec<SocketAddr> = alloc::vec::Vec::new();
        for octet in octets {
            for port in ports {
                addrs.push(([octet, 0, 0, 9], port).into());
                addrs.push(([10, octet, 1, 0], port).into());
                addrs.push(([10, 1, octet, 10], port).into());
                addrs.push(([10, 0, 0, octet], port).into());
            }
            addrs.push(([0xfd00, 0, 0, 0, 0, 0, 0, octet.into()], 80).into());
        }
        for a in &addrs {
            for b in &addrs {
                assert_eq!(order(*a, *b), a.to_string().cmp(&b.to_string()), "{a} {b}");
            }
        }
    }
}
