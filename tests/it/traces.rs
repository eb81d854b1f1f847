//! What a kernel did, in `tests/data/ipvs/`, as the replay example compares it.

use std::fs::{self, File};
use std::path::Path;

use svcplane::sched::Algorithm;

#[path = "../../examples/replay/ipvs.rs"]
mod ipvs;

#[derive(Default)]
struct Outcome {
    compared: String,
    /// Input, expected, got.
    mismatches: Vec<[String; 3]>,
}

impl Outcome {
    fn compare(&mut self, input: &str, expected: String, got: String) {
        if expected != got {
            self.mismatches.push([input.to_owned(), expected, got]);
        }
    }
}

#[test]
fn recorded_picks_and_counts_are_predicted() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/ipvs");
    let mut compared = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder can be listed") {
        let path = entry.expect("an entry").path();
        let name = path.display();
        if path.extension().is_some_and(|extension| extension == "json") {
            let file = File::open(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
            let recorded = serde_json::from_reader(std::io::BufReader::new(file));
            let recorded = recorded.unwrap_or_else(|error| panic!("{name}: {error}"));
            let outcome = ipvs::replay(recorded).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(outcome.mismatches.is_empty(), "{name}: {:#?}", outcome.mismatches);
            compared.push(outcome.compared);
        }
    }
    assert_eq!(compared.len(), 70);
    assert_eq!(compared.iter().filter(|compared| compared.ends_with(" templates")).count(), 8);
    let recorded = |algorithm: &&Algorithm| {
        let of = format!(" picks of {algorithm}, ");
        compared.iter().any(|compared| compared.contains(&of))
    };
    let others: Vec<&str> =
        Algorithm::ALL.iter().filter(|one| !recorded(one)).map(|one| one.as_str()).collect();
    assert_eq!(others, ["random", "wrandom", "p2c"], "what the kernel does not have");
}
