//! The inverted index against the linear scan.

use std::collections::BTreeMap;

use proptest::prelude::*;
use svcplane::labels::{Index, Labels, Operator, Requirement, Selector};

const KEYS: [&str; 4] = ["app", "tier", "n", "zone"];
const VALUES: [&str; 5] = ["", "a", "b", "5", "10"];
const NAMESPACES: [&str; 2] = ["one", "two"];

fn labels() -> impl Strategy<Value = Labels> {
    let pair = (prop::sample::select(&KEYS), prop::sample::select(&VALUES));
    prop::collection::vec(pair, 0..4).prop_map(Labels::from_iter)
}

fn requirement() -> impl Strategy<Value = Requirement> {
    let operator = prop::sample::select(Operator::ALL);
    let values = prop::collection::vec(prop::sample::select(&VALUES), 1..3);
    (prop::sample::select(&KEYS), operator, values).prop_map(|(key, operator, mut values)| {
        match operator {
            Operator::Exists | Operator::DoesNotExist => values.clear(),
            Operator::GreaterThan | Operator::LessThan => values = vec!["7"],
            Operator::In | Operator::NotIn => {}
            _ => values.truncate(1),
        }
        Requirement::new(key, operator, values).expect("a legal requirement")
    })
}

fn selector() -> impl Strategy<Value = Selector> {
    prop_oneof![
        1 => Just(Selector::nothing()),
        12 => prop::collection::vec(requirement(), 0..4).prop_map(Selector::new),
    ]
}

#[derive(Clone, Debug)]
enum Op {
    Selector(usize, u8, Selector),
    NoSelector(u8),
    Object(usize, u8, Labels),
    NoObject(u8),
}

fn op() -> impl Strategy<Value = Op> {
    let (space, id) = (0_usize..2, 0_u8..12);
    prop_oneof![
        4 => (space.clone(), id.clone(), selector()).prop_map(|(n, id, s)| Op::Selector(n, id, s)),
        1 => id.clone().prop_map(Op::NoSelector),
        4 => (space, id.clone(), labels()).prop_map(|(n, id, l)| Op::Object(n, id, l)),
        1 => id.prop_map(Op::NoObject),
    ]
}

proptest! {
    #[test]
    fn agrees_with_the_linear_scan(
        ops in prop::collection::vec(op(), 1..120),
        asked in prop::collection::vec((labels(), selector()), 1..8),
    ) {
        let mut index: Index<u8, u8> = Index::default();
        let mut selectors: BTreeMap<u8, (usize, Selector)> = BTreeMap::new();
        let mut objects: BTreeMap<u8, (usize, Labels)> = BTreeMap::new();
        for op in ops {
            match op {
                Op::Selector(n, id, selector) => {
                    index.insert_selector(NAMESPACES[n], id, selector.clone());
                    selectors.insert(id, (n, selector));
                }
                Op::NoSelector(id) => {
                    prop_assert_eq!(index.remove_selector(&id), selectors.remove(&id).is_some());
                }
                Op::Object(n, id, labels) => {
                    index.insert_object(NAMESPACES[n], id, &labels);
                    objects.insert(id, (n, labels));
                }
                Op::NoObject(id) => {
                    prop_assert_eq!(index.remove_object(&id), objects.remove(&id).is_some());
                }
            }
            prop_assert_eq!((index.selectors(), index.objects()), (selectors.len(), objects.len()));
        }
        let filed = objects.values().map(|(_, labels)| labels);
        let wanted = selectors.values().map(|(_, selector)| selector);
        let labels: Vec<&Labels> = asked.iter().map(|(labels, _)| labels).chain(filed).collect();
        let asked: Vec<&Selector> = asked.iter().map(|(_, selector)| selector).chain(wanted).collect();
        for (n, namespace) in NAMESPACES.iter().enumerate() {
            for labels in &labels {
                let expected: Vec<&u8> = selectors
                    .iter()
                    .filter(|(_, (space, selector))| *space == n && selector.matches(labels))
                    .map(|(id, _)| id)
                    .collect();
                prop_assert_eq!(index.selectors_matching(namespace, labels), expected, "{:?}", labels);
            }
            for selector in &asked {
                let expected: Vec<&u8> = objects
                    .iter()
                    .filter(|(_, (space, labels))| *space == n && selector.matches(labels))
                    .map(|(id, _)| id)
                    .collect();
                prop_assert_eq!(index.objects_matching(namespace, selector), expected, "{}", selector);
            }
        }
        for id in 0..12 {
            index.remove_selector(&id);
            index.remove_object(&id);
        }
        prop_assert_eq!(format!("{index:?}"), format!("{:?}", Index::<u8, u8>::default()));
    }
}
