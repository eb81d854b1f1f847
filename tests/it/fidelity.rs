//! The chapter on fidelity says where this crate differs, and misses nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const CHAPTER: &str = include_str!("../../src/guide/fidelity.md");
const MARK: &str = "`DIFFERENCE`";

/// How many differences each file below `src` documents, by its path there.
fn marked() -> BTreeMap<String, usize> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut pending = vec![src.clone()];
    let mut marked = BTreeMap::new();
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(folder).expect("src can be listed") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a source file");
                let count = text.matches(MARK).count();
                let bare = text.matches("DIFFERENCE").count() - count;
                assert_eq!(bare, 0, "{}: the mark is {MARK}", path.display());
                if count > 0 {
                    let relative = path.strip_prefix(&src).expect("below src");
                    marked.insert(relative.display().to_string().replace('\\', "/"), count);
                }
            }
        }
    }
    assert!(marked.len() > 10, "src was not found");
    marked
}

/// How many items of the list name each file, all of them under the heading of the file's module.
fn listed() -> BTreeMap<String, usize> {
    let mut listed = BTreeMap::new();
    for section in CHAPTER.split("\n## ").skip(1) {
        let module = section.split('`').nth(1).expect("the name of a module");
        for item in section.split("\n* ").skip(1) {
            let named = item.split_once("(`").and_then(|(_, rest)| rest.split_once("`):"));
            let (file, reason) = named.unwrap_or_else(|| panic!("no file and reason in: {item}"));
            let root = file.split(['/', '.']).next().expect("a first part");
            assert_eq!(root, module, "{file} is listed under {module}");
            assert!(reason.trim().len() > 10, "no reason in: {item}");
            *listed.entry(file.to_owned()).or_insert(0) += 1;
        }
    }
    listed
}

#[test]
fn every_difference_is_listed_with_its_file_and_reason() {
    let (listed, marked) = (listed(), marked());
    for (file, count) in &marked {
        assert_eq!(listed.get(file), Some(count), "{file}: differences in the chapter and marked");
    }
    for file in listed.keys() {
        assert!(marked.contains_key(file), "{file} is in the chapter, and marks no difference");
    }
}

#[test]
fn modules_of_the_list_are_in_order() {
    let headings = CHAPTER.split("\n## ").skip(1);
    let modules: Vec<&str> = headings.filter_map(|section| section.split('`').nth(1)).collect();
    assert!(modules.is_sorted(), "{modules:?}");
}
