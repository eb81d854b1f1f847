//! Step three: from mirrors to domain objects, as leniently as an agent on a node has to be.

mod endpoints;
mod node;
mod pod;
mod service;
mod slice;

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

pub(super) use pod::phase;

use super::ObjectMeta;
use crate::field::{FieldError, Path, Report};
use crate::labels::Labels;
use crate::name::ObjectName;
use crate::time::Timestamp;

/// A domain object, and what of the mirror is not in it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Converted<T> {
    /// The domain object.
    pub object: T,
    /// What could not be understood and was left out, in the order of the fields.
    pub warnings: Vec<FieldError>,
}

impl<T> Converted<T> {
    fn new(object: T, report: Report) -> Self {
        Self { object, warnings: report.into_errors() }
    }
}

/// Takes the name, the one thing that an object cannot do without.
fn object_name(meta: &ObjectMeta) -> Result<ObjectName, FieldError> {
    ObjectName::new(&meta.namespace, &meta.name).map_err(|error| {
        let root = Path::root("metadata");
        let (field, value) = match crate::name::check_dns1123_label(&meta.namespace) {
            Err(_) => ("namespace", &meta.namespace),
            Ok(()) => ("name", &meta.name),
        };
        FieldError::text(&root.field(field), value, &error)
    })
}

fn pairs(map: &BTreeMap<String, String>) -> Labels {
    map.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect()
}

fn timestamp(report: &mut Report, field: &str, value: &str) -> Option<Timestamp> {
    let root = Path::root("metadata");
    optional(report, &root.field(field), value)
}

/// A value that may be absent (empty); one that cannot be understood is absent with a warning.
fn optional<T>(report: &mut Report, path: &Path<'_>, value: &str) -> Option<T>
where
    T: FromStr,
    T::Err: fmt::Display,
{
    if value.is_empty() { None } else { understood(report, path, &value, value.parse()) }
}

/// The value, or a warning that says why it is left out.
fn understood<T, E: fmt::Display>(
    report: &mut Report,
    path: &Path<'_>,
    text: &dyn fmt::Debug,
    parsed: Result<T, E>,
) -> Option<T> {
    parsed.map_err(|error| report.ignored(path, text, &alloc::format!("{error}"))).ok()
}

/// A port number, 1 to 65535, or a warning.
fn port_number(report: &mut Report, path: &Path<'_>, number: i32) -> Option<u16> {
    let port = u16::try_from(number).ok().filter(|&port| port != 0);
    understood(report, path, &number, port.ok_or("expected 1 to 65535"))
}
