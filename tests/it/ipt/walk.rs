//! What becomes of packets: the packet flow of Linux' netfilter, all branches of what is drawn.
//!
//! What the node sends to itself passes the output hooks and, on the loopback device, those of what comes in, but is
//! not translated a second time. Whatever is for the node itself is walked through postrouting all the same, where the
//! kernel takes it no more: what is asked for there is what counts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use svcplane::ipnet::IpNet;
use svcplane::net::IpFamily;
use svcplane::plan::Packet;

use crate::ends::{End, FOREIGN, Host};

use super::rule::{Either, Interface, Masked, Match, Rule, State, Target};
use super::tables::Tables;

/// All packets, of which a rule may draw some.
pub(super) const WHOLE: u32 = 1 << 31;

/// How many clients a list has room for, unless the module was loaded with another `ip_list_tot`.
pub(super) const ROOM: usize = 100;

/// One of the things that may become of a packet.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Branch {
    pub(super) end: End,
    /// Of how many packets.
    pub(super) chance: f64,
    /// With how many rules it was compared.
    pub(super) compared: usize,
    /// The lists that the client was put into.
    pub(super) remembered: Vec<String>,
}

type Recent = BTreeMap<String, Vec<(IpAddr, u64)>>;

impl Tables {
    /// Everything that may become of a packet of a state, at a time in seconds, whatever is drawn. Nothing is remembered.
    pub(super) fn branches(
        &self,
        host: &Host,
        packet: &Packet,
        state: State,
        now: u64,
    ) -> Vec<Branch> {
        let mut branches = Vec::new();
        let mut choices: Vec<(bool, u32)> = Vec::new();
        loop {
            let mut at = 0;
            let mut draw = |of: u32| {
                if at == choices.len() {
                    choices.push((of > 0, of));
                }
                at += 1;
                choices[at - 1].0
            };
            let mut recent = self.recent.clone();
            let mut branch = walk(self, &mut recent, host, packet, state, now, &mut draw);
            let part = |(taken, of): &(bool, u32)| {
                f64::from(if *taken { *of } else { WHOLE - of }) / f64::from(WHOLE)
            };
            branch.chance = choices.iter().map(part).product();
            branches.push(branch);
            while choices.last().is_some_and(|(taken, of)| !taken || *of == WHOLE) {
                choices.pop();
            }
            match choices.last_mut() {
                None => return branches,
                Some((taken, _)) => *taken = false,
            }
        }
    }

    /// Everything that may become of a new flow that nobody remembers.
    pub(super) fn ends(&self, host: &Host, packet: &Packet) -> BTreeSet<End> {
        let branches = self.branches(host, packet, State::New, 0);
        branches.into_iter().map(|branch| branch.end).collect()
    }

    /// What becomes of a new flow if rules draw it so, at a time in seconds; what is remembered of it is.
    pub(super) fn connect(
        &mut self,
        host: &Host,
        packet: &Packet,
        now: u64,
        mut draw: impl FnMut(u32) -> bool,
    ) -> Branch {
        let mut recent = std::mem::take(&mut self.recent);
        let branch = walk(self, &mut recent, host, packet, State::New, now, &mut draw);
        self.recent = recent;
        branch
    }
}

fn walk(
    tables: &Tables,
    recent: &mut Recent,
    host: &Host,
    packet: &Packet,
    state: State,
    now: u64,
    draw: &mut dyn FnMut(u32) -> bool,
) -> Branch {
    let to = packet.destination;
    let mut packet = *packet;
    packet.source = packet.source.to_canonical();
    packet.destination = SocketAddr::new(to.ip().to_canonical(), to.port());
    for ip in [packet.source, packet.destination.ip()] {
        assert_eq!(IpFamily::of(ip), tables.family, "{packet}: another family");
    }
    let interface = packet.interface.map(|name| name.to_string()).unwrap_or_default();
    let own = packet.interface.is_none() && host.has(packet.source);
    let mut walk = Walk {
        tables,
        recent,
        host,
        draw,
        now,
        state,
        packet,
        original: packet.destination,
        interface,
        mark: FOREIGN,
        translated: false,
        masqueraded: false,
        compared: 0,
        remembered: Vec::new(),
    };
    let refused = walk.way(own);
    let Walk { packet, mark, translated, masqueraded, compared, remembered, .. } = walk;
    let end = refused.unwrap_or_else(|| {
        // On the way through postrouting, where it is done with.
        let left = mark == FOREIGN || state != State::New;
        assert!(left, "{packet}: leaves with the mark {mark:#x}");
        assert!(translated || !masqueraded, "{packet}: masqueraded, but not translated");
        if translated { End::Backend(packet.destination, masqueraded) } else { End::Pass }
    });
    Branch { end, chance: 1.0, compared, remembered }
}

struct Walk<'a> {
    tables: &'a Tables,
    recent: &'a mut Recent,
    host: &'a Host,
    draw: &'a mut dyn FnMut(u32) -> bool,
    now: u64,
    state: State,
    /// As it is by now.
    packet: Packet,
    original: SocketAddr,
    interface: String,
    mark: u32,
    translated: bool,
    masqueraded: bool,
    compared: usize,
    remembered: Vec<String>,
}

/// What becomes of a packet at the end of a chain.
enum Step {
    /// It goes back to where the chain was jumped to from.
    Return,
    /// It has passed this hook; by a rule's word if true.
    Pass,
    Accept,
    Refuse(End),
}

impl Walk<'_> {
    /// Through the hooks; what ended it if it did not get to the end.
    fn way(&mut self, own: bool) -> Option<End> {
        let first = if own { "OUTPUT" } else { "PREROUTING" };
        self.hook("nat", first);
        let local = self.host.has(self.packet.destination.ip());
        let hooks = match (own, local) {
            (true, true) => {
                &[("filter", "OUTPUT"), ("nat", "POSTROUTING"), ("filter", "INPUT")][..]
            }
            (true, false) => &[("filter", "OUTPUT"), ("nat", "POSTROUTING")],
            (false, true) => &[("filter", "INPUT"), ("nat", "POSTROUTING")],
            (false, false) => &[("filter", "FORWARD"), ("nat", "POSTROUTING")],
        };
        let mut accepted = false;
        for (table, hook) in hooks {
            if (*table, *hook) == ("filter", "INPUT") && own {
                "lo".clone_into(&mut self.interface);
            }
            match self.hook(table, hook) {
                Step::Refuse(end) => return Some(end),
                Step::Accept if *hook == "INPUT" => accepted = !self.translated,
                _ => {}
            }
        }
        accepted.then_some(End::Accept)
    }

    fn hook(&mut self, table: &'static str, hook: &str) -> Step {
        // The table nat is asked about the first packet of a flow only.
        if table == "nat" && self.state != State::New {
            return Step::Pass;
        }
        self.chain(table, hook)
    }

    fn chain(&mut self, table: &'static str, name: &str) -> Step {
        let tables = self.tables;
        for rule in &tables.by_name[table][name] {
            self.compared += 1;
            if !self.matches(rule) {
                continue;
            }
            match &rule.target {
                None => {}
                Some(Target::Return) => return Step::Return,
                Some(Target::Accept) => return Step::Accept,
                Some(Target::Drop) => return Step::Refuse(End::Drop),
                Some(Target::Reject) => return Step::Refuse(End::Reject),
                Some(Target::Goto(next)) => return self.chain(table, next),
                Some(Target::Jump(next)) => match self.chain(table, next) {
                    Step::Return => {}
                    other => return other,
                },
                Some(Target::Mark(Masked { value, mask })) => self.mark = self.mark & !mask ^ value,
                Some(Target::Translate(to)) => {
                    (self.packet.destination, self.translated) = (*to, true);
                    return Step::Pass;
                }
                Some(Target::Masquerade) => {
                    self.masqueraded = true;
                    return Step::Pass;
                }
            }
        }
        Step::Return
    }

    /// The header first, then matches until one fails.
    fn matches(&mut self, rule: &Rule) -> bool {
        let net = |wanted: &Option<Either<IpNet>>, ip: IpAddr| {
            wanted.as_ref().is_none_or(|Either { is, of }| of.contains(&ip) == *is)
        };
        let interface = rule.interface.as_ref().is_none_or(|Either { is, of }| {
            is == &match of {
                Interface::Named(name) => self.interface == *name,
                Interface::Beginning(name) => self.interface.starts_with(name),
            }
        });
        net(&rule.source, self.packet.source)
            && net(&rule.destination, self.packet.destination.ip())
            && interface
            && rule.protocol.is_none_or(|protocol| protocol == self.packet.protocol)
            && rule.matches.iter().all(|one| self.matches_one(one))
    }

    fn matches_one(&mut self, one: &Match) -> bool {
        match one {
            Match::Comment(_) => true,
            Match::Transport(protocol, ports) => {
                let port = self.packet.destination.port();
                *protocol == self.packet.protocol
                    && ports.as_ref().is_none_or(|ports| ports.contains(&port))
            }
            Match::SourceIsLocal => self.host.has(self.packet.source),
            Match::DestinationIsLocal => self.host.has(self.packet.destination.ip()),
            Match::State(Either { is, of }) => {
                let translated = self.translated && self.packet.destination != self.original;
                (of.contains(&self.state) || translated && of.contains(&State::Dnat)) == *is
            }
            Match::Mark(Either { is, of }) => (self.mark & of.mask == of.value) == *is,
            Match::Remember(list) => {
                let clients = self.recent.entry(list.clone()).or_default();
                let known = clients.iter().position(|(ip, _)| *ip == self.packet.source);
                match known {
                    Some(place) => _ = clients.remove(place),
                    None if clients.len() == ROOM => _ = clients.remove(0),
                    None => {}
                }
                clients.push((self.packet.source, self.now));
                self.remembered.push(list.clone());
                true
            }
            Match::Remembered { list, seconds, reap } => {
                let Some(clients) = self.recent.get_mut(list) else { return false };
                let since = self.now.saturating_sub((*seconds).into());
                let known = clients.iter().find(|(ip, _)| *ip == self.packet.source);
                let Some(&(_, seen)) = known else { return false };
                // The oldest only, whoever it is.
                if *reap && clients[0].1 < since {
                    clients.remove(0);
                }
                seen >= since
            }
            Match::Chance(of) => (self.draw)(*of),
        }
    }
}
