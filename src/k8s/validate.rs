//! Step two: what the API server's admission says of a new object. Every mistake at once, in the order of
//! the fields.
//!
//! Source: Kubernetes `pkg/apis/core/validation`, `pkg/apis/discovery/validation`. Addresses are read as
//! leniently as there without the strict gate: leading zeros and IPv4-mapped IPv6 pass.

mod endpoints;
mod pod;
mod service;
mod update;

use core::fmt;

use super::ObjectMeta;
use crate::field::{Path, Report};
use crate::labels::{check_key, check_value};
use crate::name::{NameError, check_dns1123_label};
use crate::net::Protocol;

type Check = fn(&str) -> Result<(), NameError>;

/// The metadata of a namespaced object.
fn metadata(report: &mut Report, meta: &ObjectMeta, name: Check) {
    let root = Path::root("metadata");
    text(report, &root.field("namespace"), &meta.namespace, check_dns1123_label);
    named(report, meta, name);
}

/// The rest of the metadata of any object.
fn named(report: &mut Report, meta: &ObjectMeta, name: Check) {
    let root = Path::root("metadata");
    if meta.generate_name.is_empty() || !meta.name.is_empty() {
        text(report, &root.field("name"), &meta.name, name);
    }
    if !meta.generate_name.is_empty() {
        // What follows a dash at the end begins with a letter or digit: as there, one stands in for the last two bytes.
        let prefix = &meta.generate_name;
        let masked =
            prefix.strip_suffix('-').and_then(|_| prefix.get(..prefix.len().checked_sub(2)?));
        let masked = masked.map(|masked| alloc::format!("{masked}a"));
        text(report, &root.field("generateName"), masked.as_ref().unwrap_or(prefix), name);
    }
    labels(report, &root.field("labels"), &meta.labels);
    for key in meta.annotations.keys() {
        if check_key(&key.to_ascii_lowercase()).is_err() {
            let expected = "expected a key of the form [prefix/]name";
            report.invalid(&root.field("annotations").key(key), key, expected);
        }
    }
}

fn labels<'a, I>(report: &mut Report, path: &Path<'_>, labels: I)
where
    I: IntoIterator<Item = (&'a alloc::string::String, &'a alloc::string::String)>,
{
    for (key, value) in labels {
        if let Err(error) = check_key(key) {
            report.invalid(&path.key(key), key, &alloc::format!("key: {error}"));
        }
        if let Err(error) = check_value(value) {
            report.invalid(&path.key(key), value, &alloc::format!("{error}"));
        }
    }
}

fn text(report: &mut Report, path: &Path<'_>, value: &str, check: Check) {
    if let Err(error) = check(value) {
        report.text(path, value, &error);
    }
}

fn port_number(report: &mut Report, path: &Path<'_>, port: i32) {
    if !(1..=65_535).contains(&port) {
        report.invalid(path, &port, "expected 1 to 65535");
    }
}

fn protocol(report: &mut Report, path: &Path<'_>, protocol: &str) {
    one_of(report, path, protocol, "TCP, UDP or SCTP", |text| text.parse::<Protocol>().is_ok());
}

fn one_of(
    report: &mut Report,
    path: &Path<'_>,
    value: &str,
    expected: &str,
    known: impl FnOnce(&str) -> bool,
) {
    if value.is_empty() {
        report.required(path, &alloc::format!("expected {expected}"));
    } else if !known(value) {
        report.unsupported(path, value, expected);
    }
}

fn parsed<T, E: fmt::Display>(
    report: &mut Report,
    path: &Path<'_>,
    value: &str,
    parse: fn(&str) -> Result<T, E>,
) -> Option<T> {
    match parse(value) {
        Ok(parsed) => Some(parsed),
        Err(error) => {
            report.invalid(path, &value, &alloc::format!("{error}"));
            None
        }
    }
}

/// An address that may not be of a special class.
fn ordinary_ip(report: &mut Report, path: &Path<'_>, value: &str) {
    if let Some(ip) = parsed(report, path, value, crate::net::parse_ip) {
        if let Some(class) = crate::net::special_address(ip) {
            report.invalid(path, &value, &alloc::format!("may not be {class}"));
        }
    }
}

fn app_protocol(report: &mut Report, path: &Path<'_>, value: Option<&str>) {
    if let Some(value) = value {
        text(report, path, value, check_key);
    }
}
