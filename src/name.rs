//! The names that Kubernetes objects and their ports have: parsed once, legal from then on.
//!
//! ```
//! use svcplane::name::{DnsLabel, ObjectName, PortName};
//!
//! let service = ObjectName::new("default", "redis")?;
//! assert_eq!(service.to_string(), "default/redis");
//! assert_eq!("default/redis".parse(), Ok(service));
//!
//! let port: DnsLabel = "http-2".parse()?; // a Service's port name
//! let target: PortName = "http".parse()?; // a container's, and a targetPort's
//! assert!("12345".parse::<PortName>().is_err()); // needs a letter
//! # Ok::<(), svcplane::name::NameError>(())
//! ```
//!
//! Source: RFC 1123, RFC 6335 and Kubernetes' `content` validation. Lengths are bytes. Every type
//! is one shared allocation: cloning counts a reference.
//! Parsing is O(length).

use alloc::string::String;
use alloc::sync::Arc;
use core::cmp::Ordering;
use core::fmt;
use core::hash::{Hash, Hasher};
use core::str::FromStr;

use thiserror::Error;

/// Why a text is not a name of the wanted kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NameError {
    /// The text is empty.
    #[error("must not be empty")]
    Empty,
    /// The text is longer than its kind may be.
    #[error("must be at most {max} bytes long")]
    TooLong {
        /// The greatest length, in bytes.
        max: usize,
    },
    /// The text has a character or a shape that its kind does not allow.
    #[error("expected {expected}")]
    Malformed {
        /// What was expected, in words.
        expected: &'static str,
    },
}

const LABEL: &str = "lower-case letters, digits and '-', beginning and ending with a letter or digit (RFC 1123 label)";
const DNS1035: &str = "lower-case letters, digits and '-', beginning with a letter and ending with a letter or digit (RFC 1035 label)";
const SUBDOMAIN: &str =
    "RFC 1123 labels (lower-case letters, digits and '-') joined by single dots";
const PORT: &str =
    "lower-case letters, digits and single '-' in between, at least one letter (IANA service name)";
const SLASHED: &str = "namespace/name";

/// Checks an RFC 1123 label: `[a-z0-9]([-a-z0-9]*[a-z0-9])?`, at most 63 bytes.
///
/// # Errors
///
/// What is wrong with it.
pub fn check_dns1123_label(text: &str) -> Result<(), NameError> {
    sized(text, 63)?;
    expect(is_label(text.as_bytes()), LABEL)
}

/// Checks an RFC 1035 label, as a Service's name is: an RFC 1123 label that begins with a letter.
///
/// # Errors
///
/// What is wrong with it.
pub fn check_dns1035_label(text: &str) -> Result<(), NameError> {
    sized(text, 63)?;
    let letter_first = text.as_bytes().first().is_some_and(u8::is_ascii_lowercase);
    expect(letter_first && is_label(text.as_bytes()), DNS1035)
}

/// Checks an RFC 1123 subdomain: labels joined by dots, at most 253 bytes. As in Kubernetes, the single
/// labels are not held to 63 bytes.
///
/// # Errors
///
/// What is wrong with it.
pub fn check_dns1123_subdomain(text: &str) -> Result<(), NameError> {
    sized(text, 253)?;
    expect(text.as_bytes().split(|&b| b == b'.').all(is_label), SUBDOMAIN)
}

/// Checks an IANA service name (RFC 6335), as a container's port name is: 1–15 bytes of `[-a-z0-9]`, at
/// least one letter, no `-` at either end or next to another.
///
/// # Errors
///
/// What is wrong with it.
pub fn check_port_name(text: &str) -> Result<(), NameError> {
    sized(text, 15)?;
    let letter = text.bytes().any(|b| b.is_ascii_lowercase());
    expect(letter && is_label(text.as_bytes()) && !text.contains("--"), PORT)
}

fn sized(text: &str, max: usize) -> Result<(), NameError> {
    match text.len() {
        0 => Err(NameError::Empty),
        n if n > max => Err(NameError::TooLong { max }),
        _ => Ok(()),
    }
}

fn expect(holds: bool, expected: &'static str) -> Result<(), NameError> {
    if holds { Ok(()) } else { Err(NameError::Malformed { expected }) }
}

fn is_label(text: &[u8]) -> bool {
    let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
    matches!((text.first(), text.last()), (Some(first), Some(last)) if *first != b'-' && *last != b'-')
        && text.iter().all(inner)
}

macro_rules! checked_text {
    ($(#[$doc:meta])* $name:ident, $check:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                $check(text)?;
                Ok(Self(text.into()))
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl core::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

checked_text!(
    /// An RFC 1123 label: the name of a Service's port, a pod's hostname.
    DnsLabel,
    check_dns1123_label
);
checked_text!(
    /// An IANA service name: the name of a container's port, and so of a named `targetPort`.
    PortName,
    check_port_name
);
checked_text!(
    /// An RFC 1123 subdomain: the name of a Node.
    NodeName,
    check_dns1123_subdomain
);

/// The name of a namespaced object: `namespace/name`, in one allocation.
///
/// The namespace is an RFC 1123 label and the name an RFC 1123 subdomain, the widest form that the
/// objects of this crate have. Ordered by namespace, then name.
#[derive(Clone, PartialEq, Eq)]
pub struct ObjectName {
    full: Arc<str>,
    slash: u8,
}

impl ObjectName {
    /// The name of an object in a namespace.
    ///
    /// # Errors
    ///
    /// Either part is empty, too long or malformed.
    pub fn new(namespace: &str, name: &str) -> Result<Self, NameError> {
        check_dns1123_label(namespace)?;
        check_dns1123_subdomain(name)?;
        let mut full = String::with_capacity(namespace.len() + 1 + name.len());
        full.push_str(namespace);
        full.push('/');
        full.push_str(name);
        let slash = u8::try_from(namespace.len()).unwrap_or(u8::MAX); // at most 63: checked above
        Ok(Self { full: full.into(), slash })
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        &self.full[..usize::from(self.slash)]
    }

    /// The name within the namespace.
    pub fn name(&self) -> &str {
        &self.full[usize::from(self.slash) + 1..]
    }

    /// `namespace/name`.
    pub fn as_str(&self) -> &str {
        &self.full
    }
}

impl FromStr for ObjectName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (namespace, name) =
            text.split_once('/').ok_or(NameError::Malformed { expected: SLASHED })?;
        Self::new(namespace, name)
    }
}

impl Hash for ObjectName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.full.hash(state);
    }
}

impl Ord for ObjectName {
    fn cmp(&self, other: &Self) -> Ordering {
        // Not the text's order: '-' sorts before '/', so "a-b/x" would come before "a/x".
        (self.namespace(), self.name()).cmp(&(other.namespace(), other.name()))
    }
}

impl PartialOrd for ObjectName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.full, f)
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.full)
    }
}
