//! What the mirrors have in common.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::convert::Infallible;
use core::fmt;
use core::str::FromStr;

mirror! {
    /// The metadata of any object.
    pub struct ObjectMeta {
        /// The name within the namespace.
        name: String,
        /// The beginning of a name that the API server is to complete.
        generate_name: String,
        /// The namespace; empty for objects of the whole cluster.
        namespace: String,
        /// What tells this object from earlier and later ones of its name.
        uid: String,
        /// Changes with every write.
        resource_version: String,
        /// Counts the changes of what is wanted.
        generation: i64,
        /// When it was created, RFC 3339; filled in by the API server.
        creation_timestamp: String,
        /// Since when it is being deleted, RFC 3339.
        deletion_timestamp: String,
        /// Labels, for selectors.
        labels: BTreeMap<String, String>,
        /// Annotations, for everything else.
        annotations: BTreeMap<String, String>,
        /// The objects that it goes away with.
        owner_references: Vec<OwnerReference>,
    }

    /// An object that another goes away with, in the same namespace.
    pub struct OwnerReference {
        /// The version of its kind.
        api_version: String,
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
        /// Its uid.
        uid: String,
        /// Whether it is the one that manages the other.
        controller: Option<bool>,
        /// Whether it waits for the other to be gone.
        block_owner_deletion: Option<bool>,
    }

    /// A reference to an object.
    pub struct ObjectReference {
        /// Its kind.
        kind: String,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Its uid.
        uid: String,
    }

    /// Something about an object that holds, does not hold, or is unknown.
    pub struct Condition {
        /// What it is about, such as `Ready`.
        kind as "type": String,
        /// `True`, `False` or `Unknown`.
        status: String,
        /// Since when, RFC 3339.
        last_transition_time: String,
    }
}

/// The condition of a kind is true; the first one of the kind counts.
pub(super) fn is_true(conditions: &[Condition], kind: &str) -> bool {
    conditions
        .iter()
        .find(|condition| condition.kind == kind)
        .is_some_and(|condition| condition.status == "True")
}

/// A value that is a number or a name.
///
/// In JSON and YAML the type decides: `8080` is a number, `"8080"` is a name.
#[expect(clippy::exhaustive_enums, reason = "an int or a string")]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum IntOrString {
    /// A number.
    Int(i32),
    /// A name.
    String(String),
}

impl Default for IntOrString {
    fn default() -> Self {
        Self::Int(0)
    }
}

impl From<i32> for IntOrString {
    fn from(number: i32) -> Self {
        Self::Int(number)
    }
}

impl From<&str> for IntOrString {
    /// A name, whatever it looks like.
    fn from(name: &str) -> Self {
        Self::String(name.into())
    }
}

impl FromStr for IntOrString {
    type Err = Infallible;

    /// A number if it is a decimal of 32 bits, else a name; how command lines are read.
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(text.parse().map_or_else(|_| Self::String(text.into()), Self::Int))
    }
}

impl fmt::Display for IntOrString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(number) => write!(f, "{number}"),
            Self::String(name) => f.write_str(name),
        }
    }
}

#[cfg(feature = "serde")]
mod int_or_string {
    use core::fmt;

    use serde::de::{Deserialize, Deserializer, Error, Unexpected, Visitor};
    use serde::ser::{Serialize, Serializer};

    use super::IntOrString;

    impl Serialize for IntOrString {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            match self {
                Self::Int(number) => serializer.serialize_i32(*number),
                Self::String(name) => serializer.serialize_str(name),
            }
        }
    }

    impl<'de> Deserialize<'de> for IntOrString {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_any(IntOrStringVisitor)
        }
    }

    struct IntOrStringVisitor;

    impl Visitor<'_> for IntOrStringVisitor {
        type Value = IntOrString;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a 32-bit integer or a string")
        }

        fn visit_i64<E: Error>(self, number: i64) -> Result<IntOrString, E> {
            i32::try_from(number)
                .map(IntOrString::Int)
                .map_err(|_| E::invalid_value(Unexpected::Signed(number), &self))
        }

        fn visit_u64<E: Error>(self, number: u64) -> Result<IntOrString, E> {
            i32::try_from(number)
                .map(IntOrString::Int)
                .map_err(|_| E::invalid_value(Unexpected::Unsigned(number), &self))
        }

        fn visit_str<E: Error>(self, name: &str) -> Result<IntOrString, E> {
            Ok(IntOrString::String(name.into()))
        }
    }
}
