//! Selector strings.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use svcplane::labels::{Labels, Selector};

use crate::Outcome;

#[derive(Deserialize)]
struct Recorded {
    objects: Vec<BTreeMap<String, String>>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    #[serde(rename = "in")]
    input: String,
    ok: bool,
    #[serde(default)]
    out: String,
    #[serde(default, rename = "reqs")]
    requirements: Vec<Requirement>,
    #[serde(default, rename = "match")]
    matches: Vec<bool>,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Requirement {
    key: String,
    op: String,
    values: Vec<String>,
}

pub(crate) fn replay(recorded: Value) -> Result<Outcome, serde_json::Error> {
    let recorded: Recorded = serde_json::from_value(recorded)?;
    let objects: Vec<Labels> =
        recorded.objects.into_iter().map(|object| object.into_iter().collect()).collect();
    let mut outcome = Outcome::default();
    let mut accepted = 0;
    for case in &recorded.cases {
        let input = format!("{:?}", case.input);
        match Selector::parse(case.input.as_bytes()) {
            Err(error) if case.ok => {
                outcome.compare(&input, "accepted".to_owned(), format!("rejected: {error}"));
            }
            Err(_) => {}
            Ok(selector) if !case.ok => {
                outcome.compare(&input, "rejected".to_owned(), format!("accepted as {selector}"));
            }
            Ok(selector) => {
                accepted += 1;
                outcome.compare(&input, case.out.clone(), selector.to_string());
                let requirements: Vec<Requirement> = selector
                    .requirements()
                    .unwrap_or_default()
                    .iter()
                    .map(|requirement| Requirement {
                        key: requirement.key().to_owned(),
                        op: requirement.operator().to_string(),
                        values: requirement.values().iter().map(ToString::to_string).collect(),
                    })
                    .collect();
                let (expected, got) = (&case.requirements, &requirements);
                outcome.compare(&input, format!("{expected:?}"), format!("{got:?}"));
                let matches: Vec<bool> =
                    objects.iter().map(|labels| selector.matches(labels)).collect();
                outcome.compare(&input, format!("{:?}", case.matches), format!("{matches:?}"));
            }
        }
    }
    outcome.compared = format!(
        "{} selectors, {accepted} accepted with text, requirements and matches on {} objects",
        recorded.cases.len(),
        objects.len()
    );
    Ok(outcome)
}
