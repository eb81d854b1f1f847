//! What the kernel makes of input: the tables `nat` and `filter`, each committed at once, and the lists of the match
//! `recent`.
//!
//! Source: `iptables-restore.c` (with `--noflush`), Linux' `ip_tables.c` (`mark_source_chains`), `xt_recent.c`, and
//! where targets may be from `xt_nat.c`, `xt_MASQUERADE.c` and `ipt_REJECT.c`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use svcplane::iptables::Jump;
use svcplane::net::IpFamily;

use super::parse::{Line, arguments, parse};
use super::rule::{Rule, Target};

/// What is loaded.
#[derive(Clone, Debug)]
pub(super) struct Tables {
    pub(super) family: IpFamily,
    /// The tables, each with its chains.
    pub(super) by_name: BTreeMap<&'static str, Chains>,
    /// The clients of each list with the time of the last connection, the latest last.
    pub(super) recent: BTreeMap<String, Vec<(IpAddr, u64)>>,
}

pub(super) type Chains = BTreeMap<String, Vec<Rule>>;

/// A table as it is to become.
type Open = (&'static str, Chains);

const BUILT_IN: [(&str, &[&str]); 2] = [
    ("filter", &["INPUT", "FORWARD", "OUTPUT"]),
    ("nat", &["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"]),
];

fn is_built_in(chain: &str) -> bool {
    BUILT_IN.iter().any(|(_, chains)| chains.contains(&chain))
}

type Done = Result<(), String>;

impl Tables {
    /// As a machine has them that has just started.
    pub(super) fn new(family: IpFamily) -> Self {
        let tables = BUILT_IN.map(|(table, chains)| {
            (table, chains.iter().map(|chain| ((*chain).to_owned(), Vec::new())).collect())
        });
        Self { family, by_name: tables.into(), recent: BTreeMap::new() }
    }

    /// What `iptables-restore --noflush` does. Of what fails, tables that were committed before stay.
    pub(super) fn apply(&mut self, input: &str) -> Done {
        let mut open = None;
        for line in parse(input, self.family)? {
            let text = format!("{line:?}");
            open = self.take(open, line).map_err(|error| {
                let end = text.char_indices().nth(300).map_or(text.len(), |(at, _)| at);
                format!("{error}: {}", &text[..end])
            })?;
        }
        open.map_or(Ok(()), |(name, _)| Err(format!("{name} is not committed")))
    }

    /// The table that is being changed, after another line.
    fn take(&mut self, open: Option<Open>, line: Line) -> Result<Option<Open>, String> {
        match (line, open) {
            (Line::Table(name), None) => {
                let table = self.by_name.iter().find(|(known, _)| **known == name);
                let (known, chains) = table.ok_or("no such table")?;
                Ok(Some((known, chains.clone())))
            }
            (Line::Commit, Some((name, chains))) => {
                check(name, &chains)?;
                self.by_name.insert(name, chains);
                self.forget();
                Ok(None)
            }
            (Line::Table(_), Some(_)) => Err("the last table is not committed".to_owned()),
            (_, None) => Err("outside of a table".to_owned()),
            (line, Some((name, mut chains))) => {
                carry_out(name, &mut chains, line)?;
                Ok(Some((name, chains)))
            }
        }
    }

    /// What `iptables -C`, and `-I` if it is not there, do.
    pub(super) fn ensure(&mut self, jump: &Jump) -> Done {
        let rule = arguments(&jump.rule, self.family)?;
        let name = jump.table;
        let mut chains = self.by_name.get(name).ok_or("no such table")?.clone();
        let rules = chains.get(jump.chain).filter(|_| is_built_in(jump.chain));
        if !rules.ok_or("no built-in chain")?.contains(&rule) {
            carry_out(name, &mut chains, Line::Insert(jump.chain.to_owned(), rule))?;
            check(name, &chains)?;
            self.by_name.insert(name, chains);
        }
        Ok(())
    }

    /// All chains but the built-in ones.
    pub(super) fn own(&self) -> BTreeMap<(&'static str, &str), &[Rule]> {
        let all = self.by_name.iter().flat_map(|(table, chains)| {
            chains.iter().map(|(name, rules)| ((*table, name.as_str()), rules.as_slice()))
        });
        all.filter(|((_, name), _)| !is_built_in(name)).collect()
    }

    /// What `iptables-save` prints.
    pub(super) fn saved(&self) -> String {
        let mut text = String::new();
        for (table, chains) in &self.by_name {
            let declared = chains.keys().map(|name| {
                let policy = if is_built_in(name) { "ACCEPT" } else { "-" };
                format!(":{name} {policy} [0:0]\n")
            });
            let rules = chains.iter().flat_map(|(name, rules)| {
                rules.iter().map(move |rule| format!("-A {name}{rule}\n"))
            });
            let lines: String = declared.chain(rules).collect();
            for part in ["# Generated\n*", table, "\n", &lines, "COMMIT\n# Completed\n"] {
                text.push_str(part);
            }
        }
        text
    }

    /// The chains that packets come through and in which there are rules, but for the built-in ones.
    pub(super) fn reached(&self) -> BTreeMap<(&'static str, &str), &[Rule]> {
        let mut reached = BTreeMap::new();
        for (table, chains) in &self.by_name {
            let hooks = hooks(chains);
            let used =
                chains.iter().filter(|(name, rules)| !is_built_in(name) && !rules.is_empty());
            let used = used.filter(|(name, _)| hooks.contains_key(name.as_str()));
            reached.extend(used.map(|(name, rules)| ((*table, name.as_str()), rules.as_slice())));
        }
        reached
    }

    /// A list goes with the last rule that names it.
    fn forget(&mut self) {
        let rules = self.by_name.values().flat_map(BTreeMap::values).flatten();
        let used: BTreeSet<&str> = rules.filter_map(Rule::list).collect();
        self.recent.retain(|name, _| used.contains(name.as_str()));
    }
}

fn carry_out(table: &str, chains: &mut Chains, line: Line) -> Done {
    match line {
        Line::Chain(name) if is_built_in(&name) => return Err("a built-in chain".to_owned()),
        Line::Chain(name) => {
            chains.insert(name, Vec::new());
        }
        Line::DeleteChain(name) if is_built_in(&name) => return Err("a built-in chain".to_owned()),
        Line::DeleteChain(name) => {
            let referring = chains
                .iter()
                .find(|(_, rules)| rules.iter().any(|rule| rule.chain() == Some(&*name)));
            if let Some((from, _)) = referring {
                return Err(format!("{from} leads to it"));
            }
            let rules = chains.remove(&name).ok_or("no such chain")?;
            if !rules.is_empty() {
                return Err("it is not empty".to_owned());
            }
        }
        Line::Append(name, rule) => {
            may_be_in(table, chains, &rule)?;
            chains.get_mut(&name).ok_or("no such chain")?.push(rule);
        }
        Line::Insert(name, rule) => {
            may_be_in(table, chains, &rule)?;
            chains.get_mut(&name).ok_or("no such chain")?.insert(0, rule);
        }
        Line::Delete(name, rule) => {
            let rules = chains.get_mut(&name).ok_or("no such chain")?;
            let place = rules.iter().position(|known| *known == rule);
            rules.remove(place.ok_or("no such rule")?);
        }
        Line::Table(_) | Line::Commit => unreachable!("handled before"),
    }
    Ok(())
}

fn may_be_in(table: &str, chains: &Chains, rule: &Rule) -> Done {
    let of = match rule.target {
        Some(Target::Translate(_) | Target::Masquerade) => "nat",
        // The table nat sees a connection's first packet only.
        Some(Target::Drop | Target::Reject) => "filter",
        _ => table,
    };
    if of != table {
        return Err(format!("not in {table}"));
    }
    match rule.chain() {
        Some(to) if is_built_in(to) => Err(format!("leads to {to}")),
        Some(to) if !chains.contains_key(to) => Err(format!("no chain {to}")),
        _ => Ok(()),
    }
}

/// What the kernel looks for before it takes a table: no loops, and nothing where it cannot be done.
fn check(table: &str, chains: &Chains) -> Done {
    let mut done = BTreeSet::new();
    for chain in chains.keys() {
        no_loop(chains, chain, &mut Vec::new(), &mut done)?;
    }
    for (chain, hooks) in hooks(chains) {
        for rule in &chains[chain] {
            let allowed: &[&str] = match rule.target {
                Some(Target::Translate(_)) => &["PREROUTING", "OUTPUT"],
                Some(Target::Masquerade) => &["POSTROUTING"],
                Some(Target::Reject) => &["INPUT", "FORWARD", "OUTPUT"],
                _ => continue,
            };
            if let Some(hook) = hooks.iter().find(|hook| !allowed.contains(hook)) {
                return Err(format!("{chain} of {table} is reached from {hook}: {rule:?}"));
            }
        }
    }
    Ok(())
}

fn no_loop<'a>(
    chains: &'a Chains,
    chain: &'a str,
    above: &mut Vec<&'a str>,
    done: &mut BTreeSet<&'a str>,
) -> Done {
    if above.contains(&chain) {
        return Err(format!("{chain} leads to itself through {above:?}"));
    }
    if !done.contains(chain) {
        above.push(chain);
        for to in chains[chain].iter().filter_map(Rule::chain) {
            no_loop(chains, to, above, done)?;
        }
        above.pop();
        done.insert(chain);
    }
    Ok(())
}

/// From which built-in chains each chain is reached.
fn hooks(chains: &Chains) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut hooks: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (hook, _) in chains.iter().filter(|(name, _)| is_built_in(name)) {
        let mut pending = vec![hook.as_str()];
        while let Some(chain) = pending.pop() {
            if hooks.entry(chain).or_default().insert(hook) {
                pending.extend(chains[chain].iter().filter_map(Rule::chain));
            }
        }
    }
    hooks
}
