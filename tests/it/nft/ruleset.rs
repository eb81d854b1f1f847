//! What the kernel makes of scripts: tables with sets, maps and chains, changed by one transaction after the other.
//!
//! Source: Linux' `nf_tables_api.c`. Where kernels since 5.13 differ, the strictest counts: a chain is not deleted in the transaction
//! in which the last element lets go of it (before 6.2), and a set is not declared again with another timeout (6.2 to 6.4).

use std::collections::{BTreeMap, BTreeSet};

use svcplane::net::IpFamily;

use super::parse::parse;
use super::script::{
    Among, Base, Command, Data, Element, Field, Led, Rule, Spec, Statement, Table, To, Value,
    Verdict, data, values,
};

/// All tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ruleset {
    pub(super) tables: BTreeMap<Table, Contents>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Contents {
    pub(super) chains: BTreeMap<String, Chain>,
    pub(super) sets: BTreeMap<String, Set>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) base: Option<Base>,
    pub(super) rules: Vec<Rule>,
}

/// A set or a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Set {
    pub(super) spec: Spec,
    pub(super) elements: BTreeMap<Vec<Value>, Held>,
}

/// What an element leads to, and until when it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) data: Led,
    pub(super) expires: Option<u64>,
}

impl Ruleset {
    /// Carries a script out, all of it or nothing.
    pub(super) fn apply(&mut self, script: &str) -> Result<(), String> {
        let mut next = self.clone();
        for command in parse(script)? {
            next.carry_out(self, &command).map_err(|error| {
                let text = format!("{command:?}");
                let end = text.char_indices().nth(300).map_or(text.len(), |(at, _)| at);
                format!("{error}: {}", &text[..end])
            })?;
        }
        for contents in next.tables.values() {
            contents.check_hooks()?;
        }
        *self = next;
        Ok(())
    }

    /// How many elements a script adds and deletes.
    pub(super) fn elements_in(script: &str) -> Result<usize, String> {
        let is_element =
            |c: &Command| matches!(c, Command::AddElement(..) | Command::DeleteElement(..));
        Ok(parse(script)?.iter().filter(|command| is_element(command)).count())
    }

    fn contents(&mut self, table: &Table) -> Result<&mut Contents, String> {
        self.tables.get_mut(table).ok_or_else(|| "no such table".to_owned())
    }

    fn carry_out(&mut self, before: &Self, command: &Command) -> Result<(), String> {
        match command {
            Command::AddTable(table) => {
                self.tables.entry(table.clone()).or_default();
            }
            Command::DeleteTable(table) => {
                self.tables.remove(table).ok_or("no such table")?;
            }
            Command::AddChain(table, name, base) => {
                self.contents(table)?.add_chain(name, base.as_ref())?;
            }
            Command::FlushChain(table, name) => {
                self.contents(table)?.chain(name)?.rules.clear();
            }
            Command::DeleteChain(table, name) => {
                let held_before = before.tables.get(table).is_some_and(|t| t.holds(name));
                let contents = self.contents(table)?;
                contents.chains.remove(name).ok_or("no such chain")?;
                let led_to = |chain: &Chain| chain.rules.iter().any(|r| leads_to(r, name));
                if held_before || contents.holds(name) || contents.chains.values().any(led_to) {
                    return Err("the chain is in use".to_owned());
                }
            }
            Command::AddSet(table, name, spec) => self.contents(table)?.add_set(name, spec)?,
            Command::DeleteSet(table, name, kind) => {
                let contents = self.contents(table)?;
                let set = contents.sets.remove(name).ok_or("no such set")?;
                if set.spec.kind != *kind {
                    return Err("a set is no map".to_owned());
                }
                let mut rules = contents.chains.values().flat_map(|chain| &chain.rules);
                if rules.any(|rule| rule.statements.iter().any(|s| named(s) == Some(name))) {
                    return Err("the set is in use".to_owned());
                }
            }
            Command::AddRule(table, name, rule) => {
                let contents = self.contents(table)?;
                contents.check_rule(table.family, rule)?;
                contents.chain(name)?.rules.push(rule.clone());
            }
            Command::AddElement(table, name, element) => {
                self.contents(table)?.add_element(table.family, name, element)?;
            }
            Command::DeleteElement(table, name, element) => {
                let set = self.contents(table)?.set(name)?;
                let key = values(&set.spec.key, table.family, &element.key, set.spec.interval)?;
                set.elements.remove(&key).ok_or("no such element")?;
            }
        }
        Ok(())
    }
}

impl Contents {
    fn chain(&mut self, name: &str) -> Result<&mut Chain, String> {
        self.chains.get_mut(name).ok_or_else(|| format!("no chain {name}"))
    }

    fn set(&mut self, name: &str) -> Result<&mut Set, String> {
        self.sets.get_mut(name).ok_or_else(|| format!("no set {name}"))
    }

    fn add_chain(&mut self, name: &str, base: Option<&Base>) -> Result<(), String> {
        match self.chains.get(name) {
            // One that is there may be added again without saying what it is.
            Some(known) if base.is_some() && known.base.as_ref() != base => {
                Err("another base chain".to_owned())
            }
            Some(_) => Ok(()),
            None => {
                let chain = Chain { base: base.cloned(), rules: Vec::new() };
                self.chains.insert(name.to_owned(), chain);
                Ok(())
            }
        }
    }

    fn add_set(&mut self, name: &str, spec: &Spec) -> Result<(), String> {
        if spec.timeout.is_some_and(|seconds| seconds == 0) || spec.size == Some(0) {
            return Err("a timeout or a size of 0 means none".to_owned());
        }
        match self.sets.get(name) {
            Some(known) if known.spec != *spec => Err("another set of this name".to_owned()),
            Some(_) => Ok(()),
            None => {
                let set = Set { spec: spec.clone(), elements: BTreeMap::new() };
                self.sets.insert(name.to_owned(), set);
                Ok(())
            }
        }
    }

    fn add_element(
        &mut self,
        family: IpFamily,
        name: &str,
        element: &Element,
    ) -> Result<(), String> {
        let spec = self.set(name)?.spec.clone();
        let key = values(&spec.key, family, &element.key, spec.interval)?;
        let data = data(&spec.data, family, &element.data)?;
        if let Led::Verdict(verdict) = &data {
            self.check_verdict(verdict)?;
        }
        let set = self.set(name)?;
        if let Some(known) = set.elements.get(&key) {
            let same = known.data == data;
            return if same { Ok(()) } else { Err("the element leads elsewhere".to_owned()) };
        }
        if spec.interval && set.elements.keys().any(|known| overlap(known, &key)) {
            return Err("the range is part of another".to_owned());
        }
        if spec.size.is_some_and(|size| set.elements.len() >= size) {
            return Err("the set is full".to_owned());
        }
        set.elements.insert(key, Held { data, expires: None });
        Ok(())
    }

    /// Whether an element leads to a chain, be it one within a rule.
    fn holds(&self, chain: &str) -> bool {
        let leads = |verdict: &Verdict| target(verdict) == Some(chain);
        let in_sets = self.sets.values().flat_map(|set| set.elements.values());
        let mut rules = self.chains.values().flat_map(|chain| &chain.rules);
        in_sets.map(|held| &held.data).any(|data| matches!(data, Led::Verdict(v) if leads(v)))
            || rules.any(|rule| {
                let anonymous = |s: &Statement| {
                    matches!(s, Statement::Lookup(_, To::Listed(elements))
                        if elements.values().any(|data| matches!(data, Led::Verdict(v) if leads(v))))
                };
                rule.statements.iter().any(anonymous)
            })
    }

    fn check_verdict(&self, verdict: &Verdict) -> Result<(), String> {
        let Some(name) = target(verdict) else { return Ok(()) };
        match self.chains.get(name) {
            None => Err(format!("no chain {name}")),
            Some(Chain { base: Some(_), .. }) => Err(format!("{name} is a base chain")),
            Some(_) => Ok(()),
        }
    }

    /// Whether all that a rule refers to is there and of the right type.
    fn check_rule(&self, family: IpFamily, rule: &Rule) -> Result<(), String> {
        let spec = |name: &String, key: &[Field]| {
            let spec = &self.sets.get(name).ok_or_else(|| format!("no set {name}"))?.spec;
            let fit =
                key.len() == spec.key.len() && key.iter().zip(&spec.key).all(|(a, b)| a.fits(b));
            if fit { Ok(spec) } else { Err(format!("{name} has another key")) }
        };
        let leads = |key: &[Field], to: &To, wanted: &Data| match to {
            To::Named(name) => {
                let spec = spec(name, key)?;
                if fits(&spec.data, wanted) {
                    Ok(())
                } else {
                    Err(format!("{name} leads elsewhere"))
                }
            }
            To::Listed(elements) => elements.values().try_for_each(|data| match data {
                Led::Verdict(verdict) => self.check_verdict(verdict),
                _ => Ok(()),
            }),
        };
        let endpoint = Data::Fields(vec![Field::Daddr, Field::Port]);
        let mut transport_known = false;
        for statement in &rule.statements {
            for field in fields(statement) {
                match field {
                    Field::Random(0) | Field::Hash(0) => return Err("a draw from 0".to_owned()),
                    Field::PortOf(_) => transport_known = true,
                    _ => {}
                }
            }
            match statement {
                Statement::Verdict(verdict) => self.check_verdict(verdict)?,
                Statement::Lookup(key, to) => leads(key, to, &Data::Verdict)?,
                Statement::Translate(key, to) => {
                    transport_known |= key.contains(&Field::Transport);
                    if !transport_known {
                        return Err("a port of no transport".to_owned());
                    }
                    leads(key, to, &endpoint)?;
                    // What nft 1.0.6 has back from the kernel it takes for a mix of protocols.
                    let mixed = |name| {
                        let data = self.sets.get(name).map(|set: &Set| &set.spec.data);
                        !matches!(data, Some(Data::Fields(f)) if matches!(f[..], [_, Field::PortOf(_)]))
                    };
                    let refused = matches!(to, To::Named(name) if mixed(name));
                    (!refused).then_some(()).ok_or("nft cannot read the type of the map back")?;
                }
                Statement::TranslateTo(addr) => {
                    let legal = transport_known && IpFamily::of(addr.ip()) == family;
                    legal.then_some(()).ok_or("a port of no transport")?;
                }
                Statement::SetPriority(key, to) => {
                    leads(key, to, &Data::Fields(vec![Field::Priority]))?;
                }
                Statement::Matches(key, _, Among::Named(name)) => _ = spec(name, key)?,
                Statement::Matches(key, is, Among::Listed(items)) => {
                    transport_known |= *is && key[..] == [Field::Transport];
                    let overlaps = |n: usize| items[..n].iter().any(|i| overlap(i, &items[n]));
                    if (0..items.len()).any(overlaps) {
                        return Err("two ranges overlap".to_owned());
                    }
                }
                Statement::Update(name, key, data) | Statement::Delete(name, key, data) => {
                    let spec = spec(name, key)?;
                    let none = data.is_empty();
                    let wanted = if none { Data::None } else { Data::Fields(data.clone()) };
                    if !spec.dynamic || !fits(&spec.data, &wanted) {
                        return Err(format!("{name} takes no such elements"));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether statements are only where they may be, as seen from the hooks.
    fn check_hooks(&self) -> Result<(), String> {
        for (name, chain) in &self.chains {
            if let Some(base) = &chain.base {
                self.check_from(base, name, 0)?;
            }
        }
        Ok(())
    }

    fn check_from(&self, base: &Base, name: &str, depth: usize) -> Result<(), String> {
        if depth > 16 {
            return Err(format!("{name} is too deep"));
        }
        for rule in &self.chains[name].rules {
            for statement in &rule.statements {
                let legal = match statement {
                    Statement::TranslateTo(_) | Statement::Translate(..) => {
                        base.of == "nat" && matches!(&*base.hook, "prerouting" | "output")
                    }
                    Statement::Masquerade => base.of == "nat" && base.hook == "postrouting",
                    // Kernels take it at prerouting since 5.9 only.
                    Statement::Verdict(Verdict::Reject) => {
                        matches!(&*base.hook, "input" | "forward" | "output")
                    }
                    _ => true,
                };
                if !legal {
                    return Err(format!("{statement:?} in {name} at {}", base.hook));
                }
                for next in self.led_to(statement) {
                    self.check_from(base, &next, depth + 1)?;
                }
            }
        }
        Ok(())
    }

    fn led_to(&self, statement: &Statement) -> BTreeSet<String> {
        let of = |data: &Led| match data {
            Led::Verdict(verdict) => target(verdict).map(str::to_owned),
            _ => None,
        };
        match statement {
            Statement::Verdict(verdict) => target(verdict).map(str::to_owned).into_iter().collect(),
            Statement::Lookup(_, To::Listed(elements)) => {
                elements.values().filter_map(of).collect()
            }
            Statement::Lookup(_, To::Named(name)) => {
                self.sets[name].elements.values().filter_map(|held| of(&held.data)).collect()
            }
            _ => BTreeSet::new(),
        }
    }
}

fn fits(data: &Data, wanted: &Data) -> bool {
    match (data, wanted) {
        (Data::Fields(a), Data::Fields(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.fits(b))
        }
        _ => data == wanted,
    }
}

fn overlap(a: &[Value], b: &[Value]) -> bool {
    a.iter().zip(b).all(|(a, b)| match (a, b) {
        (Value::Net(a), Value::Net(b)) => a.contains(b) || b.contains(a),
        _ => a == b,
    })
}

fn target(verdict: &Verdict) -> Option<&str> {
    match verdict {
        Verdict::Jump(name) | Verdict::Goto(name) => Some(name),
        _ => None,
    }
}

fn leads_to(rule: &Rule, chain: &str) -> bool {
    rule.statements.iter().any(|s| matches!(s, Statement::Verdict(v) if target(v) == Some(chain)))
}

/// The set or map that a statement refers to.
fn named(statement: &Statement) -> Option<&String> {
    match statement {
        Statement::Matches(_, _, Among::Named(name))
        | Statement::SetPriority(_, To::Named(name))
        | Statement::Lookup(_, To::Named(name))
        | Statement::Translate(_, To::Named(name))
        | Statement::Update(name, ..)
        | Statement::Delete(name, ..) => Some(name),
        _ => None,
    }
}

fn fields(statement: &Statement) -> &[Field] {
    match statement {
        Statement::Matches(fields, ..)
        | Statement::SetPriority(fields, _)
        | Statement::Lookup(fields, _)
        | Statement::Translate(fields, _)
        | Statement::Update(_, fields, _)
        | Statement::Delete(_, fields, _) => fields,
        _ => &[],
    }
}
