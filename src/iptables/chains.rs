//! Chains with their rules, and the input that they make.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::fmt;

use super::Prefix;
use crate::rules::Text;

/// The name of a chain: at most [`Self::MAX`] bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ChainName {
    bytes: [u8; Self::MAX],
    len: usize,
}

impl ChainName {
    /// How many bytes the kernel takes.
    pub(super) const MAX: usize = 28;

    /// `PREFIX-KIND-REST`, or `PREFIX-KIND`.
    pub(super) fn new(prefix: &Prefix, kind: &str, rest: &[u8]) -> Self {
        let mut name = Self { bytes: [0; Self::MAX], len: 0 };
        name.push(prefix.as_str().as_bytes());
        name.push(b"-");
        name.push(kind.as_bytes());
        if !rest.is_empty() {
            name.push(b"-");
            name.push(rest);
        }
        name
    }

    /// The name of a chain that there is.
    pub(super) fn of(name: &str) -> Self {
        let mut chain = Self { bytes: [0; Self::MAX], len: 0 };
        chain.push(name.as_bytes());
        // All that are written here are ASCII.
        chain.bytes.iter_mut().for_each(|byte| *byte &= 0x7f);
        chain
    }

    /// There is room for the longest prefix, the longest kind and a hash, and the kernel has none longer.
    #[inline]
    fn push(&mut self, part: &[u8]) {
        let (start, room) = (self.len, self.bytes.len());
        let end = room.min(start + part.len());
        self.bytes[start..end].copy_from_slice(&part[..end - start]);
        self.len = end;
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Text {
    #[inline]
    pub(super) fn chain(&mut self, name: &ChainName) -> &mut Self {
        self.ascii(name.as_bytes())
    }
}

impl fmt::Display for ChainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(core::str::from_utf8(self.as_bytes()).unwrap_or_default())
    }
}

/// Chains of one table, one after the other.
#[derive(Default, PartialEq, Eq)]
pub(super) struct Chains {
    /// Each with the place in the text where its rules begin.
    names: Vec<(ChainName, usize)>,
    text: Text,
}

impl Chains {
    /// A single chain without rules.
    pub(super) fn of(name: ChainName) -> Self {
        let mut chains = Self::default();
        chains.begin(name);
        chains
    }

    /// Begins a chain, to which the rules belong that are added next.
    pub(super) fn begin(&mut self, name: ChainName) {
        self.names.push((name, self.text.len()));
    }

    /// Adds a rule: what it matches and does, and a line's end, are to be written behind this.
    #[inline]
    pub(super) fn rule(&mut self) -> &mut Text {
        self.text.str("-A ");
        if let Some((name, _)) = self.names.last() {
            self.text.chain(name);
        }
        self.text.str(" ")
    }

    pub(super) fn has_rules(&self) -> bool {
        !self.text.is_empty()
    }

    pub(super) fn append(&mut self, others: &Self) {
        let behind = self.text.len();
        self.names.extend(others.names.iter().map(|(name, start)| (*name, behind + start)));
        self.text.text(&others.text);
    }

    pub(super) fn names(&self) -> impl Iterator<Item = ChainName> {
        self.names.iter().map(|(name, _)| *name)
    }

    fn iter(&self) -> impl Iterator<Item = (ChainName, &str)> {
        let ends = self.names.iter().skip(1).map(|(_, start)| *start).chain([self.text.len()]);
        let text = self.text.as_str();
        self.names.iter().zip(ends).map(|((name, start), end)| (*name, &text[*start..end]))
    }
}

/// What is done to a table.
#[derive(Default)]
pub(super) struct Table {
    /// Emptied and filled.
    pub(super) chains: Chains,
    /// Deleted: nothing leads there.
    pub(super) dead: Vec<ChainName>,
    /// What is done when all chains are there and before they are filled.
    pub(super) first: Text,
    /// What is done when they are.
    pub(super) last: Text,
}

impl Table {
    /// Leads from some chains to others.
    pub(super) fn change(&mut self, before: &Chains, after: &Chains) {
        let known: BTreeMap<ChainName, &str> = before.iter().collect();
        let mut gone = known.clone();
        for (name, rules) in after.iter() {
            gone.remove(&name);
            if known.get(&name) != Some(&rules) {
                self.chains.begin(name);
                self.chains.text.str(rules);
            }
        }
        self.dead.extend(gone.into_keys());
    }

    /// Deletes those of some chains that are not filled.
    pub(super) fn bury(&mut self, before: &Chains) {
        let alive: BTreeSet<ChainName> = self.chains.names().collect();
        self.dead.extend(before.names().filter(|name| !alive.contains(name)));
    }

    /// What is written before, and this table behind it.
    pub(super) fn write(self, name: &str, mut input: Text) -> Text {
        let Self { chains, dead, first, last } = self;
        if chains.names.is_empty() && dead.is_empty() && first.is_empty() && last.is_empty() {
            return input;
        }
        input.str("*").str(name).str("\n");
        for name in chains.names().chain(dead.iter().copied()) {
            input.str(":").chain(&name).str(" - [0:0]\n");
        }
        // The rules are most of it: they stay where they are.
        let mut input = chains.text.behind(input.text(&first));
        input.text(&last);
        for name in &dead {
            input.str("-X ").chain(name).str("\n");
        }
        input.str("COMMIT\n");
        input
    }
}
