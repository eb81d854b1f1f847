//! A tree over claims, by the digits of address, transport and port: which chains there are, and which of them a change makes
//! others.
//!
//! A range of claims is split by its next digit as long as it holds more than a few. What the tree is like is a function of
//! the claims alone, and what it is like at some claim follows from the claims near by: neither needs all of them.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

use super::Prefix;
use super::chains::{ChainName, Chains, Table};
use crate::net::{IpFamily, Protocol};
use crate::plan::Claim;
use crate::rules::{Hash, Text};

/// A range with no more claims than this is not split: a digit has as many values.
const LEAF: usize = 16;

/// Claims in order.
#[derive(Clone, Copy)]
pub(super) struct Claims<'a> {
    known: &'a BTreeSet<Claim>,
    /// Of these, those that are left out.
    without: &'a BTreeSet<Claim>,
    /// Besides these.
    with: &'a BTreeSet<Claim>,
}

static NONE: BTreeSet<Claim> = BTreeSet::new();

impl<'a> Claims<'a> {
    pub(super) const fn new(known: &'a BTreeSet<Claim>) -> Self {
        Self { known, without: &NONE, with: &NONE }
    }

    fn of(self, range: Range) -> impl DoubleEndedIterator<Item = &'a Claim> {
        let (first, last) = range.ends();
        let kept = self.known.range(first..=last).filter(|claim| !self.without.contains(claim));
        kept.chain(self.with.range(first..=last))
    }

    fn first_and_last(self, range: Range) -> Option<(Claim, Claim)> {
        let (first, last) = range.ends();
        let kept = || self.known.range(first..=last).filter(|claim| !self.without.contains(claim));
        let with = || self.with.range(first..=last);
        let first = kept().next().into_iter().chain(with().next()).min()?;
        let last = kept().next_back().into_iter().chain(with().next_back()).max()?;
        Some((*first, *last))
    }

    /// The ranges that one is split into; `None` if it is not.
    fn split(self, range: Range) -> Option<Vec<Range>> {
        self.of(range).nth(LEAF)?;
        let (first, last) = self.first_and_last(range)?;
        let common = Range::common(first, last);
        let children = (0..=0xf).filter_map(|digit| {
            let child = common.child(digit)?;
            let (first, last) = self.first_and_last(child)?;
            // The digits that all of a range's claims have in common decide nothing.
            Some(if self.of(child).nth(LEAF).is_some() {
                Range::common(first, last)
            } else {
                child
            })
        });
        Some(children.collect())
    }
}

/// The claims whose first digits are these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Range {
    family: IpFamily,
    /// Whether these claims have addresses.
    addressed: bool,
    len: u32,
    /// What is behind the first digits is 0.
    ip: u128,
    /// The transport and, in four digits, the port.
    rest: u32,
}

/// Of transport and port.
const REST_DIGITS: u32 = 5;
const REST: u32 = 0xf_ffff;

const PROTOCOLS: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];

impl Range {
    /// All claims of a family with addresses, or without.
    pub(super) const fn whole(family: IpFamily, addressed: bool) -> Self {
        Self { family, addressed, len: 0, ip: 0, rest: 0 }
    }

    fn claim((family, ip, protocol, port): Claim) -> Self {
        let ip_bits = match ip {
            None => 0,
            Some(IpAddr::V4(ip)) => ip.to_bits().into(),
            Some(IpAddr::V6(ip)) => ip.to_bits(),
        };
        let protocol = PROTOCOLS.iter().zip(0..).find(|(known, _)| **known == protocol);
        let rest = protocol.map_or(0, |(_, digit)| digit << 16) | u32::from(port);
        let mut range = Self { ip: ip_bits, rest, ..Self::whole(family, ip.is_some()) };
        range.len = range.ip_digits() + REST_DIGITS;
        range
    }

    const fn ip_digits(self) -> u32 {
        match (self.addressed, self.family) {
            (false, _) => 0,
            (true, IpFamily::V4) => 8,
            (true, IpFamily::V6) => 32,
        }
    }

    /// The bits of address and rest that are behind the first digits.
    fn open_bits(self, len: u32) -> (u128, u32) {
        let all = self.ip_digits();
        let open = 4 * all.saturating_sub(len);
        let ip = if open == 0 { 0 } else { u128::MAX >> (128 - open) };
        let open = 4 * REST_DIGITS.saturating_sub(len.saturating_sub(all));
        (ip, if open == 0 { 0 } else { REST >> (20 - open) })
    }

    /// The digits that two claims of one family have in common.
    fn common(a: Claim, b: Claim) -> Self {
        let (a, b) = (Self::claim(a), Self::claim(b));
        let digits = |bits: u32| bits.div_ceil(4);
        let (ip, rest) = (a.ip ^ b.ip, a.rest ^ b.rest);
        let len = if ip == 0 {
            a.len - digits(u32::BITS - rest.leading_zeros())
        } else {
            a.ip_digits() - digits(u128::BITS - ip.leading_zeros())
        };
        let (open_ip, open_rest) = a.open_bits(len);
        Self { len, ip: a.ip & !open_ip, rest: a.rest & !open_rest, ..a }
    }

    /// One digit more.
    fn child(self, digit: u8) -> Option<Self> {
        let (mut child, all) = (self, self.ip_digits());
        child.len += 1;
        if child.len <= all {
            child.ip |= u128::from(digit) << (4 * (all - child.len));
        } else {
            let place = (all + REST_DIGITS).checked_sub(child.len)?;
            if place == 4 && usize::from(digit) >= PROTOCOLS.len() {
                return None;
            }
            child.rest |= u32::from(digit) << (4 * place);
        }
        Some(child)
    }

    fn ends(self) -> (Claim, Claim) {
        let (ip, rest) = self.open_bits(self.len);
        (self.at(self.ip, self.rest), self.at(self.ip | ip, self.rest | rest))
    }

    fn at(self, ip: u128, rest: u32) -> Claim {
        let ip = self.addressed.then(|| match self.family {
            IpFamily::V4 => {
                let [.., a, b, c, d] = ip.to_be_bytes();
                IpAddr::from([a, b, c, d])
            }
            IpFamily::V6 => IpAddr::from(ip.to_be_bytes()),
        });
        let [.., digit, high, low] = rest.to_be_bytes();
        let protocol = PROTOCOLS[usize::from(digit).min(PROTOCOLS.len() - 1)];
        (self.family, ip, protocol, u16::from_be_bytes([high, low]))
    }

    /// What a packet to one of these claims is told by.
    fn matches(self, rules: &mut Text) {
        let ((_, ip, protocol, first), (_, _, _, last)) = self.ends();
        let all = self.ip_digits();
        if let Some(ip) = ip {
            rules.str("-d ").ip(ip);
            if self.len < all {
                rules.str("/").number(4 * self.len);
            }
            rules.str(" ");
        }
        if self.len > all {
            let protocol = protocol.as_lower_str();
            rules.str("-p ").str(protocol);
            if self.len > all + 1 {
                rules.str(" -m ").str(protocol).str(" --dport ").number(first.into());
                if first != last {
                    rules.str(":").number(last.into());
                }
            }
            rules.str(" ");
        }
    }

    /// The digits themselves, in lower case, if they fit a chain's name; what stands for them, in upper case, otherwise.
    fn name(self) -> String {
        // All of them are 40 at most: too many for one number.
        let all = self.ip_digits() as usize;
        let digits = alloc::format!("{:0all$x}{:05x}", self.ip, self.rest);
        let digits = &digits[digits.len() - all - REST_DIGITS as usize..][..self.len as usize];
        if digits.len() <= 16 { digits.into() } else { Hash::of(digits.as_bytes()).as_str().into() }
    }
}

/// The claims that came, went or are treated otherwise: whether each was there before, and is there now.
pub(super) type Changed = BTreeMap<Claim, (bool, bool)>;

/// Where a tree is, and how its chains are called.
#[derive(Clone, Copy)]
pub(super) struct Root<'a> {
    pub(super) range: Range,
    /// The chain in which it begins.
    pub(super) chain: ChainName,
    /// What the names of the other chains consist of, besides a range's name.
    pub(super) prefix: &'a Prefix,
    pub(super) kind: &'a str,
}

impl Root<'_> {
    fn chain(self, range: Range) -> ChainName {
        if range == self.range {
            self.chain
        } else {
            ChainName::new(self.prefix, self.kind, range.name().as_bytes())
        }
    }

    /// Writes the chain of a range: where it leads, or for a leaf the rules for each claim. `rules` writes those, and for `None`
    /// what is behind the tree in the chain in which it begins.
    fn write_chain(
        self,
        claims: Claims<'_>,
        range: Range,
        children: Option<&[Range]>,
        chains: &mut Chains,
        rules: impl Fn(&mut Chains, Option<&Claim>),
    ) {
        chains.begin(self.chain(range));
        match children {
            None => claims.of(range).for_each(|claim| rules(chains, Some(claim))),
            Some(children) => {
                for child in children {
                    let rule = chains.rule();
                    child.matches(rule);
                    rule.str("-j ").chain(&self.chain(*child)).str("\n");
                }
            }
        }
        if range == self.range {
            rules(chains, None);
        }
    }

    /// Writes all chains of the tree.
    pub(super) fn write(
        self,
        claims: Claims<'_>,
        chains: &mut Chains,
        rules: impl Fn(&mut Chains, Option<&Claim>),
    ) {
        let mut pending = alloc::vec![self.range];
        while let Some(range) = pending.pop() {
            let children = claims.split(range);
            self.write_chain(claims, range, children.as_deref(), chains, &rules);
            pending.extend(children.into_iter().flatten());
        }
    }

    /// Writes the chains that are other than they were, and names those that are no more.
    pub(super) fn write_changed(
        self,
        claims: Claims<'_>,
        changed: &Changed,
        table: &mut Table,
        rules: impl Fn(&mut Chains, Option<&Claim>),
    ) {
        if changed.is_empty() {
            return;
        }
        let of = |was: bool, is: bool| -> BTreeSet<Claim> {
            let claims = changed.iter().filter(|(_, kind)| **kind == (was, is));
            claims.map(|(claim, _)| *claim).collect()
        };
        let (added, removed) = (of(false, true), of(true, false));
        let earlier = Claims { known: claims.known, without: &added, with: &removed };
        let (before, after) = (self.near(earlier, changed), self.near(claims, changed));
        for (&range, children) in &after {
            let same = match (before.get(&range), children) {
                (Some(Near::Untouched), Near::Untouched) => true,
                (Some(Near::Split(known)), Near::Split(children)) => known == children,
                _ => false,
            };
            if !same {
                let split = match children {
                    Near::Untouched => &claims.split(range),
                    Near::Whole => &None,
                    Near::Split(children) => &Some(children.clone()),
                };
                let chains = &mut table.chains;
                self.write_chain(claims, range, split.as_deref(), chains, &rules);
            }
        }
        let dead = before.keys().filter(|range| !after.contains_key(range));
        table.dead.extend(dead.map(|range| self.chain(*range)));
    }

    /// The ranges that hold what has changed and those next below. All others are what they were: they hold what they held, and so
    /// do those above them.
    fn near(self, claims: Claims<'_>, changed: &Changed) -> BTreeMap<Range, Near> {
        let mut near = BTreeMap::new();
        let mut pending = alloc::vec![self.range];
        while let Some(range) = pending.pop() {
            let what = if !touches(range, changed) {
                Near::Untouched
            } else if let Some(children) = claims.split(range) {
                pending.extend(&children);
                Near::Split(children)
            } else {
                Near::Whole
            };
            near.insert(range, what);
        }
        near
    }
}

/// A range near a change: whether anything in it changed, and into what it is split.
enum Near {
    Untouched,
    Whole,
    Split(Vec<Range>),
}

fn touches(range: Range, changed: &Changed) -> bool {
    let (first, last) = range.ends();
    changed.range(first..=last).next().is_some()
}
