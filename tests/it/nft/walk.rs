//! What becomes of the first packet of a flow, through the hooks that it passes on its way.
//!
//! Source: nft(8) and the packet flow of Linux' netfilter. What the node sends to itself passes the output hooks and, on the loopback
//! device, those of what comes in, but is not translated a second time. Whatever is for the node itself is walked through
//! postrouting all the same, where the kernel takes it no more: what is asked for there is what counts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use svcplane::net::{IpFamily, Protocol};
use svcplane::plan::Packet;

use crate::ends::{End, FOREIGN, Host};

use super::ruleset::{Contents, Held, Ruleset};
use super::script::{Among, Data, Field, Led, Rule, Statement, Table, To, Value, Verdict};

/// What dynamic sets and maps hold, by their names.
type Clients = BTreeMap<String, BTreeMap<Vec<Value>, Held>>;

impl Ruleset {
    /// Everything that may become of a packet, whatever is drawn. Nothing is remembered.
    pub(super) fn ends(
        &self,
        table: &str,
        host: &Host,
        packet: &Packet,
        now: u64,
    ) -> BTreeSet<End> {
        let contents = &self.tables[&table_of(table, packet)];
        let mut ends = BTreeSet::new();
        let mut choices: Vec<(u32, u32)> = Vec::new();
        loop {
            let mut at = 0;
            let mut draw = |of: u32| {
                if at == choices.len() {
                    choices.push((0, of));
                }
                at += 1;
                choices[at - 1].0
            };
            let mut clients = contents.clients();
            ends.insert(walk(contents, &mut clients, host, packet, now, &mut draw));
            while choices.last().is_some_and(|(choice, of)| choice + 1 == *of) {
                choices.pop();
            }
            match choices.last_mut() {
                None => return ends,
                Some((choice, _)) => *choice += 1,
            }
        }
    }

    /// What becomes of a packet if numbers are drawn so, at a time in seconds; what is remembered of it is.
    pub(super) fn connect(
        &mut self,
        table: &str,
        host: &Host,
        packet: &Packet,
        now: u64,
        mut draw: impl FnMut(u32) -> u32,
    ) -> End {
        let contents = self.tables.get_mut(&table_of(table, packet)).expect("the table is loaded");
        let mut clients = contents.clients();
        let end = walk(contents, &mut clients, host, packet, now, &mut draw);
        for (name, elements) in clients {
            contents.sets.get_mut(&name).expect("it was there").elements = elements;
        }
        end
    }
}

fn table_of(name: &str, packet: &Packet) -> Table {
    let family = IpFamily::of(packet.destination.ip().to_canonical());
    Table { family, name: name.to_owned() }
}

impl Contents {
    fn clients(&self) -> Clients {
        let dynamic = self.sets.iter().filter(|(_, set)| set.spec.dynamic);
        dynamic.map(|(name, set)| (name.clone(), set.elements.clone())).collect()
    }
}

fn walk(
    rules: &Contents,
    clients: &mut Clients,
    host: &Host,
    packet: &Packet,
    now: u64,
    draw: &mut dyn FnMut(u32) -> u32,
) -> End {
    let source = packet.source.to_canonical();
    let Packet { protocol, interface, .. } = *packet;
    let to = packet.destination;
    let destination = SocketAddr::new(to.ip().to_canonical(), to.port());
    assert_eq!(IpFamily::of(source), IpFamily::of(destination.ip()), "{packet}: two families");
    for elements in clients.values_mut() {
        elements.retain(|_, held| held.expires.is_none_or(|expires| expires > now));
    }
    let interface = interface.map(|name| name.to_string()).unwrap_or_default();
    let (mark, priority, translated, masqueraded, nat_done) = (FOREIGN, 0, false, false, false);
    let mut walk = Walk {
        rules,
        clients,
        host,
        draw,
        now,
        protocol,
        source,
        original: destination,
        destination,
        interface,
        mark,
        priority,
        translated,
        masqueraded,
        nat_done,
    };
    let refused = walk.way(packet.interface.is_none() && host.has(source));
    let Walk { destination, translated, masqueraded, mark, .. } = walk;
    // On the way through postrouting, where it is done with.
    assert!(refused.is_some() || mark == FOREIGN, "{packet}: leaves with the mark {mark:#x}");
    match refused {
        Some(end) => end,
        None if translated => End::Backend(destination, masqueraded),
        None => {
            assert!(!masqueraded, "{packet}: masqueraded, but not translated");
            End::Pass
        }
    }
}

struct Walk<'a> {
    rules: &'a Contents,
    clients: &'a mut Clients,
    host: &'a Host,
    draw: &'a mut dyn FnMut(u32) -> u32,
    now: u64,
    protocol: Protocol,
    source: IpAddr,
    original: SocketAddr,
    destination: SocketAddr,
    interface: String,
    mark: u32,
    priority: u64,
    translated: bool,
    masqueraded: bool,
    nat_done: bool,
}

/// What becomes of a packet at the end of a chain.
enum Step {
    /// It goes back to where the chain was jumped to from.
    Return,
    /// It has passed this hook's base chain.
    Accept,
    Refuse(End),
}

impl Walk<'_> {
    /// Through the hooks; why not to the end.
    fn way(&mut self, own: bool) -> Option<End> {
        let hooks: &[&str] = if own { &["output", "postrouting"] } else { &["prerouting"] };
        for hook in hooks {
            if let Some(end) = self.hook(hook) {
                return Some(end);
            }
        }
        let local = self.host.has(self.destination.ip());
        let hooks: &[&str] = match (own, local) {
            (true, true) => &["prerouting", "input"],
            (true, false) => &[],
            (false, true) => &["input", "postrouting"],
            (false, false) => &["forward", "postrouting"],
        };
        hooks.iter().find_map(|hook| self.hook(hook))
    }

    /// Through the base chains of a hook, by priority.
    fn hook(&mut self, hook: &str) -> Option<End> {
        let of_hook = self.rules.chains.iter().filter_map(|(name, chain)| {
            let base = chain.base.as_ref().filter(|base| base.hook == hook)?;
            Some((base.priority, base.of == "nat" && hook != "postrouting", name))
        });
        let mut chains: Vec<(i32, bool, &String)> = of_hook.collect();
        chains.sort_unstable();
        for (_, translates, name) in chains {
            // Once translated, or found to have no need of it, it remains so.
            if translates && self.nat_done {
                continue;
            }
            if let Step::Refuse(end) = self.chain(name) {
                return Some(end);
            }
            self.nat_done |= translates;
        }
        None
    }

    fn chain(&mut self, name: &str) -> Step {
        let rules = self.rules;
        for rule in &rules.chains[name].rules {
            match self.rule(rule) {
                None => {}
                Some(Verdict::Accept) => return Step::Accept,
                Some(Verdict::Drop) => return Step::Refuse(End::Drop),
                Some(Verdict::Reject) => return Step::Refuse(End::Reject),
                Some(Verdict::Return) => return Step::Return,
                Some(Verdict::Goto(next)) => return self.chain(&next),
                Some(Verdict::Jump(next)) => match self.chain(&next) {
                    Step::Return => {}
                    other => return other,
                },
            }
        }
        Step::Return
    }

    /// A rule's verdict, unless a statement of it does not match or fails.
    fn rule(&mut self, rule: &Rule) -> Option<Verdict> {
        for statement in &rule.statements {
            let holds = match statement {
                Statement::IsNew => true,
                Statement::IsTranslated(is) => {
                    (self.translated && self.destination != self.original) == *is
                }
                Statement::IsLocal(field) => self.host.has(match field {
                    Field::Saddr => self.source,
                    _ => self.destination.ip(),
                }),
                Statement::Interface(name, beginning, is) => {
                    let found = &self.interface;
                    let same = if *beginning { found.starts_with(name) } else { found == name };
                    same == *is
                }
                Statement::Matches(fields, is, among) => self.is_among(fields, among) == *is,
                Statement::Mark(bits, is) => (self.mark & bits != 0) == *is,
                Statement::SetMark(and, or) => {
                    self.mark = self.mark & and | or;
                    true
                }
                Statement::SetPriority(fields, to) => match self.look_up(fields, to)? {
                    Led::Values(values) => {
                        let [Value::Number(priority)] = values[..] else { unreachable!() };
                        self.priority = priority;
                        true
                    }
                    other => unreachable!("{other:?}"),
                },
                Statement::Verdict(verdict) => return Some(verdict.clone()),
                Statement::Lookup(fields, to) => match self.look_up(fields, to)? {
                    Led::Verdict(verdict) => return Some(verdict),
                    other => unreachable!("{other:?}"),
                },
                Statement::Update(name, key, data) => self.update(name, key, data),
                Statement::Delete(name, key, _) => {
                    let key = self.values(key);
                    self.clients.get_mut(name).expect("it is dynamic").remove(&key);
                    true
                }
                Statement::TranslateTo(addr) => {
                    (self.destination, self.translated) = (*addr, true);
                    return Some(Verdict::Accept);
                }
                Statement::Translate(fields, to) if !self.is_of_transport(fields, to) => false,
                Statement::Translate(fields, to) => match self.look_up(fields, to)? {
                    Led::Values(values) => {
                        let [Value::Net(net), Value::Number(port)] = values[..] else {
                            unreachable!("checked when it was added")
                        };
                        let port = u16::try_from(port).expect("a port");
                        (self.destination, self.translated) =
                            (SocketAddr::new(net.addr(), port), true);
                        return Some(Verdict::Accept);
                    }
                    other => unreachable!("{other:?}"),
                },
                Statement::Masquerade => {
                    self.masqueraded = true;
                    return Some(Verdict::Accept);
                }
            };
            if !holds {
                return None;
            }
        }
        None
    }

    /// Ports of one transport, be it in what a map leads to, are a match as well.
    fn is_of_transport(&self, fields: &[Field], to: &To) -> bool {
        let is = |field: &Field| !matches!(field, Field::PortOf(of) if *of != self.protocol);
        let data = match to {
            To::Named(name) => &self.rules.sets[name].spec.data,
            To::Listed(_) => &Data::None,
        };
        fields.iter().all(is) && !matches!(data, Data::Fields(data) if !data.iter().all(is))
    }

    fn values(&mut self, fields: &[Field]) -> Vec<Value> {
        let value = |field: &Field| match field {
            Field::Saddr => Value::Net(self.source.into()),
            Field::Daddr => Value::Net(self.destination.ip().into()),
            Field::Transport => Value::Transport(self.protocol),
            Field::Port | Field::PortOf(_) => Value::Number(self.destination.port().into()),
            Field::Mark => Value::Number(self.mark.into()),
            Field::Priority => Value::Number(self.priority),
            Field::Random(of) | Field::Hash(of) => Value::Number((self.draw)(*of).into()),
        };
        fields.iter().map(value).collect()
    }

    fn is_among(&mut self, fields: &[Field], among: &Among) -> bool {
        let values = self.values(fields);
        let within = |held: &Vec<Value>| {
            held.iter().zip(&values).all(|(held, value)| match (held, value) {
                (Value::Net(net), Value::Net(ip)) => net.contains(ip),
                _ => held == value,
            })
        };
        match among {
            Among::Listed(items) => items.iter().any(within),
            Among::Named(name) => {
                let set = &self.rules.sets[name];
                if set.spec.dynamic {
                    self.clients[name].contains_key(&values)
                } else if set.spec.interval {
                    set.elements.keys().any(within)
                } else {
                    set.elements.contains_key(&values)
                }
            }
        }
    }

    /// Where values lead; `None` ends the rule.
    fn look_up(&mut self, fields: &[Field], to: &To) -> Option<Led> {
        let key = self.values(fields);
        match to {
            To::Listed(listed) => listed.get(&key).cloned(),
            To::Named(name) => {
                let set = &self.rules.sets[name];
                let elements = self.clients.get(name).unwrap_or(&set.elements);
                elements.get(&key).map(|held| held.data.clone())
            }
        }
    }

    /// Makes an element's time start again. What it leads to remains; what is not there is added, if there is room.
    fn update(&mut self, name: &str, key: &[Field], data: &[Field]) -> bool {
        let spec = &self.rules.sets[name].spec;
        let (key, data) = (self.values(key), self.values(data));
        let expires = spec.timeout.map(|timeout| self.now + timeout);
        let elements = self.clients.get_mut(name).expect("it is dynamic");
        if let Some(held) = elements.get_mut(&key) {
            held.expires = expires;
            return true;
        }
        if spec.size.is_some_and(|size| elements.len() >= size) {
            return false;
        }
        let data = if data.is_empty() { Led::Nothing } else { Led::Values(data) };
        elements.insert(key, Held { data, expires });
        true
    }
}
