//! What a check of a Kubernetes object reports: which field, what is wrong with it, what was expected.
//!
//! One [`FieldError`] is one mistake. Checks return all of them at once, in the order of the fields:
//!
//! ```
//! use svcplane::field::FieldErrorKind;
//! use svcplane::k8s;
//!
//! let mut service = k8s::Service::default();
//! service.metadata.namespace = "default".into();
//! service.metadata.name = "web".into();
//! let mut port = k8s::ServicePort::default();
//! port.port = 70_000;
//! service.spec.ports.push(port);
//! service.set_defaults();
//!
//! let errors = service.validate();
//! assert_eq!(errors.len(), 1);
//! assert_eq!(errors[0].path(), "spec.ports[0].port");
//! assert_eq!(errors[0].kind(), FieldErrorKind::Invalid);
//! assert_eq!(
//!     errors[0].to_string(),
//!     "spec.ports[0].port: invalid value 70000: expected 1 to 65535"
//! );
//! ```
//!
//! A check costs what the object holds; text is made of mistakes only.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

/// The kinds of mistake that the API server tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FieldErrorKind {
    /// A needed field is missing or empty.
    Required,
    /// The value has the wrong form or is out of range.
    Invalid,
    /// The value is not one of a fixed set.
    NotSupported,
    /// The value occurs twice where it has to be unique.
    Duplicate,
    /// The field may not be set in this combination.
    Forbidden,
    /// The list has too many entries.
    TooMany,
    /// The object is right, but what it needs is not to be had.
    Unavailable,
    /// The field was left out of the converted object: kept data is right, this is not part of it.
    Ignored,
}

impl fmt::Display for FieldErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Required => "required value",
            Self::Invalid => "invalid value",
            Self::NotSupported => "unsupported value",
            Self::Duplicate => "duplicate value",
            Self::Forbidden => "forbidden",
            Self::TooMany => "too many",
            Self::Unavailable => "unavailable",
            Self::Ignored => "ignored",
        })
    }
}

/// One mistake in a Kubernetes object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    path: Box<str>,
    kind: FieldErrorKind,
    value: Box<str>,
    detail: Box<str>,
}

impl FieldError {
    fn new(path: &Path<'_>, kind: FieldErrorKind, value: &str, detail: &str) -> Self {
        Self { path: path.to_string().into(), kind, value: value.into(), detail: detail.into() }
    }

    /// What a checked type says of a text; an empty text is a missing one.
    pub(crate) fn text(path: &Path<'_>, value: &str, error: &dyn fmt::Display) -> Self {
        let detail = error.to_string();
        if value.is_empty() {
            Self::new(path, FieldErrorKind::Required, "", &detail)
        } else {
            let value = shortened(alloc::format!("{value:?}"));
            Self::new(path, FieldErrorKind::Invalid, &value, &detail)
        }
    }

    /// Where: the field's path as in the JSON, `spec.ports[0].name`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The kind of mistake.
    pub fn kind(&self) -> FieldErrorKind {
        self.kind
    }

    /// The offending value as text (strings in quotes); empty where there is none.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// What was expected, in words.
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.kind)?;
        if !self.value.is_empty() {
            write!(f, " {}", self.value)?;
        }
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        Ok(())
    }
}

impl core::error::Error for FieldError {}

/// A place in an object while it is being checked; text only once something is wrong there.
#[derive(Clone, Copy)]
pub(crate) struct Path<'a> {
    parent: Option<&'a Self>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Field(&'a str),
    Index(usize),
    Key(&'a str),
}

impl<'a> Path<'a> {
    pub(crate) const fn root(field: &'a str) -> Self {
        Self { parent: None, step: Step::Field(field) }
    }

    pub(crate) const fn field(&'a self, field: &'a str) -> Self {
        Self { parent: Some(self), step: Step::Field(field) }
    }

    pub(crate) const fn index(&'a self, index: usize) -> Self {
        Self { parent: Some(self), step: Step::Index(index) }
    }

    pub(crate) const fn key(&'a self, key: &'a str) -> Self {
        Self { parent: Some(self), step: Step::Key(key) }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            fmt::Display::fmt(parent, f)?;
        }
        match self.step {
            Step::Field(field) if self.parent.is_some() => write!(f, ".{field}"),
            Step::Field(field) => f.write_str(field),
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Key(key) => write!(f, "[{key}]"),
        }
    }
}

/// Collects the mistakes of one object.
#[derive(Default)]
pub(crate) struct Report(Vec<FieldError>);

impl Report {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn into_errors(self) -> Vec<FieldError> {
        self.0
    }

    pub(crate) fn required(&mut self, path: &Path<'_>, detail: &str) {
        self.push(path, FieldErrorKind::Required, detail);
    }

    pub(crate) fn invalid(&mut self, path: &Path<'_>, value: &dyn fmt::Debug, detail: &str) {
        self.valued(path, FieldErrorKind::Invalid, value, detail);
    }

    pub(crate) fn unsupported(&mut self, path: &Path<'_>, value: &str, expected: &str) {
        self.valued(
            path,
            FieldErrorKind::NotSupported,
            &value,
            &alloc::format!("expected {expected}"),
        );
    }

    pub(crate) fn duplicate(&mut self, path: &Path<'_>, value: &dyn fmt::Debug, detail: &str) {
        self.valued(path, FieldErrorKind::Duplicate, value, detail);
    }

    pub(crate) fn unavailable(&mut self, path: &Path<'_>, detail: &str) {
        self.push(path, FieldErrorKind::Unavailable, detail);
    }

    pub(crate) fn forbidden(&mut self, path: &Path<'_>, detail: &str) {
        self.push(path, FieldErrorKind::Forbidden, detail);
    }

    pub(crate) fn too_many(&mut self, path: &Path<'_>, count: usize, detail: &str) {
        self.valued(path, FieldErrorKind::TooMany, &count, detail);
    }

    pub(crate) fn ignored(&mut self, path: &Path<'_>, value: &dyn fmt::Debug, detail: &str) {
        self.valued(path, FieldErrorKind::Ignored, value, detail);
    }

    /// Reports what a checked type says of a text; an empty text is a missing one.
    pub(crate) fn text(&mut self, path: &Path<'_>, value: &str, error: &dyn fmt::Display) {
        self.0.push(FieldError::text(path, value, error));
    }

    fn valued(
        &mut self,
        path: &Path<'_>,
        kind: FieldErrorKind,
        value: &dyn fmt::Debug,
        detail: &str,
    ) {
        self.0.push(FieldError::new(path, kind, &shortened(alloc::format!("{value:?}")), detail));
    }

    fn push(&mut self, path: &Path<'_>, kind: FieldErrorKind, detail: &str) {
        self.0.push(FieldError::new(path, kind, "", detail));
    }
}

/// An error quotes at most this many bytes of a value; a hostile object cannot fill a log with one.
const QUOTED: usize = 120;

fn shortened(mut text: String) -> String {
    if text.len() > QUOTED {
        let end = (0..=QUOTED).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}
