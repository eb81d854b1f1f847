//! Any bytes as a selector: no panic, and what is accepted says the same when printed and read again, or written as Kubernetes' object
//! and read again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use svcplane::k8s::LabelSelector;
use svcplane::labels::{Labels, Selector};

fuzz_target!(|bytes: &[u8]| {
    let Ok(selector) = Selector::parse(bytes) else { return };
    let text = selector.to_string();
    let again: Selector = text.parse().expect("canonical text is accepted");
    assert_eq!(again, selector, "{text:?}");
    assert_eq!(again.to_string(), text);
    for labels in [Labels::default(), Labels::from_iter([("a", "1"), ("b", ""), ("in", "notin")])] {
        assert_eq!(again.matches(&labels), selector.matches(&labels));
        if let Ok(object) = LabelSelector::try_from(&selector) {
            let again = object.convert().expect("what was written is right");
            assert_eq!(again.matches(&labels), selector.matches(&labels), "{text:?}");
        }
    }
});
