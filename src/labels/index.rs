//! An inverted index between selectors and objects, kept up to date change by change.
//!
//! ```
//! use svcplane::labels::{Index, Labels, Selector};
//!
//! let mut index = Index::default();
//! index.insert_selector("default", "redis", "app=redis".parse::<Selector>()?);
//! index.insert_object("default", "pod-1", &Labels::from_iter([("app", "redis")]));
//!
//! // One changed pod: which Services does it matter to?
//! let labels = Labels::from_iter([("app", "redis"), ("tier", "store")]);
//! assert_eq!(index.selectors_matching("default", &labels), [&"redis"]);
//! // One changed Service: which pods does it have now?
//! assert_eq!(index.objects_matching("default", &"app in (redis)".parse()?), [&"pod-1"]);
//! # Ok::<(), svcplane::labels::ParseSelectorError>(())
//! ```
//!
//! Each selector is filed under the pair (`=`, `==`, `in`) that the fewest selectors are filed under, or under a key
//! that has to exist, or else apart; an object's labels then name all the selectors that can match it, and only
//! those are looked at. Objects are filed under each of their pairs. Labels are interned: a pair is stored once,
//! however many objects have it, and goes with the last of them.
//!
//! Filing an object costs O(labels), a selector O(selectors filed in the same place). Selectors of an object: a look-up for each
//! label, and a match for each selector filed there. Objects of a selector: a match for each object that has the rarest of its
//! pairs; a selector without `=`, `==` or `in` looks at every object of the namespace. Results are sorted by id.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::hash::{BuildHasher, BuildHasherDefault, Hash};

use hashbrown::{HashMap, HashTable};
use siphasher::sip::SipHasher13;

use super::{Labels, Operator, Requirement, Selector};

type Sip = BuildHasherDefault<SipHasher13>;

/// An inverted index between selectors with ids `S` and objects with ids `O`, each in a namespace.
#[derive(Clone)]
pub struct Index<S, O> {
    pairs: Pairs,
    namespaces: HashMap<Box<str>, Namespace, Sip>,
    selectors: Slab<S, FiledSelector>,
    objects: Slab<O, FiledObject>,
}

#[derive(Clone, Default)]
struct Namespace {
    /// What is filed under each pair.
    by_pair: HashMap<u32, Filed, Sip>,
    /// The selectors filed under a key that has to exist.
    by_key: HashMap<Box<str>, Vec<u32>, Sip>,
    /// The selectors that nothing that an object has could find.
    apart: Vec<u32>,
    objects: Vec<u32>,
}

#[derive(Clone, Default)]
struct Filed {
    selectors: Vec<u32>,
    objects: Vec<u32>,
}

#[derive(Clone)]
struct FiledSelector {
    namespace: Box<str>,
    selector: Selector,
    home: Home,
}

/// Where a selector is filed.
#[derive(Clone)]
enum Home {
    Pairs(Vec<u32>),
    Key(Box<str>),
    Apart,
    /// It matches nothing.
    Nowhere,
}

#[derive(Clone)]
struct FiledObject {
    namespace: Box<str>,
    /// Its labels by key, each with its position among the objects of the pair.
    pairs: Box<[(u32, u32)]>,
    /// Its position among the objects of the namespace.
    position: u32,
}

impl<S: Ord + Hash + Clone, O: Ord + Hash + Clone> Index<S, O> {
    /// Files a selector, in place of an earlier one of its id.
    pub fn insert_selector(&mut self, namespace: &str, id: S, selector: Selector) {
        self.remove_selector(&id);
        let home = self.choose_home(namespace, &selector);
        let slot = self.selectors.insert(
            id,
            FiledSelector { namespace: namespace.into(), selector, home: home.clone() },
        );
        let space = entry(&mut self.namespaces, namespace);
        match home {
            Home::Pairs(pairs) => {
                for pair in pairs {
                    space.by_pair.entry(pair).or_default().selectors.push(slot);
                }
            }
            Home::Key(key) => space.by_key.entry(key).or_default().push(slot),
            Home::Apart => space.apart.push(slot),
            Home::Nowhere => {}
        }
    }

    /// Takes a selector out. False if it was not there.
    pub fn remove_selector(&mut self, id: &S) -> bool {
        let Some((slot, filed)) = self.selectors.remove(id) else { return false };
        let Some(space) = self.namespaces.get_mut(&filed.namespace) else { return true };
        match filed.home {
            Home::Pairs(pairs) => {
                for pair in pairs {
                    if let Some(here) = space.by_pair.get_mut(&pair) {
                        here.selectors.retain(|&other| other != slot);
                        if here.selectors.is_empty() && here.objects.is_empty() {
                            space.by_pair.remove(&pair);
                        }
                    }
                    self.pairs.release(pair);
                }
            }
            Home::Key(key) => {
                if let Some(here) = space.by_key.get_mut(&key) {
                    here.retain(|&other| other != slot);
                    if here.is_empty() {
                        space.by_key.remove(&key);
                    }
                }
            }
            Home::Apart => space.apart.retain(|&other| other != slot),
            Home::Nowhere => {}
        }
        self.drop_if_empty(&filed.namespace);
        true
    }

    /// Files an object, in place of an earlier one of its id.
    pub fn insert_object(&mut self, namespace: &str, id: O, labels: &Labels) {
        self.remove_object(&id);
        let slot = self.objects.vacancy();
        let space = entry(&mut self.namespaces, namespace);
        let mut pairs = Vec::with_capacity(labels.len());
        for (key, value) in labels.iter() {
            let pair = self.pairs.acquire(key, value);
            let here = &mut space.by_pair.entry(pair).or_default().objects;
            pairs.push((pair, index(here.len())));
            here.push(slot);
        }
        let position = index(space.objects.len());
        space.objects.push(slot);
        let filed = FiledObject { namespace: namespace.into(), pairs: pairs.into(), position };
        self.objects.insert(id, filed);
    }

    /// Takes an object out. False if it was not there.
    pub fn remove_object(&mut self, id: &O) -> bool {
        let Some((_, filed)) = self.objects.remove(id) else { return false };
        let Some(space) = self.namespaces.get_mut(&filed.namespace) else { return true };
        for &(pair, position) in &filed.pairs {
            if let Some(here) = space.by_pair.get_mut(&pair) {
                here.objects.swap_remove(position as usize);
                let moved = here.objects.get(position as usize);
                if let Some(moved) = moved.and_then(|&moved| self.objects.at_mut(moved)) {
                    moved.moved(pair, position);
                }
                if here.selectors.is_empty() && here.objects.is_empty() {
                    space.by_pair.remove(&pair);
                }
            }
            self.pairs.release(pair);
        }
        space.objects.swap_remove(filed.position as usize);
        let moved = space.objects.get(filed.position as usize);
        if let Some(moved) = moved.and_then(|&moved| self.objects.at_mut(moved)) {
            moved.position = filed.position;
        }
        self.drop_if_empty(&filed.namespace);
        true
    }

    /// The selectors of a namespace that match these labels, whether or not an object with them is filed.
    pub fn selectors_matching(&self, namespace: &str, labels: &Labels) -> Vec<&S> {
        let Some(space) = self.namespaces.get(namespace) else { return Vec::new() };
        let mut found = Vec::new();
        let mut look = |slots: &[u32]| {
            for &slot in slots {
                let Some((id, filed)) = self.selectors.at(slot) else { continue };
                if filed.selector.matches(labels) {
                    found.push(id);
                }
            }
        };
        for (key, value) in labels.iter() {
            let pair = self.pairs.find(key, value);
            if let Some(here) = pair.and_then(|pair| space.by_pair.get(&pair)) {
                look(&here.selectors);
            }
            if !space.by_key.is_empty() {
                look(space.by_key.get(key).map_or(&[], Vec::as_slice));
            }
        }
        look(&space.apart);
        found.sort_unstable();
        found
    }

    /// The objects of a namespace that a selector matches, whether or not it is filed.
    pub fn objects_matching(&self, namespace: &str, selector: &Selector) -> Vec<&O> {
        let (Some(space), Some(requirements)) =
            (self.namespaces.get(namespace), selector.requirements())
        else {
            return Vec::new();
        };
        let filed = |pair: &u32| space.by_pair.get(pair).map_or(&[][..], |here| &here.objects);
        let rarest = requirements
            .iter()
            .filter(|requirement| names_values(requirement))
            .map(|requirement| {
                let pairs: Vec<u32> = requirement
                    .values()
                    .iter()
                    .filter_map(|value| self.pairs.find(requirement.key(), value))
                    .collect();
                (pairs.iter().map(|pair| filed(pair).len()).sum::<usize>(), pairs)
            })
            .min_by_key(|(count, _)| *count);
        let mut found = Vec::new();
        let mut look = |slots: &[u32]| {
            for &slot in slots {
                let Some((id, object)) = self.objects.at(slot) else { continue };
                let value = |key: &str| self.pairs.value(&object.pairs, key);
                if requirements
                    .iter()
                    .all(|requirement| requirement.holds(value(requirement.key())))
                {
                    found.push(id);
                }
            }
        };
        match rarest {
            Some((_, pairs)) => pairs.iter().for_each(|pair| look(filed(pair))),
            None => look(&space.objects),
        }
        found.sort_unstable();
        // A requirement built by hand may name a value twice.
        found.dedup();
        found
    }

    /// How many selectors are filed.
    pub fn selectors(&self) -> usize {
        self.selectors.len()
    }

    /// How many objects are filed.
    pub fn objects(&self) -> usize {
        self.objects.len()
    }

    fn drop_if_empty(&mut self, namespace: &str) {
        let empty = |space: &Namespace| {
            space.objects.is_empty()
                && space.by_pair.is_empty()
                && space.by_key.is_empty()
                && space.apart.is_empty()
        };
        if self.namespaces.get(namespace).is_some_and(empty) {
            self.namespaces.remove(namespace);
        }
    }

    /// Where a selector is found by the fewest objects that it does not match; its pairs are counted as used.
    fn choose_home(&mut self, namespace: &str, selector: &Selector) -> Home {
        let Some(requirements) = selector.requirements() else { return Home::Nowhere };
        let space = self.namespaces.get(namespace);
        let crowd = |requirement: &&Requirement| {
            let filed = requirement.values().iter().filter_map(|value| {
                let pair = self.pairs.find(requirement.key(), value)?;
                Some(space?.by_pair.get(&pair)?.selectors.len())
            });
            filed.sum::<usize>()
        };
        if let Some(best) = requirements.iter().filter(|r| names_values(r)).min_by_key(crowd) {
            let mut values: Vec<&str> = best.values().iter().map(|value| &**value).collect();
            values.sort_unstable();
            values.dedup();
            let key = best.key();
            return Home::Pairs(
                values.iter().map(|value| self.pairs.acquire(key, value)).collect(),
            );
        }
        let needs_key = |r: &&Requirement| {
            matches!(r.operator(), Operator::Exists | Operator::GreaterThan | Operator::LessThan)
        };
        match requirements.iter().find(needs_key) {
            Some(requirement) => Home::Key(requirement.key().into()),
            None => Home::Apart,
        }
    }
}

impl<S, O> Default for Index<S, O> {
    fn default() -> Self {
        Self {
            pairs: Pairs::default(),
            namespaces: HashMap::default(),
            selectors: Slab::default(),
            objects: Slab::default(),
        }
    }
}

impl<S, O> fmt::Debug for Index<S, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index")
            .field("selectors", &self.selectors.len())
            .field("objects", &self.objects.len())
            .field("pairs", &self.pairs.table.len())
            .finish_non_exhaustive()
    }
}

/// Whether an object that it holds for has one of the requirement's values.
fn names_values(requirement: &Requirement) -> bool {
    matches!(requirement.operator(), Operator::Equals | Operator::DoubleEquals | Operator::In)
}

fn entry<'a>(
    namespaces: &'a mut HashMap<Box<str>, Namespace, Sip>,
    name: &str,
) -> &'a mut Namespace {
    namespaces.entry(name.into()).or_default()
}

impl FiledObject {
    fn moved(&mut self, pair: u32, position: u32) {
        if let Some(filed) = self.pairs.iter_mut().find(|(p, _)| *p == pair) {
            filed.1 = position;
        }
    }
}

/// Pairs of key and value, each stored once for as long as it is used.
#[derive(Clone, Default)]
struct Pairs {
    table: HashTable<u32>,
    slots: Vec<Pair>,
    free: Vec<u32>,
}

#[derive(Clone)]
struct Pair {
    key: Box<str>,
    value: Box<str>,
    users: usize,
}

impl Pairs {
    fn hash(key: &str, value: &str) -> u64 {
        Sip::default().hash_one((key, value))
    }

    fn find(&self, key: &str, value: &str) -> Option<u32> {
        let same = |&at: &u32| {
            let pair = &self.slots[at as usize];
            *pair.key == *key && *pair.value == *value
        };
        self.table.find(Self::hash(key, value), same).copied()
    }

    fn acquire(&mut self, key: &str, value: &str) -> u32 {
        if let Some(at) = self.find(key, value) {
            self.slots[at as usize].users += 1;
            return at;
        }
        let pair = Pair { key: key.into(), value: value.into(), users: 1 };
        let at = if let Some(at) = self.free.pop() {
            self.slots[at as usize] = pair;
            at
        } else {
            self.slots.push(pair);
            index(self.slots.len() - 1)
        };
        let slots = &self.slots;
        self.table.insert_unique(Self::hash(key, value), at, |&at| {
            let pair = &slots[at as usize];
            Self::hash(&pair.key, &pair.value)
        });
        at
    }

    fn release(&mut self, at: u32) {
        let pair = &mut self.slots[at as usize];
        pair.users -= 1;
        if pair.users == 0 {
            let hash = Self::hash(&pair.key, &pair.value);
            if let Ok(found) = self.table.find_entry(hash, |&other| other == at) {
                found.remove();
            }
            (pair.key, pair.value) = (Box::default(), Box::default());
            self.free.push(at);
        }
    }

    /// The value of a key among pairs that are sorted by key.
    fn value(&self, pairs: &[(u32, u32)], key: &str) -> Option<&str> {
        let pair = |at: u32| &self.slots[at as usize];
        let found = pairs.binary_search_by(|&(at, _)| (*pair(at).key).cmp(key)).ok()?;
        Some(&pair(pairs[found].0).value)
    }
}

/// Entries with ids, at small numbers that stay theirs.
#[derive(Clone)]
struct Slab<K, V> {
    slots: Vec<Option<(K, V)>>,
    free: Vec<u32>,
    by_id: HashMap<K, u32, Sip>,
}

impl<K, V> Default for Slab<K, V> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), by_id: HashMap::default() }
    }
}

impl<K, V> Slab<K, V> {
    fn len(&self) -> usize {
        self.by_id.len()
    }
}

impl<K: Eq + Hash + Clone, V> Slab<K, V> {
    /// The number that the next entry gets.
    fn vacancy(&self) -> u32 {
        self.free.last().copied().unwrap_or_else(|| index(self.slots.len()))
    }

    fn insert(&mut self, id: K, value: V) -> u32 {
        let slot = self.vacancy();
        self.by_id.insert(id.clone(), slot);
        if self.free.pop().is_some() {
            self.slots[slot as usize] = Some((id, value));
        } else {
            self.slots.push(Some((id, value)));
        }
        slot
    }

    fn remove(&mut self, id: &K) -> Option<(u32, V)> {
        let slot = self.by_id.remove(id)?;
        let (_, value) = self.slots[slot as usize].take()?;
        self.free.push(slot);
        Some((slot, value))
    }

    fn at(&self, slot: u32) -> Option<&(K, V)> {
        self.slots.get(slot as usize)?.as_ref()
    }

    fn at_mut(&mut self, slot: u32) -> Option<&mut V> {
        self.slots.get_mut(slot as usize)?.as_mut().map(|(_, value)| value)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "2^32 entries of over 16 bytes are not held in memory"
)]
const fn index(at: usize) -> u32 {
    at as u32
}
