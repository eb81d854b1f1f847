//! Labels, and the selectors that pick objects by them.
//!
//! ```
//! use svcplane::labels::{Labels, Selector};
//!
//! // A Service's selector: every pair has to be there, other labels do not matter.
//! let selector = Selector::from(Labels::from_iter([("app", "redis"), ("role", "log-store")]));
//! let pod = Labels::from_iter([("app", "redis"), ("role", "log-store"), ("tier", "backend")]);
//! assert!(selector.matches(&pod));
//! assert_eq!(selector.to_string(), "app=redis,role=log-store");
//! ```
//!
//! A selector without any pair matches everything. A Service *without a selector* selects nothing; that
//! is the `None` in [`Service::selector`](crate::service::Service::selector), not an empty selector.
//!
//! Source: Kubernetes `labels` package and API types. Matching merges two sorted lists: O(pairs of both).

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use crate::name::{NameError, check_dns1123_subdomain};

/// A set of labels: keys with their values, sorted by key.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels(Box<[(Box<str>, Box<str>)]>);

impl Labels {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|(k, _)| (**k).cmp(key)).ok()?;
        Some(&self.0[at].1)
    }

    /// Whether a key is there, with any value.
    pub fn contains_key(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// The pairs, by key.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> + Clone {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }

    /// How many pairs there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no pair.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<K: Into<Box<str>>, V: Into<Box<str>>> FromIterator<(K, V)> for Labels {
    /// Of several values for one key the last stays.
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut pairs: Vec<(Box<str>, Box<str>)> =
            pairs.into_iter().map(|(k, v)| (k.into(), v.into())).collect();
        pairs.sort_by(|a, b| a.0.cmp(&b.0));
        pairs.dedup_by(|later, earlier| {
            let same = later.0 == earlier.0;
            if same {
                core::mem::swap(later, earlier);
            }
            same
        });
        Self(pairs.into())
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// A condition on labels.
///
/// Built from the pairs that have to be there; no pair at all matches every object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Selector {
    equals: Labels,
}

impl Selector {
    /// Whether an object with these labels is selected.
    pub fn matches(&self, labels: &Labels) -> bool {
        let mut have = labels.iter();
        self.equals.iter().all(|(key, value)| {
            have.by_ref().find(|&(k, _)| k >= key).is_some_and(|(k, v)| k == key && v == value)
        })
    }

    /// The pairs that the selector asks for.
    pub fn as_labels(&self) -> &Labels {
        &self.equals
    }
}

impl From<Labels> for Selector {
    fn from(equals: Labels) -> Self {
        Self { equals }
    }
}

impl fmt::Display for Selector {
    /// `key=value` pairs in the order of their keys, joined by commas.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (key, value)) in self.equals.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma}{key}={value}")?;
        }
        Ok(())
    }
}

const KEY: &str = "an optional prefix (RFC 1123 subdomain) and '/', then a name";
const PREFIX: &str =
    "before the '/': RFC 1123 labels (lower-case letters, digits and '-') joined by single dots";
const NAME: &str = "letters, digits, '-', '_' or '.', beginning and ending with a letter or digit";

/// Checks a label's key: `[prefix/]name`, the prefix an RFC 1123 subdomain of at most 253 bytes, the name
/// 1–63 bytes. Annotations and `appProtocol` have keys of the same form.
///
/// # Errors
///
/// What is wrong with it.
pub fn check_key(key: &str) -> Result<(), NameError> {
    let name = match key.split_once('/') {
        None => key,
        Some((_, name)) if name.contains('/') => {
            return Err(NameError::Malformed { expected: KEY });
        }
        Some((prefix, name)) => {
            check_dns1123_subdomain(prefix).map_err(|error| match error {
                NameError::TooLong { .. } => error,
                _ => NameError::Malformed { expected: PREFIX },
            })?;
            name
        }
    };
    if name.is_empty() {
        return Err(NameError::Malformed { expected: KEY });
    }
    check_value(name)
}

/// Checks a label's value: 0–63 bytes of letters, digits, `-`, `_` and `.`, beginning and ending with a
/// letter or digit unless empty.
///
/// # Errors
///
/// What is wrong with it.
pub fn check_value(value: &str) -> Result<(), NameError> {
    if value.len() > 63 {
        return Err(NameError::TooLong { max: 63 });
    }
    let bytes = value.as_bytes();
    let inner = |b: &u8| b.is_ascii_alphanumeric() || b"-_.".contains(b);
    let ends = [bytes.first(), bytes.last()];
    let legal = ends.iter().flatten().all(|b| b.is_ascii_alphanumeric()) && bytes.iter().all(inner);
    if legal { Ok(()) } else { Err(NameError::Malformed { expected: NAME }) }
}
