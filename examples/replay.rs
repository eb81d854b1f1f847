//! Replays recorded conformance files through the crate and reports every difference.
//!
//! ```text
//! cargo run --release --example replay -- FILE…
//! ```
//!
//! A file's kind is told by its top-level keys; any file of a kind is taken. Exits with 1 on any mismatch or unknown
//! kind.
//!
//! * `service` and `events`: what a kernel's IPVS did with one service (`tests/data/ipvs/`).
//! * `family` and `cases`: what `ipvsadm` and a kernel said to each other over netlink (`tests/data/netlink/`).
//! * `kernel` and `rows`: what a kernel answered to requests made by hand (`tests/data/netlink/`).
//! * `node`, `objects` and `packets`: what becomes of packets on a node, in each mode (`tests/data/flows/`).
//! * `objects` and `cases`: selector strings with what Kubernetes' parser makes of them (`tests/data/selectors/`).

#[path = "replay/flows.rs"]
mod flows;
#[path = "replay/ipvs.rs"]
mod ipvs;
#[path = "replay/ipvsadm.rs"]
mod ipvsadm;
#[path = "replay/netlink.rs"]
mod netlink;
#[path = "common/node.rs"]
mod node;
#[path = "replay/selectors.rs"]
mod selectors;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use serde_json::Value;

/// Replays recorded conformance files through the crate.
#[derive(Parser)]
struct Args {
    /// Recorded files, JSON
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// What came of one file.
#[derive(Default)]
struct Outcome {
    /// What was compared, in words.
    compared: String,
    mismatches: Vec<Mismatch>,
}

struct Mismatch {
    input: String,
    expected: String,
    got: String,
}

impl Outcome {
    fn compare(&mut self, input: &str, expected: String, got: String) {
        if expected != got {
            self.mismatches.push(Mismatch { input: input.to_owned(), expected, got });
        }
    }
}

fn main() -> ExitCode {
    let mut good = true;
    for file in Args::parse().files {
        let name = file.display();
        match replay(&file) {
            Ok(outcome) => {
                for Mismatch { input, expected, got } in &outcome.mismatches {
                    println!("{name}: input {input}\n  expected {expected}\n  got      {got}");
                }
                println!("{name}: {}: {} mismatches", outcome.compared, outcome.mismatches.len());
                good &= outcome.mismatches.is_empty();
            }
            Err(error) => {
                eprintln!("{name}: error: {error}");
                good = false;
            }
        }
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn replay(file: &PathBuf) -> Result<Outcome, String> {
    let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
    let recorded: Value =
        serde_json::from_str(&text).map_err(|error| format!("not JSON: {error}"))?;
    let has = |key: &str| recorded.get(key).is_some();
    if has("objects") && has("cases") {
        return selectors::replay(recorded)
            .map_err(|error| format!("not a file of selectors: {error}"));
    }
    if has("family") && has("cases") {
        return netlink::golden(recorded);
    }
    if has("kernel") && has("rows") {
        return netlink::errors(recorded);
    }
    if has("node") && has("packets") {
        return flows::replay(recorded);
    }
    if has("service") && has("events") {
        return ipvs::replay(recorded);
    }
    let keys: Vec<&str> = recorded
        .as_object()
        .map(|map| map.keys().map(String::as_str).collect())
        .unwrap_or_default();
    Err(format!(
        "unknown kind with the top-level keys {keys:?}: expected objects and cases, family and cases, kernel and rows, node and packets, or service and events"
    ))
}
