//! Labels, selectors, and the checks of keys and values.

use std::collections::BTreeMap;

use proptest::prelude::*;
use svcplane::labels::{Labels, Selector, check_key, check_value};
use svcplane::name::NameError;

type Pairs<'a> = &'a [(&'a str, &'a str)];

fn labels(pairs: Pairs<'_>) -> Labels {
    pairs.iter().copied().collect()
}

fn selector(pairs: Pairs<'_>) -> Selector {
    Selector::from(&labels(pairs))
}

/// Kubernetes apimachinery `pkg/util/validation/validation_test.go`, `TestIsQualifiedName`, and edges of
/// the same rules.
#[test]
fn keys() {
    let longest_name = "a".repeat(63);
    let longest = format!("{}/{}", "a".repeat(253), "b".repeat(63));
    for key in [
        "simple",
        "now-with-dashes",
        "1-starts-with-num",
        "1234",
        "simple/simple",
        "now-with-dashes/simple",
        "now-with-dashes/now-with-dashes",
        "now.with.dots/simple",
        "now-with.dashes-and.dots/simple",
        "1-num.2-num/3-num",
        "1234/5678",
        "1.2.3.4/5678",
        "Uppercase_Is_OK_123",
        "example.com/Uppercase_Is_OK_123",
        "requests.storage-foo",
        &longest_name,
        &longest,
    ] {
        assert_eq!(check_key(key), Ok(()), "{key:?}");
    }
    for key in [
        "nospecialchars%^=@",
        "cantendwithadash-",
        "-cantstartwithadash-",
        "only/one/slash",
        "Example.com/abc",
        "example_com/abc",
        "example.com/",
        "/simple",
        "",
        "/",
        "a..b/c",
        "a//b",
        "a/.b",
        "a/b_",
        "clé",
    ] {
        let error = check_key(key);
        assert!(matches!(error, Err(NameError::Malformed { .. })), "{key:?}: {error:?}");
    }
    for (key, max) in [
        ("a".repeat(64), 63),
        (format!("a/{}", "b".repeat(64)), 63),
        (format!("{}/abc", "a".repeat(254)), 253),
    ] {
        assert_eq!(check_key(&key), Err(NameError::TooLong { max }), "{key:?}");
    }
}

/// Kubernetes apimachinery `pkg/util/validation/validation_test.go`, `TestIsValidLabelValue`, and edges
/// of the same rule.
#[test]
fn values() {
    let longest = "a".repeat(63);
    for value in [
        "simple",
        "now-with-dashes",
        "1-starts-with-num",
        "end-with-num-1",
        "1234",
        &longest,
        "",
        "123_-.BaR",
    ] {
        assert_eq!(check_value(value), Ok(()), "{value:?}");
    }
    for value in [
        "nospecialchars%^=@",
        "Tama-nui-te-rā.is.Māori.sun",
        "\\backslashes\\are\\bad",
        "-starts-with-dash",
        "ends-with-dash-",
        ".starts.with.dot",
        "ends.with.dot.",
        "bad,value",
        "?#$notsogood",
        "_a",
        "a_",
        "a b",
        "a/b",
        "a\n",
    ] {
        let error = check_value(value);
        assert!(matches!(error, Err(NameError::Malformed { .. })), "{value:?}: {error:?}");
    }
    // The limit is in bytes: 32 letters of two bytes each.
    for value in ["a".repeat(64), "ā".repeat(32)] {
        assert_eq!(check_value(&value), Err(NameError::TooLong { max: 63 }), "{value:?}");
    }
}

/// Kubernetes apimachinery `pkg/labels/selector_test.go`, `TestSelectorMatches`, `TestSetMatches`: the rows
/// that are plain equality.
#[test]
fn selectors_match() {
    let foo_baz: Pairs<'_> = &[("foo", "bar"), ("baz", "blah")];
    let rows: [(Pairs<'_>, Pairs<'_>, bool); 18] = [
        (&[], &[("x", "y")], true),
        (&[], &[], true),
        (&[], foo_baz, true),
        (&[("x", "y")], &[("x", "y")], true),
        (&[("x", "y"), ("z", "w")], &[("x", "y"), ("z", "w")], true),
        (&[("notin", "in")], &[("notin", "in")], true),
        (&[("x", "z")], &[], false),
        (&[("x", "y")], &[("x", "z")], false),
        (&[("x", "y"), ("z", "w")], &[("x", "w"), ("z", "w")], false),
        (&[("foo", "bar")], foo_baz, true),
        (&[("baz", "blah")], foo_baz, true),
        (&[("foo", "bar"), ("baz", "blah")], foo_baz, true),
        (&[("foo", "blah")], foo_baz, false),
        (&[("baz", "bar")], foo_baz, false),
        (&[("foo", "bar"), ("foobar", "bar"), ("baz", "blah")], foo_baz, false),
        // An empty value is a value: the key has to be there.
        (&[("x", "")], &[("x", "")], true),
        (&[("x", "")], &[("y", "")], false),
        (&[("x", "")], &[("x", "y")], false),
    ];
    for (wanted, have, expected) in rows {
        assert_eq!(selector(wanted).matches(&labels(have)), expected, "{wanted:?} on {have:?}");
    }
}

/// Kubernetes apimachinery `pkg/labels/selector_test.go`, `TestSetIsEmpty`, `TestNilMapIsValid`: as a selector, no
/// labels are everything (as a Service's selector they are nothing).
#[test]
fn no_labels_select_everything() {
    assert_eq!(selector(&[]), Selector::everything());
    assert_eq!(Selector::from(&Labels::default()), Selector::everything());
    assert!(selector(&[]).is_empty());
    assert!(!selector(&[("x", "y")]).is_empty());
}

/// Kubernetes apimachinery `pkg/labels/selector_test.go`, `TestSetSelectorString`. The order is that of the keys, not
/// of the `key=value` texts, in which "a-b=2" is before "a=1".
#[test]
fn selectors_display() {
    let rows: [(Pairs<'_>, &str); 5] = [
        (&[], ""),
        (&[("app", "foo")], "app=foo"),
        (&[("app", "foo"), ("a", "b")], "a=b,app=foo"),
        (&[("a-b", "2"), ("a", "1")], "a=1,a-b=2"),
        (&[("x", "")], "x="),
    ];
    for (pairs, expected) in rows {
        assert_eq!(selector(pairs).to_string(), expected, "{pairs:?}");
    }
}

fn pairs() -> impl Strategy<Value = Vec<(&'static str, &'static str)>> {
    let key = prop::sample::select(vec!["a", "a-b", "a.b", "ab", "b", "example.com/a", "A"]);
    let value = prop::sample::select(vec!["", "1", "2"]);
    prop::collection::vec((key, value), 0..8)
}

proptest! {
    /// A set of labels is the map that its pairs make, whatever their order and repetitions.
    #[test]
    fn labels_agree_with_a_map(pairs in pairs()) {
        let map: BTreeMap<_, _> = pairs.iter().copied().collect();
        let labels = labels(&pairs);
        prop_assert!(labels.iter().eq(map.iter().map(|(key, value)| (*key, *value))), "{labels:?}");
        prop_assert_eq!((labels.len(), labels.is_empty()), (map.len(), map.is_empty()));
        prop_assert_eq!(&labels, &map.iter().map(|(key, value)| (*key, *value)).collect());
        for key in ["a", "a-b", "a.b", "ab", "b", "example.com/a", "A", "", "c"] {
            prop_assert_eq!(labels.get(key), map.get(key).copied(), "{}", key);
            prop_assert_eq!(labels.contains_key(key), map.contains_key(key), "{}", key);
        }
    }

    /// A selector matches exactly if each of its pairs is there, and has the labels' own text.
    #[test]
    fn selectors_agree_with_maps(wanted in pairs(), have in pairs(), superset in any::<bool>()) {
        let wanted: BTreeMap<_, _> = wanted.into_iter().collect();
        let mut have: BTreeMap<_, _> = have.into_iter().collect();
        if superset {
            have.extend(&wanted);
        }
        let selector =
            Selector::from(&wanted.iter().map(|(k, v)| (*k, *v)).collect::<Labels>());
        let expected = wanted.iter().all(|(key, value)| have.get(key) == Some(value));
        prop_assert_eq!(selector.matches(&have.into_iter().collect()), expected);
        let text: Vec<_> = wanted.iter().map(|(key, value)| format!("{key}={value}")).collect();
        prop_assert_eq!(selector.to_string(), text.join(","));
    }
}
