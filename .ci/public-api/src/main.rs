//! Looks for foreign types in a public interface, as rustdoc tells it in JSON: every type and trait that it names has to be the crate's own, the
//! language's, or of a crate that is allowed.

use std::collections::BTreeSet;
use std::error::Error;
use std::process::ExitCode;

use serde_json::Value;

/// Whose types and traits may be named anywhere. `serde_core` is where `serde` has its traits.
const CRATES: [&str; 7] = ["svcplane", "alloc", "core", "std", "ipnet", "serde", "serde_core"];

/// Foreign traits that public types implement besides, with the reason. None so far.
const TRAITS: [(&str, &str); 0] = [];

/// What is no part of the interface: links in the docs, attributes.
const SKIPPED: [&str; 3] = ["links", "docs", "attrs"];

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("which file is rustdoc's?")?;
    let doc: Value = serde_json::from_str(&std::fs::read_to_string(path)?)?;
    let items = doc["index"].as_object().ok_or("no index: is it rustdoc's JSON?")?;
    let mut found = Found { doc: &doc, named: 0, foreign: BTreeSet::new() };
    for item in items.values() {
        let implementation = &item["inner"]["impl"];
        // What others implement for all types, and the compiler for those that it fits, is no statement of this crate.
        let is_own = item["crate_id"] == 0
            && implementation["blanket_impl"].is_null()
            && implementation["is_synthetic"] != true;
        if is_own {
            found.look(&item["inner"], &place(item));
        }
    }
    println!("format {}, {} items, {} names", doc["format_version"], items.len(), found.named);
    for line in &found.foreign {
        println!("{line}");
    }
    // A format that this does not understand would have no names.
    let understood = found.named > 1000;
    let good = understood && found.foreign.is_empty();
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

struct Found<'a> {
    doc: &'a Value,
    named: usize,
    foreign: BTreeSet<String>,
}

impl Found<'_> {
    fn look(&mut self, value: &Value, place: &str) {
        match value {
            Value::Array(values) => values.iter().for_each(|value| self.look(value, place)),
            Value::Object(fields) => {
                let name = fields.get("path").or_else(|| fields.get("source"));
                if let (Some(Value::String(name)), Some(id)) = (name, fields.get("id")) {
                    self.check(name, id, place);
                }
                for (key, value) in fields {
                    if !SKIPPED.contains(&&**key) {
                        self.look(value, place);
                    }
                }
            }
            _ => {}
        }
    }

    fn check(&mut self, name: &str, id: &Value, place: &str) {
        self.named += 1;
        let id = id.to_string();
        let summary = &self.doc["paths"][&id];
        let of = match summary["crate_id"].as_u64() {
            Some(0) => return,
            Some(number) => self.doc["external_crates"][number.to_string()]["name"].as_str(),
            // A module's private item that is told of where it is used.
            None if !self.doc["index"][&id].is_null() => return,
            None => None,
        };
        let of = of.unwrap_or("a crate that rustdoc does not name");
        let full: Vec<&str> =
            summary["path"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let full = if full.is_empty() { name.to_owned() } else { full.join("::") };
        let allowed = TRAITS.iter().any(|(allowed, _)| *allowed == full);
        if !CRATES.contains(&of) && !allowed {
            self.foreign.insert(format!("{place}: {full}, of {of}"));
        }
    }
}

/// Where an item is, for who has to find it.
fn place(item: &Value) -> String {
    let name = item["name"].as_str().unwrap_or("an implementation");
    let file = item["span"]["filename"].as_str().unwrap_or_default();
    format!("{file}:{}: {name}", item["span"]["begin"][0])
}
