//! The names of new slices: the Service's name, and five characters that no word is made of.

use alloc::collections::BTreeSet;
use alloc::string::String;
use core::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::name::{ObjectName, check_dns1123_subdomain};

/// As the API server completes names: no vowels, and nothing that looks like one.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX: usize = 5;
const SUFFIXES: u64 = 27_u64.pow(5);
/// Completed names are at most 63 bytes long.
const LONGEST_PREFIX: usize = 58;

/// `name-`, or the name alone if the dash would be too much.
pub(super) fn prefix(service: &str) -> String {
    let mut prefix = String::from(service);
    prefix.push('-');
    // A dash at the end is legal before what follows.
    let mut completed = prefix.clone();
    completed.pop();
    completed.push('a');
    if check_dns1123_subdomain(&completed).is_err() {
        prefix.pop();
    }
    prefix
}

/// Gives out names that are not taken.
pub(super) struct Names {
    namespace: String,
    prefix: String,
    taken: BTreeSet<ObjectName>,
    next: u64,
}

impl Names {
    pub(super) fn new<'a, I>(service: &ObjectName, seed: u64, taken: I) -> Self
    where
        I: IntoIterator<Item = &'a ObjectName>,
    {
        let mut hasher = SipHasher13::new_with_keys(seed, 0);
        hasher.write(service.as_str().as_bytes());
        let mut prefix = prefix(service.name());
        prefix.truncate(LONGEST_PREFIX);
        let here = |name: &&ObjectName| name.namespace() == service.namespace();
        Self {
            namespace: service.namespace().into(),
            prefix,
            taken: taken.into_iter().filter(here).cloned().collect(),
            next: hasher.finish() % SUFFIXES,
        }
    }

    /// `None` once all fourteen million are taken.
    pub(super) fn next(&mut self) -> Option<ObjectName> {
        // Not a multiple of three, as 27 is: the walk meets every suffix before it meets one again.
        const STRIDE: u64 = 8_867_909;
        for _ in 0..SUFFIXES {
            let mut name = self.prefix.clone();
            let mut rest = self.next;
            for _ in 0..SUFFIX {
                name.push(char::from(ALPHABET[(rest % 27) as usize]));
                rest /= 27;
            }
            self.next = (self.next + STRIDE) % SUFFIXES;
            let name = ObjectName::new(&self.namespace, &name).ok()?;
            if self.taken.insert(name.clone()) {
                return Some(name);
            }
        }
        None
    }
}
