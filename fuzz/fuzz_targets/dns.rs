//! Any bytes as updates of a zone and questions to it, beside a naive server; then as a question on the wire, to a zone that has
//! every kind of name.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use svcplane::dns::{Code, Name, NameBuf, RecordType, ResolvConf, Zone};

#[path = "../../tests/it/dns_model.rs"]
mod model;

/// Bytes that make objects of all kinds.
static ZONE: LazyLock<Zone> = LazyLock::new(model::varied);

fuzz_target!(|bytes: &[u8]| {
    let Some(([kind, number], rest)) = bytes.split_first_chunk() else { return };
    // The naive server takes its time: most inputs are questions only.
    if kind % 8 == 0 {
        model::run(&rest[..rest.len().min(200)]);
    }
    let kind = RecordType::from(u16::from(*kind));
    if let Ok(name) = Name::from_wire(rest) {
        ask(name, kind, *number);
    }
    // Labels of any bytes, under the zone and under the reverse zones.
    for suffix in ["svc.cluster.local", "pod.cluster.local", "in-addr.arpa", "ip6.arpa", "."] {
        let suffix: NameBuf = suffix.parse().expect("a name");
        let labels = rest.split(|byte| byte == number).filter(|label| !label.is_empty());
        if let Ok(name) = NameBuf::from_labels(labels.chain(suffix.name().labels())) {
            ask(name.name(), kind, *number);
        }
    }
    if let Ok(text) = std::str::from_utf8(rest) {
        if let Ok(name) = text.parse::<NameBuf>() {
            ask(name.name(), kind, *number);
        }
        let servers = [std::net::IpAddr::from([10, 96, 0, 10])];
        let zone = "cluster.local".parse().expect("a name");
        let host = text.split('\n').map(Into::into);
        let (conf, _) =
            ResolvConf::cluster_first("x", Some(zone), servers, host, Default::default());
        for name in conf.names(text).into_iter().flatten() {
            ask(name.name(), RecordType::A, *number);
        }
    }
});

fn ask(name: Name<'_>, kind: RecordType, turn: u8) {
    let copy = NameBuf::from(name);
    assert_eq!(Name::from_wire(copy.as_wire()), Ok(name));
    assert_eq!(name.to_string().parse(), Ok(copy));
    let answer = ZONE.answer(name, kind, turn.into());
    let (answers, additional) = (answer.answers().len(), answer.additional().count());
    assert!(answer.code() == Code::NoError || answers == 0 || answer.code() == Code::NxDomain);
    assert!(answers > 0 || additional == 0);
    assert!(answer.answers().next().is_none_or(|record| record.name == name));
    for limit in [0, 100, usize::from(turn) * 4, 512] {
        let fitted = answer.fit(limit);
        assert_eq!(fitted.is_truncated(), fitted.answers().len() < answers);
        assert!(
            fitted
                .answers()
                .chain(fitted.authority())
                .chain(fitted.additional())
                .all(|record| !record.to_string().is_empty())
        );
    }
}
