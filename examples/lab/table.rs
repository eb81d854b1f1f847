//! The table.

use std::fmt::Write as _;

use super::measures::Measures;
use super::scenario::Scenario;

struct Column {
    name: &'static str,
    meaning: String,
    percent: bool,
    /// The nearer the better.
    best: f64,
    value: fn(&Measures) -> Option<f64>,
}

fn columns(scenario: &Scenario) -> Vec<Column> {
    let column = |name, meaning: &str, percent, best, value| {
        let meaning = meaning.to_owned();
        Column { name, meaning, percent, best, value }
    };
    let fair = scenario.fair_share_of_added().unwrap_or(0.0);
    let first = format!(
        "of the new connections in the added backend's first second, its share; fair is {:.0} %",
        fair * 100.0
    );
    vec![
        column(
            "imbalance",
            "load (active connections per weight) of the busiest backend over that of all, on average",
            false,
            1.0,
            |m| m.imbalance,
        ),
        column("peak", "the same at its worst", false, 1.0, |m| m.peak),
        column("slow", "the same of the slow backend, since it is slow", false, 1.0, |m| m.slow),
        column(
            "stretch",
            "how many times as long connections last as if none were slow",
            false,
            1.0,
            |m| m.stretch,
        ),
        column("new 1s", &first, true, fair, |m| m.first[0]),
        column("new 10s", "the same in its first ten seconds", true, fair, |m| m.first[1]),
        column(
            "moved +",
            "clients who came again after the adding and found another old backend than before",
            true,
            0.0,
            |m| m.moved[0],
        ),
        column(
            "moved -",
            "clients who came again after the removal and found another backend, though theirs was not removed",
            true,
            0.0,
            |m| m.moved[1],
        ),
    ]
}

pub(crate) fn table(scenario: &Scenario, measures: &[Measures]) -> String {
    let mut text = format!("{}\n\n", scenario.description().join("\n"));
    let columns = columns(scenario);
    let _ = write!(text, "{:<9}", "scheduler");
    for column in &columns {
        let _ = write!(text, " {:>9} ", column.name);
    }
    let best: Vec<Option<f64>> = columns.iter().map(|column| best(column, measures)).collect();
    for row in measures {
        let _ = write!(text, "\n{:<9}", row.algorithm);
        for (column, best) in columns.iter().zip(&best) {
            let value = (column.value)(row);
            let is_best = value.zip(*best).is_some_and(|(v, b)| column.distance(v) <= b);
            let mark = if is_best { '*' } else { ' ' };
            let value = value.map_or_else(|| "-".to_owned(), |value| column.show(value));
            let _ = write!(text, " {value:>9}{mark}");
        }
    }
    text.push_str("\n\n* the best of the column\n");
    for Column { name, meaning, .. } in &columns {
        let _ = writeln!(text, "{name:<9}  {meaning}");
    }
    loads(&mut text, scenario, measures);
    for row in measures.iter().filter(|row| row.refused > 0) {
        let _ = writeln!(text, "{}: {} connections refused", row.algorithm, row.refused);
    }
    text
}

/// The mean load of each backend.
fn loads(text: &mut String, scenario: &Scenario, measures: &[Measures]) {
    let count = scenario.backends.len();
    if count > MANY {
        return;
    }
    let _ = write!(text, "\nmean load\n{:<9}", "");
    for n in 1..=count {
        let _ = write!(text, " {:>7}", format!("b{n}"));
    }
    let _ = write!(text, "\n{:<9}", "weight");
    for backend in &scenario.backends {
        let _ = write!(text, " {:>7}", backend.weight);
    }
    for row in measures {
        let _ = write!(text, "\n{:<9}", row.algorithm);
        for load in &row.loads {
            let load = load.map_or_else(|| "-".to_owned(), |load| format!("{load:.1}"));
            let _ = write!(text, " {load:>7}");
        }
    }
    text.push('\n');
}

/// More backends than this have no line of a terminal for their loads.
const MANY: usize = 16;

fn best(column: &Column, measures: &[Measures]) -> Option<f64> {
    let values = measures.iter().filter_map(column.value);
    values.map(|value| column.distance(value)).min_by(f64::total_cmp)
}

impl Column {
    fn show(&self, value: f64) -> String {
        if self.percent { format!("{:.1} %", value * 100.0) } else { format!("{value:.2}") }
    }

    /// How far from the best, to as many digits as are shown.
    fn distance(&self, value: f64) -> f64 {
        let digits = if self.percent { 1000.0 } else { 100.0 };
        (((value - self.best) * digits).round() / digits).abs()
    }
}
