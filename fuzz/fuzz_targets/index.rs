//! Any bytes as selectors and objects that come and go, in an inverted index beside a linear scan.

#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use svcplane::labels::{Index, Labels, Operator, Requirement, Selector};

use crate::bytes::Bytes;

#[path = "../bytes.rs"]
mod bytes;

const KEYS: [&str; 4] = ["app", "tier", "n", "zone"];
const VALUES: [&str; 6] = ["", "a", "b", "5", "7", "10"];
const NAMESPACES: [&str; 2] = ["one", "two"];

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = Bytes(&bytes[..bytes.len().min(600)]);
    let mut index: Index<u8, u8> = Index::default();
    let mut selectors: BTreeMap<u8, (&str, Selector)> = BTreeMap::new();
    let mut objects: BTreeMap<u8, (&str, Labels)> = BTreeMap::new();
    while let Some(kind) = bytes.next() {
        let (namespace, id) = (NAMESPACES[usize::from(kind >> 7)], bytes.byte() % 12);
        match kind % 6 {
            0 | 1 => {
                let selector = selector(&mut bytes);
                index.insert_selector(namespace, id, selector.clone());
                selectors.insert(id, (namespace, selector));
            }
            2 => assert_eq!(index.remove_selector(&id), selectors.remove(&id).is_some()),
            3 | 4 => {
                let labels = labels(&mut bytes);
                index.insert_object(namespace, id, &labels);
                objects.insert(id, (namespace, labels));
            }
            _ => assert_eq!(index.remove_object(&id), objects.remove(&id).is_some()),
        }
        assert_eq!((index.selectors(), index.objects()), (selectors.len(), objects.len()));
    }
    for namespace in NAMESPACES {
        for (_, labels) in objects.values() {
            let expected: Vec<&u8> = selectors
                .iter()
                .filter(|(_, (space, selector))| *space == namespace && selector.matches(labels))
                .map(|(id, _)| id)
                .collect();
            assert_eq!(index.selectors_matching(namespace, labels), expected, "{labels:?}");
        }
        for (_, selector) in selectors.values() {
            let expected: Vec<&u8> = objects
                .iter()
                .filter(|(_, (space, labels))| *space == namespace && selector.matches(labels))
                .map(|(id, _)| id)
                .collect();
            assert_eq!(index.objects_matching(namespace, selector), expected, "{selector}");
        }
    }
    // What is gone leaves nothing behind.
    for id in 0..12 {
        index.remove_selector(&id);
        index.remove_object(&id);
    }
    assert_eq!(format!("{index:?}"), format!("{:?}", Index::<u8, u8>::default()));
});

fn labels(bytes: &mut Bytes<'_>) -> Labels {
    (0..bytes.byte() % 4).map(|_| (bytes.one(&KEYS), bytes.one(&VALUES))).collect()
}

fn selector(bytes: &mut Bytes<'_>) -> Selector {
    let count = bytes.byte();
    if count == 255 {
        return Selector::nothing();
    }
    Selector::new((0..count % 4).map(|_| {
        let (key, operator) = (bytes.one(&KEYS), bytes.one(Operator::ALL));
        let mut values = vec![bytes.one(&VALUES), bytes.one(&VALUES)];
        match operator {
            Operator::Exists | Operator::DoesNotExist => values.clear(),
            Operator::GreaterThan | Operator::LessThan => values = vec!["7"],
            Operator::In | Operator::NotIn => {}
            _ => values.truncate(1),
        }
        Requirement::new(key, operator, values).expect("a legal requirement")
    }))
}
