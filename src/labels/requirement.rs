//! One requirement: a key, an operator, values.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use super::{Labels, check_key, check_value};
use crate::field::{FieldError, Path, Report};

/// How a requirement looks at a key's value.
#[expect(clippy::exhaustive_enums, reason = "the grammar is closed")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operator {
    /// `=`: the key is there with this value.
    Equals,
    /// `==`: the same; kept apart so that the text comes out as it went in.
    DoubleEquals,
    /// `in`: the key is there with one of these values.
    In,
    /// `!=`: the key is not there, or with another value.
    NotEquals,
    /// `notin`: the key is not there, or with none of these values.
    NotIn,
    /// `key`: the key is there.
    Exists,
    /// `!key`: the key is not there.
    DoesNotExist,
    /// `>`: the key is there with a decimal 64-bit integer greater than this one.
    GreaterThan,
    /// `<`: the key is there with a decimal 64-bit integer less than this one.
    LessThan,
}

impl Operator {
    /// Every operator.
    pub const ALL: &[Self] = &[
        Self::Equals,
        Self::DoubleEquals,
        Self::In,
        Self::NotEquals,
        Self::NotIn,
        Self::Exists,
        Self::DoesNotExist,
        Self::GreaterThan,
        Self::LessThan,
    ];

    /// Kubernetes' name: `=`, `==`, `in`, `!=`, `notin`, `exists`, `!`, `gt`, `lt`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Equals => "=",
            Self::DoubleEquals => "==",
            Self::In => "in",
            Self::NotEquals => "!=",
            Self::NotIn => "notin",
            Self::Exists => "exists",
            Self::DoesNotExist => "!",
            Self::GreaterThan => "gt",
            Self::LessThan => "lt",
        }
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One condition on one key.
///
/// Equal requirements have the same operator and the same values in the same order: `a=b` and `a in (b)` are not
/// equal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Requirement {
    key: Box<str>,
    operator: Operator,
    values: Box<[Box<str>]>,
}

impl Requirement {
    /// A requirement with values in the given order.
    ///
    /// # Errors
    ///
    /// Every mistake: a key or value that is none; a number of values that the operator does not take (one for
    /// `=`, `==`, `!=`, `>` and `<`, at least one for `in` and `notin`, none for the others); a value of `>` or `<`
    /// that is no decimal 64-bit integer.
    pub fn new<V, I>(key: &str, operator: Operator, values: I) -> Result<Self, Vec<FieldError>>
    where
        V: Into<Box<str>>,
        I: IntoIterator<Item = V>,
    {
        let values: Box<[Box<str>]> = values.into_iter().map(Into::into).collect();
        let mut report = Report::default();
        if let Err(error) = check_key(key) {
            report.invalid(&Path::root("key"), &key, &alloc::format!("{error}"));
        }
        let path = Path::root("values");
        let count = values.len();
        let expected = match operator {
            Operator::In | Operator::NotIn => (count == 0).then_some("expected at least one"),
            Operator::Exists | Operator::DoesNotExist => (count != 0).then_some("expected none"),
            _ => (count != 1).then_some("expected exactly one"),
        };
        if let Some(expected) = expected {
            report.invalid(&path, &values, &alloc::format!("{expected} for {operator}"));
        }
        for (i, value) in values.iter().enumerate() {
            if matches!(operator, Operator::GreaterThan | Operator::LessThan)
                && integer(value).is_none()
            {
                report.invalid(&path.index(i), value, "expected a decimal 64-bit integer");
            }
            if let Err(error) = check_value(value) {
                let detail = alloc::format!("{error}");
                report.invalid(&path.index(i).key(key), value, &detail);
            }
        }
        let errors = report.into_errors();
        if errors.is_empty() { Ok(Self { key: key.into(), operator, values }) } else { Err(errors) }
    }

    /// `key=value`, unchecked: what is stored in a Service's selector may be anything.
    pub(super) fn equals(key: &str, value: &str) -> Self {
        Self { key: key.into(), operator: Operator::Equals, values: [value.into()].into() }
    }

    /// Whether it holds for these labels.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.holds(labels.get(&self.key))
    }

    /// Whether it holds for an object with this value of the key.
    pub(super) fn holds(&self, value: Option<&str>) -> bool {
        let among = |value: &str| self.values.iter().any(|v| **v == *value);
        match self.operator {
            Operator::Equals | Operator::DoubleEquals | Operator::In => value.is_some_and(among),
            Operator::NotEquals | Operator::NotIn => !value.is_some_and(among),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan | Operator::LessThan => {
                let bound = self.values.first().and_then(|bound| integer(bound));
                match (value.and_then(integer), bound) {
                    (Some(value), Some(bound)) if self.operator == Operator::LessThan => {
                        value < bound
                    }
                    (Some(value), Some(bound)) => value > bound,
                    _ => false,
                }
            }
        }
    }

    /// The key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The operator.
    pub const fn operator(&self) -> Operator {
        self.operator
    }

    /// The values, in their order.
    pub fn values(&self) -> &[Box<str>] {
        &self.values
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        let sign = match self.operator {
            Operator::Exists => return f.write_str(key),
            Operator::DoesNotExist => return write!(f, "!{key}"),
            Operator::In => " in ",
            Operator::NotIn => " notin ",
            Operator::GreaterThan => ">",
            Operator::LessThan => "<",
            Operator::Equals | Operator::DoubleEquals | Operator::NotEquals => {
                self.operator.as_str()
            }
        };
        let mut values: Vec<&str> = self.values.iter().map(|value| &**value).collect();
        values.sort_unstable();
        let values = values.join(",");
        match self.operator {
            Operator::In | Operator::NotIn => write!(f, "{key}{sign}({values})"),
            _ => write!(f, "{key}{sign}{values}"),
        }
    }
}

/// As Go reads it: a sign is allowed, blanks and underscores are not.
fn integer(text: &str) -> Option<i64> {
    text.parse().ok()
}
