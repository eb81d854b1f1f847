//! Labels, and the selectors that pick objects by them.
//!
//! ```
//! use svcplane::labels::{Labels, Selector};
//!
//! let selector: Selector = "app=redis, tier in (cache, store), !legacy".parse()?;
//! let pod = Labels::from_iter([("app", "redis"), ("tier", "store"), ("zone", "a")]);
//! assert!(selector.matches(&pod));
//! assert_eq!(selector.to_string(), "app=redis,!legacy,tier in (cache,store)");
//!
//! let error = "app==a==b".parse::<Selector>().unwrap_err();
//! assert_eq!(error.to_string(), "at byte 6: found `==`, expected `,` or the end");
//! # Ok::<(), svcplane::labels::ParseSelectorError>(())
//! ```
//!
//! An empty selector matches everything, and there is one that matches [nothing](Selector::nothing). A
//! Service's selector is neither: it is a set of [`Labels`] that a pod has to have, and without any it selects
//! nothing.
//!
//! Source: Kubernetes `labels` package. Matching looks up each requirement's key in sorted labels: O(r · log l).

mod index;
mod parse;
mod requirement;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

pub use index::Index;
pub use parse::ParseSelectorError;
pub use requirement::{Operator, Requirement};

use crate::field::{FieldError, Path};
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

    /// Whether every pair of `others` is there.
    pub fn contains_all(&self, others: &Self) -> bool {
        let mut have = self.iter();
        others.iter().all(|(key, value)| {
            have.by_ref().find(|&(k, _)| k >= key).is_some_and(|(k, v)| k == key && v == value)
        })
    }

    /// Whether some key is in both with different values.
    pub fn conflicts_with(&self, other: &Self) -> bool {
        self.iter().any(|(key, value)| other.get(key).is_some_and(|v| v != value))
    }

    /// The pairs of both; where both have a key, `over`'s value.
    #[must_use]
    pub fn merged_with(&self, over: &Self) -> Self {
        self.iter().chain(over.iter()).collect()
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

impl FromStr for Labels {
    type Err = FieldError;

    /// `key=value` pairs joined by commas, blanks around keys and values ignored; the empty text is no pair.
    ///
    /// Source: Kubernetes `ConvertSelectorToLabelsMap`.
    fn from_str(text: &str) -> Result<Self, FieldError> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let root = Path::root("labels");
        let mut pairs = Vec::new();
        for (i, pair) in text.split(',').enumerate() {
            let path = root.index(i);
            let parts: Vec<&str> = pair.split('=').map(str::trim).collect();
            let [key, value] = parts[..] else {
                return Err(FieldError::text(&path, pair, &"expected key=value"));
            };
            check_key(key).map_err(|error| FieldError::text(&path, key, &error))?;
            check_value(value).map_err(|error| FieldError::text(&path, value, &error))?;
            pairs.push((key, value));
        }
        Ok(pairs.into_iter().collect())
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl fmt::Display for Labels {
    /// `key=value` pairs joined by commas, in the order of these texts (in which `a-b=2` is before `a=1`).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut pairs: Vec<String> =
            self.iter().map(|(key, value)| alloc::format!("{key}={value}")).collect();
        pairs.sort_unstable();
        f.write_str(&pairs.join(","))
    }
}

/// A condition on labels: requirements that all have to hold, by key.
///
/// No requirement matches everything; [`Selector::nothing`] matches nothing. Read from text by [`FromStr`] or
/// [`Selector::parse`], from `matchLabels` and `matchExpressions` by
/// [`k8s::LabelSelector::convert`](crate::k8s::LabelSelector::convert).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Selector {
    /// `None` matches nothing.
    requirements: Option<Box<[Requirement]>>,
}

impl Selector {
    /// The selector that matches everything.
    pub fn everything() -> Self {
        Self { requirements: Some(Box::default()) }
    }

    /// The selector that matches nothing. Its text is empty, as is that of [`everything`](Self::everything).
    pub const fn nothing() -> Self {
        Self { requirements: None }
    }

    /// A selector of these requirements, sorted by key; those of one key keep their order.
    pub fn new<I: IntoIterator<Item = Requirement>>(requirements: I) -> Self {
        let mut requirements: Vec<Requirement> = requirements.into_iter().collect();
        requirements.sort_by(|a, b| a.key().cmp(b.key()));
        Self { requirements: Some(requirements.into()) }
    }

    /// Reads a selector from any bytes, as `kubectl -l` and the API's `labelSelector` take it:
    /// `key`, `!key`, `key=value`, `key==value`, `key!=value`, `key>1`, `key<1`, `key in (a,b)`,
    /// `key notin (a,b)`, joined by commas. A NUL byte ends the token that it is in, and the text if it is in none.
    ///
    /// # Errors
    ///
    /// Where it stops making sense, what is there, and what was expected.
    pub fn parse(text: &[u8]) -> Result<Self, ParseSelectorError> {
        parse::selector(text)
    }

    /// The selector with one more requirement. One that matches nothing stays as it is.
    #[must_use]
    pub fn with(self, requirement: Requirement) -> Self {
        match self.requirements {
            None => self,
            Some(requirements) => {
                Self::new(requirements.into_vec().into_iter().chain([requirement]))
            }
        }
    }

    /// Whether an object with these labels is selected.
    pub fn matches(&self, labels: &Labels) -> bool {
        let requirements = self.requirements.as_deref();
        requirements.is_some_and(|all| all.iter().all(|requirement| requirement.matches(labels)))
    }

    /// The requirements, by key; `None` if it matches nothing.
    pub fn requirements(&self) -> Option<&[Requirement]> {
        self.requirements.as_deref()
    }

    /// Whether it matches everything for want of requirements.
    pub fn is_empty(&self) -> bool {
        self.requirements.as_deref().is_some_and(<[_]>::is_empty)
    }

    /// The one value that a key has to have, as far as its first requirement says: `=`, `==`, or `in` with one
    /// value.
    pub fn exact_match(&self, key: &str) -> Option<&str> {
        let requirements = self.requirements.as_deref()?;
        let first = requirements.iter().find(|requirement| requirement.key() == key)?;
        match (first.operator(), first.values()) {
            (Operator::Equals | Operator::DoubleEquals | Operator::In, [value]) => Some(value),
            _ => None,
        }
    }
}

impl From<&Labels> for Selector {
    /// Every pair has to be there.
    fn from(labels: &Labels) -> Self {
        Self::new(labels.iter().map(|(key, value)| Requirement::equals(key, value)))
    }
}

impl FromStr for Selector {
    type Err = ParseSelectorError;

    fn from_str(text: &str) -> Result<Self, ParseSelectorError> {
        Self::parse(text.as_bytes())
    }
}

impl fmt::Display for Selector {
    /// The canonical text: requirements by key, joined by commas without blanks, values sorted. Reading it gives
    /// an equal selector, unless this one was built with values in another order.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, requirement) in self.requirements.as_deref().unwrap_or_default().iter().enumerate()
        {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma}{requirement}")?;
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
