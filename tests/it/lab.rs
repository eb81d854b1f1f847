//! The laboratory as a user runs it, on a small workload.

use std::fs;
use std::process::{Command, Output};

use svcplane::sched::Algorithm;

use crate::example::binary;

const SMALL: [&str; 12] = [
    "--backends",
    "4",
    "--rate",
    "50",
    "--duration",
    "40",
    "--slow-at",
    "15",
    "--add-at",
    "20",
    "--remove-at",
    "30",
];

fn lab(arguments: &[&str]) -> Output {
    Command::new(binary("lab")).args(arguments).output().expect("the lab starts")
}

fn table(more: &[&str]) -> String {
    let output = lab(&[&SMALL, more].concat());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{more:?}: {errors}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The table and the picture.
fn both(name: &str, more: &[&str]) -> (String, String) {
    let file = format!("svcplane-lab-{}-{name}.svg", std::process::id());
    let file = std::env::temp_dir().join(file);
    let table = table(&[&["--svg", file.to_str().expect("UTF-8")], more].concat());
    let picture = fs::read_to_string(&file).expect("a picture");
    let _ = fs::remove_file(file);
    (table, picture)
}

/// The first word of the lines of the first table.
fn rows(table: &str) -> Vec<&str> {
    let rows = table.lines().skip_while(|line| !line.starts_with("scheduler")).skip(1);
    rows.map_while(|line| line.split_whitespace().next()).collect()
}

/// A cell of the first table, without mark and unit.
fn value(table: &str, row: &str, column: usize) -> f64 {
    let line = table.lines().find(|line| line.split(' ').next() == Some(row)).expect("the row");
    let cells: Vec<&str> = line.split_whitespace().filter(|cell| !cell.starts_with('%')).collect();
    cells[column].trim_end_matches('*').parse().expect("a number")
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let more = ["--instances", "3", "--slow-start", "5", "--affinity", "2"];
    let first = both("first", &more);
    assert_eq!(first, both("second", &more));
    let other = both("third", &[&more[..], &["--seed", "4"]].concat());
    // The seed itself is in the second line.
    let beyond = |table: &str| table.lines().skip(2).map(str::to_owned).collect::<Vec<_>>();
    assert_ne!(beyond(&first.0), beyond(&other.0));
}

#[test]
fn a_row_and_a_panel_for_each_scheduler() {
    let (table, picture) = both("rows", &[]);
    let mut all: Vec<&str> = Algorithm::ALL.iter().map(|algorithm| algorithm.as_str()).collect();
    all.retain(|&name| name != "dh");
    assert_eq!(rows(&table), all);
    for name in all {
        assert_eq!(picture.matches(&format!(">{name}</text>")).count(), 1, "{name}");
    }
    assert_eq!(rows(&self::table(&["--schedulers", "dh,rr"])), ["dh", "rr"]);
}

#[test]
fn the_picture_is_well_formed() {
    let nothing = ["--slow-at", "never", "--add-at", "never", "--remove-at", "never"];
    for (name, more) in [("events", &[][..]), ("no-events", &nothing)] {
        let (_, picture) = both(name, more);
        let mut open = Vec::new();
        for tag in picture.split('<').skip(1) {
            let (tag, text) = tag.split_once('>').expect("a tag's end");
            assert!(!text.contains('&') && tag.matches('"').count() % 2 == 0, "{tag}{text}");
            let element = tag.split(' ').next().expect("a name");
            if let Some(closed) = element.strip_prefix('/') {
                assert_eq!(open.pop(), Some(closed), "{tag}");
            } else if !tag.ends_with('/') {
                open.push(element);
            }
        }
        assert_eq!(open, Vec::<&str>::new());
        assert!(!picture.contains("NaN") && !picture.contains("inf"), "{picture}");
    }
}

/// What the schedulers promise, as far as a small workload shows it.
#[test]
fn the_measures_tell_schedulers_apart() {
    let table = table(&["--rate", "200", "--nat", "0"]);
    let [imbalance, rush, moved] = [1, 5, 8];
    assert!(value(&table, "wlc", imbalance) < value(&table, "wrr", imbalance));
    assert!(value(&table, "p2c", rush) < value(&table, "wlc", rush));
    assert!(value(&table, "mh", moved) < 5.0 && value(&table, "sh", moved) > 50.0);
}

#[test]
fn slow_start_and_affinity_are_heeded() {
    let [stretch, rush, moved] = [4, 5, 8];
    let schedulers = ["--rate", "200", "--schedulers", "wlc,rr"];
    let plain = table(&schedulers);
    let slowly = table(&[&schedulers[..], &["--slow-start", "10"]].concat());
    assert!(value(&slowly, "wlc", rush) < value(&plain, "wlc", rush) / 2.0, "{slowly}");
    let sticky = table(&[&schedulers[..], &["--affinity", "40"]].concat());
    assert!(value(&plain, "rr", moved) > 50.0 && value(&sticky, "rr", moved) < 0.05, "{sticky}");
    let alike = table(&[&schedulers[..], &["--slow-at", "never"]].concat());
    assert!(value(&plain, "rr", stretch) > 1.1 && alike.contains(" 1.00*"), "{alike}");
}

#[test]
fn refused_connections_are_told() {
    let table = table(&["--backends", "1", "--slow", "1", "--remove", "1", "--add-at", "never"]);
    assert!(table.contains("rr: ") && table.contains(" connections refused"), "{table}");
}

#[test]
fn bad_options_are_named() {
    for (arguments, named) in [
        (&["--backends", "0"][..], "'0' for '--backends"),
        (&["--weights", "1,0"], "'0' for '--weights"),
        (&["--nat", "101"], "'101' for '--nat <PERCENT>': expected 0 to 100"),
        (&["--rate", "fast"], "'fast' for '--rate <N>': expected a number"),
        (&["--long", "0"], "'0' for '--long <SECONDS>': expected 0.001 to"),
        (&["--slow-factor", "nan"], "'nan' for '--slow-factor <K>': expected 0.01 to 1000"),
        (
            &["--slow-at", "soon"],
            "'soon' for '--slow-at <SECONDS|never>': expected a number, or never",
        ),
        (&["--slow", "9"], "--slow 9: expected 1 to 8"),
        (&["--remove", "0"], "--remove 0: expected 1 to 8"),
        (&["--add-at", "240"], "--add-at 240: expected less than the duration, 240"),
        (&["--warm-up", "300"], "--warm-up 300: expected less than the duration, 240"),
        (&["--schedulers", "rr,wtf"], "'wtf' for '--schedulers"),
        (&["--schedulers", "rr,rr"], "--schedulers: rr is named twice"),
        (&["--duration", "1", "--svg", "/nowhere/lab.svg"], "--slow-at 40: expected less"),
        (&[&SMALL[..], &["--svg", "/nowhere/lab.svg"]].concat(), "--svg /nowhere/lab.svg: "),
    ] {
        let output = lab(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {errors}");
        assert!(errors.starts_with("error: ") && errors.contains(named), "{arguments:?}: {errors}");
    }
}
