//! The zone by Kubernetes' own test tables, its laws, and the client's half.

use std::net::IpAddr;

use proptest::prelude::*;
use svcplane::dns::{
    Code, Config, Limits, Name, NameBuf, PodMode, RecordData, RecordType, ResolvConf, Zone,
};
use svcplane::endpoints::{Endpoint, EndpointPort, EndpointSet, Reference};
use svcplane::name::ObjectName;
use svcplane::pod::{Phase, Pod};
use svcplane::service::{ClusterIps, Service, ServiceKind, ServicePort};

use crate::dns_model::{run, set, told, varied};

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// A Service of `testns` (or `namespace/name`) with a port http, 80/TCP: its cluster IPs, `None` for a headless one.
fn service(name: &str, ips: &str) -> Service {
    let name = if name.contains('/') { name.to_owned() } else { format!("testns/{name}") };
    let mut service = Service::new(name.parse().expect("a name"));
    service.cluster_ips = match ips {
        "None" => ClusterIps::Headless,
        ips => ClusterIps::Assigned(ips.split(' ').map(ip).collect()),
    };
    let mut port = ServicePort::new(80);
    port.name = Some("http".parse().expect("a label"));
    service.ports = vec![port];
    service
}

fn external(name: &str, target: &str) -> Service {
    let mut service = service(name, "None");
    service.cluster_ips = ClusterIps::Unassigned;
    service.kind = ServiceKind::ExternalName(target.into());
    service
}

/// An endpoint `hostname=address`, or the address alone, with a port http, 80/TCP.
fn endpoint(text: &str) -> Endpoint {
    let (hostname, ip) = text.split_once('=').map_or((None, text), |(name, ip)| (Some(name), ip));
    let mut endpoint = Endpoint::new(self::ip(ip));
    endpoint.hostname = hostname.map(|name| name.parse().expect("a label"));
    let mut port = EndpointPort::new(80);
    port.name = Some("http".parse().expect("a label"));
    endpoint.ports = [port].into();
    endpoint
}

fn endpoints(texts: &str) -> Vec<Endpoint> {
    texts.split_whitespace().map(endpoint).collect()
}

/// `CoreDNS` `plugin/kubernetes/handler_test.go`: its Services and endpoints.
fn handler_zone(config: Config) -> Zone {
    let mut zone = Zone::new("cluster.local".parse().expect("a name"), config);
    let mut portless = endpoint("172.0.0.20");
    portless.ports = [].into();
    for (service, endpoints) in [
        (service("svc1", "10.0.0.1"), endpoints("ep1a=172.0.0.1")),
        (service("svc6", "1234:abcd::1"), endpoints("172.0.0.1")),
        (service("svcempty", "10.0.0.1"), vec![]),
        (
            service("hdls1", "None"),
            endpoints(
                "172.0.0.2 172.0.0.3 dup-name=172.0.0.4 dup-name=172.0.0.5 5678:abcd::1 5678:abcd::2",
            ),
        ),
        (service("hdlsprtls", "None"), vec![portless]),
        (service("dual", "10.0.0.3 10::3"), endpoints("172.0.0.9")),
        (external("external", "ext.interwebs.test"), vec![]),
        (external("external-to-service", "svc1.testns.svc.cluster.local."), vec![]),
    ] {
        zone.upsert(&service, &set(&service, &endpoints));
    }
    zone
}

/// What a zone says to `NAME TYPE`, in which a name without a dot at the end is one of `testns.svc.cluster.local`, and so in
/// answers: `NAME TYPE DATA`, sorted, without the usual time to live. Then the additional section.
fn says(zone: &Zone, question: &str) -> (Code, Vec<String>, Vec<String>) {
    let (name, kind) = question.split_once(' ').expect("a name and a type");
    let kind = [
        RecordType::A,
        RecordType::Aaaa,
        RecordType::Srv,
        RecordType::Cname,
        RecordType::Ptr,
        RecordType::Txt,
        RecordType::Ns,
        RecordType::Soa,
    ]
    .into_iter()
    .find(|known| known.to_string() == kind)
    .unwrap_or(RecordType::Other(13));
    let own = "testns.svc.cluster.local.";
    let whole = if name.ends_with('.') { name.to_owned() } else { format!("{name}.{own}") };
    let whole: NameBuf = whole.parse().expect("a name");
    let told = told(zone, whole.name(), kind, 1);
    let short = |record: &String| {
        record.replace(" 5 IN", "").replace(&format!(".{own}"), "").replace("cluster.local.", "Z")
    };
    let short = |records: &[String]| records.iter().map(short).collect::<Vec<_>>();
    // Without an answer, the zone's own record says how long that is so.
    let negative = !matches!(told.code, Code::Refused | Code::ServFail) && told.answers.is_empty();
    assert_eq!(told.authority.len(), usize::from(negative), "{question}");
    (told.code, short(&told.answers), short(&told.additional))
}

const NODATA: &[&str] = &[];

#[track_caller]
fn assert_says(zone: &Zone, question: &str, expected: &[&str]) {
    let (code, answers, _) = says(zone, question);
    assert_eq!(
        (code, answers.iter().map(|a| &**a).collect()),
        (Code::NoError, expected.to_vec()),
        "{question}"
    );
}

#[track_caller]
fn assert_code(zone: &Zone, question: &str, code: Code) {
    assert_eq!(says(zone, question), (code, vec![], vec![]), "{question}");
}

/// `CoreDNS` `plugin/kubernetes/handler_test.go`, `dnsTestCases`.
#[test]
fn handler_table() {
    let zone = handler_zone(Config::default());
    for (question, answers, additional) in [
        ("svc1 A", &["svc1 A 10.0.0.1"][..], NODATA),
        ("svcempty A", &["svcempty A 10.0.0.1"], &[]),
        ("svc1 SRV", &["svc1 SRV 0 100 80 svc1"], &["svc1 A 10.0.0.1"]),
        ("svcempty SRV", &["svcempty SRV 0 100 80 svcempty"], &["svcempty A 10.0.0.1"]),
        ("svc6 SRV", &["svc6 SRV 0 100 80 svc6"], &["svc6 AAAA 1234:abcd::1"]),
        ("_http._tcp.svc1 SRV", &["_http._tcp.svc1 SRV 0 100 80 svc1"], &["svc1 A 10.0.0.1"]),
        ("svc6 AAAA", &["svc6 AAAA 1234:abcd::1"], &[]),
        (
            "hdls1 A",
            &["hdls1 A 172.0.0.2", "hdls1 A 172.0.0.3", "hdls1 A 172.0.0.4", "hdls1 A 172.0.0.5"],
            &[],
        ),
        ("hdls1 AAAA", &["hdls1 AAAA 5678:abcd::1", "hdls1 AAAA 5678:abcd::2"], &[]),
        ("hdlsprtls A", &["hdlsprtls A 172.0.0.20"], &[]),
        ("172-0-0-20.hdlsprtls A", &["172-0-0-20.hdlsprtls A 172.0.0.20"], &[]),
        ("hdlsprtls SRV", &[], &[]),
        (
            "_http._tcp.hdls1 SRV",
            &[
                "_http._tcp.hdls1 SRV 0 16 80 172-0-0-2.hdls1",
                "_http._tcp.hdls1 SRV 0 16 80 172-0-0-3.hdls1",
                "_http._tcp.hdls1 SRV 0 16 80 5678-abcd--1.hdls1",
                "_http._tcp.hdls1 SRV 0 16 80 5678-abcd--2.hdls1",
                "_http._tcp.hdls1 SRV 0 16 80 dup-name.hdls1",
            ],
            &[
                "172-0-0-2.hdls1 A 172.0.0.2",
                "172-0-0-3.hdls1 A 172.0.0.3",
                "5678-abcd--1.hdls1 AAAA 5678:abcd::1",
                "5678-abcd--2.hdls1 AAAA 5678:abcd::2",
                "dup-name.hdls1 A 172.0.0.4",
                "dup-name.hdls1 A 172.0.0.5",
            ],
        ),
        ("172-0-0-2.hdls1 A", &["172-0-0-2.hdls1 A 172.0.0.2"], &[]),
        ("5678-abcd--1.hdls1 AAAA", &["5678-abcd--1.hdls1 AAAA 5678:abcd::1"], &[]),
        ("dup-name.hdls1 A", &["dup-name.hdls1 A 172.0.0.4", "dup-name.hdls1 A 172.0.0.5"], &[]),
        ("dual A", &["dual A 10.0.0.3"], &[]),
        ("dual AAAA", &["dual AAAA 10::3"], &[]),
        ("dual SRV", &["dual SRV 0 50 80 dual"], &["dual A 10.0.0.3", "dual AAAA 10::3"]),
        ("ep1a.svc1 A", &["ep1a.svc1 A 172.0.0.1"], &[]),
        ("external CNAME", &["external CNAME ext.interwebs.test."], &[]),
        ("external A", &["external CNAME ext.interwebs.test."], &[]),
        ("external SRV", &[], &[]),
        ("external-to-service A", &["external-to-service CNAME svc1", "svc1 A 10.0.0.1"], &[]),
        ("dns-version.cluster.local. TXT", &["dns-version.Z 28800 IN TXT \"1.1.0\""], &[]),
        ("cluster.local. NS", &["Z NS ns.dns.Z"], &[]),
        ("cluster.local. SOA", &["Z SOA ns.dns.Z hostmaster.Z 9 7200 1800 86400 5"], &[]),
    ] {
        let (code, said, also) = says(&zone, question);
        assert_eq!(code, Code::NoError, "{question}");
        assert_eq!(said, answers, "{question}");
        assert_eq!(also, additional, "{question}");
    }
}

/// The same: names without the record, without anything, and of others.
#[test]
fn handler_table_without_answers() {
    let zone = handler_zone(Config::default());
    for question in [
        "svc1 AAAA",
        "svc1 TXT",
        "svc1 SOA",
        "svc1 HINFO",
        "svc1 NS",
        "svc.cluster.local. A",
        "pod.cluster.local. A",
        "testns.svc.cluster.local. A",
        "svc.cluster.local. NS",
        "testns.svc.cluster.local. NS",
        "cluster.local. A",
        "dns-version.cluster.local. A",
        "dns.cluster.local. A",
        "ns.dns.cluster.local. A",
        "svc6 A",
        "hdls1 TXT",
        "external TXT",
        "_tcp.svc1 A",
        "_http._tcp.svc1 A",
    ] {
        assert_says(&zone, question, NODATA);
    }
    for question in [
        "svc0 A",
        "svc0 AAAA",
        "svc0 TXT",
        "svc0.svc-nons.svc.cluster.local. A",
        "svc0.svc-nons.svc.cluster.local. TXT",
        "svc-nons.svc.cluster.local. A",
        "bogusendpoint.hdls1 A",
        "bogusendpoint.svc0 A",
        "bogusendpoint.svc1 A",
        "_udp.svc1 A",
        "_https._tcp.svc1 SRV",
        "_http._udp.svc1 SRV",
        "a._http._tcp.svc1 SRV",
        "foo.cluster.local. NS",
        "foo.svc.cluster.local. NS",
        "endpoint.external CNAME",
        "subdomain.subdomain.external A",
        "external.cluster.local. A",
        // Modes of pods: none by default.
        "10-240-0-1.testns.pod.cluster.local. A",
        "testns.pod.cluster.local. A",
        "svc1.testns.svc.cluster.local.cluster.local. A",
        "*.testns.svc.cluster.local. A",
        "any.any.svc.cluster.local. A",
    ] {
        assert_code(&zone, question, Code::NxDomain);
    }
    for question in [
        "example.com. A",
        "local. A",
        r"a\007cluster.local. A",
        ". NS",
        "notcluster.local. A",
        "svc.cluster.locals. A",
    ] {
        assert_code(&zone, question, Code::Refused);
    }
    let name: NameBuf = "cluster.local".parse().expect("a name");
    for transfer in [251, 252] {
        assert_eq!(zone.answer(name.name(), RecordType::from(transfer), 0).code(), Code::Refused);
    }
}

/// The same: `ignore empty_service`, and a name that does not exist before all objects are known.
#[test]
fn options() {
    let mut config = Config::default();
    config.ignore_empty_services = true;
    config.ttl = 9_999;
    let mut zone = handler_zone(config);
    assert_code(&zone, "svcempty A", Code::NxDomain);
    for question in ["svc1 A", "external CNAME"] {
        let (code, answers, _) = says(&zone, question);
        assert_eq!((code, answers.len()), (Code::NoError, 1));
        assert!(answers[0].contains(" 3600 IN "), "{answers:?}");
    }
    zone.set_synced(false);
    assert_code(&zone, "svc0 A", Code::ServFail);
    assert_eq!(says(&zone, "svc1 A").0, Code::NoError);
    assert_says(&zone, "svc1 TXT", NODATA);

    let mut config = Config::default();
    config.servers = vec![ip("10.96.0.10"), ip("fd00::a")];
    let zone = handler_zone(config);
    assert_says(&zone, "ns.dns.cluster.local. A", &["ns.dns.Z A 10.96.0.10"]);
    let (_, _, additional) = says(&zone, "cluster.local. NS");
    assert_eq!(additional, ["ns.dns.Z A 10.96.0.10", "ns.dns.Z AAAA fd00::a"]);
}

/// What `CoreDNS` answers of pods in each mode.
#[test]
fn pods() {
    let mut pod = Pod::new("podns/foo".parse().expect("a name"));
    pod.ips = vec![ip("10.240.0.1"), ip("fd00::7"), ip("2001:db8::")];
    pod.phase = Phase::Running;
    let zone = |mode: PodMode| {
        let mut config = Config::default();
        config.pods = mode;
        let mut zone = Zone::new("cluster.local".parse().expect("a name"), config);
        assert!(zone.upsert_pod(&pod));
        zone
    };
    let first = ("10-240-0-1.podns.pod.cluster.local. A", "10-240-0-1.podns.pod.Z A 10.240.0.1");
    let other = ("172-0-0-2.podns.pod.cluster.local. A", "172-0-0-2.podns.pod.Z A 172.0.0.2");
    let v6 = ("FD00--7.podns.pod.cluster.local. AAAA", "FD00--7.podns.pod.Z AAAA fd00::7");
    let zero =
        ("2001-db8--0.podns.pod.cluster.local. AAAA", "2001-db8--0.podns.pod.Z AAAA 2001:db8::");

    let insecure = zone(PodMode::Insecure);
    for (question, answer) in [first, other, v6, zero] {
        assert_says(&insecure, question, &[answer]);
    }
    assert_says(&insecure, "10-240-0-1.podns.pod.cluster.local. AAAA", NODATA);
    let verified = zone(PodMode::Verified);
    for (question, answer) in [first, v6, zero] {
        assert_says(&verified, question, &[answer]);
    }
    assert_code(&verified, other.0, Code::NxDomain);
    for zone in [&insecure, &verified] {
        assert_says(zone, "podns.pod.cluster.local. A", NODATA);
        for name in [
            "blah.podns",
            "1-2-3.podns",
            "1.2.3.4.podns",
            "1-2-3-256.podns",
            "blah.pod-nons",
            "pod-nons",
            "172-0-0-2.pod-nons",
            "x.10-240-0-1.podns",
        ] {
            for kind in ["A", "AAAA", "HINFO"] {
                assert_code(zone, &format!("{name}.pod.cluster.local. {kind}"), Code::NxDomain);
            }
        }
    }
    let disabled = zone(PodMode::Disabled);
    for question in [first.0, other.0, "podns.pod.cluster.local. A"] {
        assert_code(&disabled, question, Code::NxDomain);
    }
    assert_says(&disabled, "podns.svc.cluster.local. A", NODATA);

    // Two on one node share its address.
    let mut shared = verified.clone();
    let mut other = pod.clone();
    other.name = "podns/bar".parse().expect("a name");
    assert!(shared.upsert_pod(&other) && shared.remove_pod(&other.name));
    assert_says(&shared, first.0, &[first.1]);

    let mut over = verified.clone();
    pod.phase = Phase::Succeeded;
    assert!(over.upsert_pod(&pod) && !over.upsert_pod(&pod));
    assert_code(&over, first.0, Code::NxDomain);
    assert_says(&over, "podns.pod.cluster.local. A", NODATA);
    assert!(over.remove_pod(&pod.name) && !over.remove_pod(&pod.name));
    assert_code(&over, "podns.pod.cluster.local. A", Code::NxDomain);
}

/// `CoreDNS` `plugin/kubernetes/reverse_test.go`, `TestReverse`.
#[test]
fn reverse() {
    let mut config = Config::default();
    config.reverse = ["10.0.0.0/8", "192.168.0.0/15", "1234:abcd::/30"]
        .map(|net| net.parse().expect("a CIDR"))
        .to_vec();
    let mut zone = Zone::new("cluster.local".parse().expect("a name"), config);
    for (service, endpoints) in [
        (
            service("svc1", "192.168.1.100"),
            endpoints("ep1a=10.0.0.100 ep1b=1234:abcd::1 10.0.0.99"),
        ),
        (service("svc2", "192.169.1.100 10.0.0.98"), endpoints("10.0.0.99 11.0.0.1 10.0.0.98")),
        (service("svc3", "10.0.0.98"), vec![]),
    ] {
        zone.upsert(&service, &set(&service, &endpoints));
    }
    let v6 = format!("1.{}d.c.b.a.4.3.2.1.ip6.arpa.", "0.".repeat(23));
    for (name, expected) in [
        ("100.0.0.10.in-addr.arpa.", &["ep1a.svc1"][..]),
        ("100.1.168.192.in-addr.arpa.", &["svc1"]),
        ("100.1.169.192.IN-ADDR.arpa.", &["svc2"]),
        ("99.0.0.10.in-addr.arpa.", &["10-0-0-99.svc1", "10-0-0-99.svc2"]),
        ("98.0.0.10.in-addr.arpa.", &["svc2"]),
        (&*v6, &["ep1b.svc1"]),
    ] {
        let answers: Vec<String> = expected.iter().map(|to| format!("{name} PTR {to}")).collect();
        let answers: Vec<&str> = answers.iter().map(|answer| &**answer).collect();
        assert_says(&zone, &format!("{name} PTR"), &answers);
        assert_says(&zone, &format!("{name} A"), NODATA);
    }
    for name in [
        "101.0.0.10.in-addr.arpa.",
        "1.0.10.in-addr.arpa.",
        "x.100.0.0.10.in-addr.arpa.",
        "0100.0.0.10.in-addr.arpa.",
        "256.0.0.10.in-addr.arpa.",
        "x.10.in-addr.arpa.",
        "1.1.168.192.in-addr.arpa.",
        &*format!("2{}", &v6[1..]),
        &format!("x{}", &v6[1..]),
        &format!("0.{v6}"),
        &format!("{}100.0.0.10.in-addr.arpa.", "1.".repeat(40)),
        &format!("{}10.in-addr.arpa.", "x.".repeat(99)),
        "7.f.d.c.b.a.4.3.2.1.ip6.arpa.",
    ] {
        assert_code(&zone, &format!("{name} PTR"), Code::NxDomain);
    }
    for name in [
        "0.10.in-addr.arpa.",
        "0.0.10.in-addr.arpa.",
        "168.192.in-addr.arpa.",
        "10.in-addr.arpa.",
        &v6[2..],
    ] {
        assert_says(&zone, &format!("{name} PTR"), NODATA);
    }
    for name in [
        "1.0.0.11.in-addr.arpa.",
        "in-addr.arpa.",
        "ip6.arpa.",
        "arpa.",
        "192.in-addr.arpa.",
        "1.170.192.in-addr.arpa.",
        "0.d.b.a.4.3.2.1.ip6.arpa.",
        "b.a.4.3.2.1.ip6.arpa.",
        "x.in-addr.arpa.",
    ] {
        assert_code(&zone, &format!("{name} PTR"), Code::Refused);
    }
    // Each zone that a range of no whole label stands for is one of its own.
    let soa = |apex: &str| format!("{apex} SOA ns.dns.Z hostmaster.Z 4 7200 1800 86400 5");
    for apex in ["168.192.in-addr.arpa.", "169.192.in-addr.arpa.", "f.c.b.a.4.3.2.1.ip6.arpa."] {
        assert_says(&zone, &format!("{apex} SOA"), &[&soa(apex)]);
        assert_says(&zone, &format!("{apex} NS"), &[&format!("{apex} NS ns.dns.Z")]);
    }
    let name: NameBuf = "1.1.168.192.in-addr.arpa".parse().expect("a name");
    let authority = zone.answer(name.name(), RecordType::Ptr, 0).authority().next();
    assert_eq!(
        authority.map(|record| record.name.to_string()).as_deref(),
        Some("168.192.in-addr.arpa.")
    );
    // What is elsewhere is not told of either.
    assert!(zone.pointers().all(|(address, _)| address != ip("11.0.0.1")));
}

/// `CoreDNS` `plugin/kubernetes/kubernetes_test.go`, `TestEndpointHostname`.
#[test]
fn names_of_endpoints() {
    for (ip, hostname, pod_names, expected) in [
        ("10.11.12.13", "", false, "10-11-12-13"),
        ("10.11.12.13", "epname", false, "epname"),
        ("10.11.12.13", "epname", true, "epname"),
        ("10.11.12.13", "", true, "hello-abcde"),
        (
            "2001:db8:3333:4444:5555:6666:7777:8888",
            "",
            false,
            "2001-db8-3333-4444-5555-6666-7777-8888",
        ),
        ("2001:db8:3333:4444:5555:6666::", "", false, "2001-db8-3333-4444-5555-6666--0"),
    ] {
        let mut config = Config::default();
        config.endpoint_pod_names = pod_names;
        let mut zone = Zone::new("cluster.local".parse().expect("a name"), config);
        let mut endpoint = endpoint(ip);
        endpoint.hostname = (!hostname.is_empty()).then(|| hostname.parse().expect("a label"));
        let pod = ObjectName::new("testns", "hello-abcde").expect("a name");
        endpoint.target = Some(Reference::new("Pod", &pod, ""));
        let service = service("s", "None");
        zone.upsert(&service, &set(&service, &[endpoint.clone()]));
        assert_eq!(says(&zone, &format!("{expected}.s TXT")).0, Code::NoError, "{expected}");
        let srv = &says(&zone, "s SRV").1[0];
        assert_eq!(*srv, format!("s SRV 0 100 80 {expected}.s"));
    }
    // As a StatefulSet's pods are called.
    let mut zone = Zone::new("cluster.local".parse().expect("a name"), Config::default());
    let eureka = service("ms/eureka", "None");
    zone.upsert(&eureka, &set(&eureka, &endpoints("eureka-0=10.1.0.1 eureka-1=10.1.0.2")));
    assert_says(
        &zone,
        "eureka-0.eureka.ms.svc.cluster.local. A",
        &["eureka-0.eureka.ms.svc.Z A 10.1.0.1"],
    );
}

/// `CoreDNS` `plugin/kubernetes/parse_test.go`, `TestParseRequest`. `DIFFERENCE`: empty labels make no name.
#[test]
fn questions() {
    let mut zone = handler_zone(Config::default());
    let webs = service("mynamespace/webs", "None");
    zone.upsert(&webs, &set(&webs, &endpoints("1.2.3.4")));
    for (name, kind, records) in [
        ("_http._tcp.webs.mynamespace.svc.cluster.local.", "SRV", 1),
        ("http.tcp.webs.mynamespace.svc.cluster.local.", "SRV", 1),
        ("_HTTP._Tcp.WEBS.MyNamespace.SVC.Cluster.LOCAL.", "SRV", 1),
        ("1-2-3-4.webs.mynamespace.svc.cluster.local.", "A", 1),
        ("webs.mynamespace.svc.cluster.local.", "A", 1),
    ] {
        let (code, answers, _) = says(&zone, &format!("{name} {kind}"));
        assert_eq!((code, answers.len()), (Code::NoError, records), "{name}");
        // The question's own letters come back.
        assert!(answers[0].starts_with(&name.replace("cluster.local.", "Z")), "{answers:?}");
    }
    for name in [
        "webs.mynamespace.pood",
        "too.long.for.what.I.am.trying.to.pod",
        "too.long.for.what.I.am.trying.to.svc",
    ] {
        assert_code(&zone, &format!("{name}.cluster.local. A"), Code::NxDomain);
    }
    assert!("..webs.mynamespace.svc.cluster.local.".parse::<NameBuf>().is_err());
}

/// RFC 1035, section 2.3.4 and 5.1.
#[test]
fn names() {
    for (text, shown) in [
        (".", "."),
        ("a", "a."),
        ("A.b.", "A.b."),
        (r"a\.b.c", r"a\.b.c."),
        (r"\097\000\255.x", r"a\000\255.x."),
        ("*._-.x", "*._-.x."),
        ("a b", r"a\032b."),
    ] {
        let name: NameBuf = text.parse().expect("a name");
        assert_eq!(name.to_string(), shown);
        assert_eq!(shown.parse(), Ok(name));
        assert_eq!(Name::from_wire(name.as_wire()), Ok(name.name()));
        assert_eq!(NameBuf::from(name.name()).as_wire(), name.as_wire());
        assert_eq!(NameBuf::from_labels(name.name().labels()), Ok(name));
        assert_eq!(name.as_wire().len(), name.name().wire_len());
    }
    let label = "x".repeat(63);
    let longest = format!("{label}.{label}.{label}.{}", &label[..61]);
    let name: NameBuf = longest.parse().expect("255 bytes");
    assert_eq!(name.as_wire().len(), 255);
    assert_eq!(Name::from_wire(name.as_wire()), Ok(name.name()));
    for text in [
        "",
        "..",
        "a..b",
        ".a",
        &format!("{longest}x"),
        &format!("{label}x.a"),
        r"a\",
        r"a\25",
        r"a\256",
        r"a\2x5",
    ] {
        assert!(text.parse::<NameBuf>().is_err(), "{text}");
    }
    for wire in [
        &b""[..],
        b"\x01a",
        b"\x01",
        b"\x02a\0",
        b"\x01a\0\0",
        b"\0\0",
        b"\xc0\x0c",
        b"\x01a\xc0\x0c\0",
        &[1; 257],
    ] {
        assert!(Name::from_wire(wire).is_err(), "{wire:?}");
    }
    assert_ne!("ab.c".parse::<NameBuf>(), "a.bc".parse());
    assert_ne!("a.b".parse::<NameBuf>(), "a.b.c".parse());
}

/// What cannot be called by a name has none, and takes nothing with it.
#[test]
fn what_is_left_out_is_told() {
    let mut zone = handler_zone(Config::default());
    let mut dotted = service("a.b", "10.0.0.1");
    dotted.name = ObjectName::new("testns", "a.b").expect("a subdomain");
    for service in [&dotted, &external("address", "10.0.0.1"), &external("bad", "a..b")] {
        zone.upsert(service, &EndpointSet::new(service.name.clone(), []));
    }
    let warnings: Vec<String> = zone.warnings().map(|warning| warning.to_string()).collect();
    assert_eq!(
        warnings,
        [
            "testns/a.b: it has no DNS name: expected an RFC 1123 label, and room for it",
            "testns/address: its name in DNS leads nowhere: expected a domain name as externalName",
            "testns/bad: its name in DNS leads nowhere: expected a domain name as externalName",
        ]
    );
    assert_code(&zone, "a.b A", Code::NxDomain);
    assert_says(&zone, "address A", NODATA);
    assert_says(&zone, "bad CNAME", NODATA);
    assert_says(&zone, "svc1 A", &["svc1 A 10.0.0.1"]);
    assert!(zone.remove(&dotted.name) && !zone.remove(&dotted.name));

    // A zone whose own name leaves room for some names only.
    let label = "z".repeat(63);
    let origin: NameBuf = format!("{label}.{label}.{}", "z".repeat(60)).parse().expect("a name");
    let mut zone = Zone::new(origin, Config::default());
    let long = format!("n/{}", "y".repeat(60));
    for (name, told) in [(&*long, 0), ("n/abcdefghij", 2), ("n/a", 3)] {
        let mut service = service(name, "10.0.0.1");
        service.ports[0].name = Some("averyveryverylongportname".parse().expect("a label"));
        let hosts = endpoints("an-endpoint-with-a-very-very-very-very-long-name=10.0.0.1 1.2.3.4");
        zone.upsert(&service, &set(&service, &hosts));
        let names = zone.records().filter(|record| record.data.kind() == RecordType::A);
        assert_eq!(names.count(), told, "{:?}", zone.records().collect::<Vec<_>>());
        assert!(zone.records().all(|record| record.name.wire_len() <= 255));
        zone.remove(&service.name);
    }
}

/// Aliases of aliases, in circles, too many of them, and to what is not there.
#[test]
fn aliases() {
    let mut zone = handler_zone(Config::default());
    let mut add = |name: &str, target: &str| {
        let target = if target.ends_with('.') {
            target.to_owned()
        } else {
            format!("{target}.testns.svc.cluster.local")
        };
        let service = external(name, &target);
        zone.upsert(&service, &EndpointSet::new(service.name.clone(), []));
    };
    add("self", "self");
    add("ping", "pong");
    add("pong", "ping");
    for n in 0..10 {
        add(&format!("far-{n}"), &format!("far-{}", n + 1));
    }
    add("far-10", "svc1");
    add("lost", "nobody");
    add("bare", "hdls1");
    let count = |question: &str| {
        let (code, answers, _) = says(&zone, question);
        (code, answers.len())
    };
    assert_eq!(count("self A"), (Code::NoError, 1));
    assert_eq!(count("ping A"), (Code::NoError, 2));
    assert_eq!(count("far-3 A"), (Code::NoError, 9));
    assert_eq!(count("far-2 A"), (Code::NoError, 8), "eight are followed");
    assert_eq!(count("far-2 CNAME"), (Code::NoError, 1));
    assert_eq!(count("bare AAAA"), (Code::NoError, 3));
    // RFC 6604: the code is that of the name at the end.
    let name: NameBuf = "lost.testns.svc.cluster.local".parse().expect("a name");
    let answer = zone.answer(name.name(), RecordType::A, 0);
    assert_eq!((answer.code(), answer.answers().len()), (Code::NxDomain, 1));
    assert_eq!(answer.authority().len(), 1);
}

/// Each record comes first equally often, whatever is asked in between: here every so many questions.
#[test]
fn turns_are_fair() {
    const TURNS: u64 = 30_000;
    let mut zone = Zone::new("cluster.local".parse().expect("a name"), Config::default());
    for count in [1_u64, 2, 3, 7] {
        let service = service("s", "None");
        let ips = (1..=count).map(|n| endpoint(&format!("10.0.0.{n}"))).collect::<Vec<_>>();
        zone.upsert(&service, &set(&service, &ips));
        let name: NameBuf = "s.testns.svc.cluster.local".parse().expect("a name");
        for kind in [RecordType::A, RecordType::Srv] {
            for stride in [1, 2, 3, 7, 1 << 32] {
                let mut firsts = std::collections::BTreeMap::new();
                for turn in 0..TURNS {
                    let answer = zone.answer(name.name(), kind, turn * stride);
                    let first = answer.answers().next().expect("a record").data;
                    *firsts.entry(first.to_string()).or_insert(0_u64) += 1;
                }
                assert_eq!(firsts.len() as u64, count);
                // Five standard deviations of a fair draw.
                let share = TURNS / count;
                let most = (25 * share).isqrt();
                assert!(
                    firsts.values().all(|n| n.abs_diff(share) <= most),
                    "{count} every {stride}: {firsts:?}"
                );
            }
        }
        let turn = |turn| -> Vec<String> {
            zone.answer(name.name(), RecordType::A, turn).answers().map(|r| r.to_string()).collect()
        };
        for n in 0..20 {
            assert_eq!(turn(n), turn(n), "the same turn has the same order");
            let mut sorted = turn(n);
            let behind = (0..sorted.len()).find(|&by| {
                sorted.rotate_left(by);
                let is = sorted.is_sorted();
                sorted.rotate_right(by);
                is
            });
            assert!(behind.is_some(), "in order, but for where it begins: {sorted:?}");
            sorted.sort();
            sorted.dedup();
            assert_eq!(sorted.len() as u64, count);
        }
    }
}

/// Endpoints with several ports: addresses are told once, wherever the turn begins; weights count each port.
#[test]
fn several_ports() {
    let mut zone = Zone::new("cluster.local".parse().expect("a name"), Config::default());
    let service = service("s", "None");
    let mut ends = endpoints("a=10.0.0.1 b=10.0.0.2");
    for endpoint in &mut ends {
        let mut dns = EndpointPort::new(53);
        dns.name = Some("dns".parse().expect("a label"));
        let mut dns_udp = dns.clone();
        dns_udp.protocol = svcplane::net::Protocol::Udp;
        endpoint.ports = [dns, dns_udp, endpoint.ports[0].clone(), EndpointPort::new(7)].into();
    }
    zone.upsert(&service, &set(&service, &ends));
    let name: NameBuf = "s.testns.svc.cluster.local".parse().expect("a name");
    for turn in 0..50 {
        let answer = zone.answer(name.name(), RecordType::Srv, turn);
        // Three numbers for each: 53 is one record for both its transports, though it counts twice.
        assert_eq!(answer.answers().len(), 6);
        let weight = |data| matches!(data, RecordData::Srv { weight: 12, .. });
        assert!(answer.answers().all(|record| weight(record.data)));
        let mut hosts: Vec<String> = answer.additional().map(|record| record.to_string()).collect();
        let first = answer.answers().next().expect("a record").data.to_string();
        assert!(first.ends_with(hosts[0].split(' ').next().expect("a name")));
        hosts.sort();
        assert_eq!(
            hosts,
            [
                "a.s.testns.svc.cluster.local. 5 IN A 10.0.0.1",
                "b.s.testns.svc.cluster.local. 5 IN A 10.0.0.2"
            ]
        );
    }
    assert_says(
        &zone,
        "_dns._udp.s SRV",
        &["_dns._udp.s SRV 0 50 53 a.s", "_dns._udp.s SRV 0 50 53 b.s"],
    );
    assert_says(
        &zone,
        "a.s SRV",
        &["a.s SRV 0 25 53 a.s", "a.s SRV 0 25 7 a.s", "a.s SRV 0 25 80 a.s"],
    );
}

/// Kubernetes `pkg/kubelet/network/dns`: what is searched, and its limits; `resolv.conf(5)` for `ndots`.
#[test]
fn what_a_client_tries() {
    let zone: NameBuf = "cluster.local".parse().expect("a name");
    let host = || ["svc.cluster.local", "example.com", "example.com"].map(Into::into);
    let conf = |zone| {
        ResolvConf::cluster_first("prod", zone, [ip("10.96.0.10")], host(), Limits::default())
    };
    let (pod, dropped) = conf(Some(zone));
    assert_eq!(dropped, svcplane::dns::Dropped::default());
    let joined = pod.search.join(" ");
    assert_eq!(joined, "prod.svc.cluster.local svc.cluster.local cluster.local example.com");
    assert_eq!(conf(None).0.search.join(" "), "svc.cluster.local example.com");

    let tried = |typed: &str| -> Vec<String> {
        pod.names(typed).expect("a name").map(|name| name.to_string()).collect()
    };
    let searched =
        |typed: &str| pod.search.iter().map(|domain| format!("{typed}.{domain}.")).collect();
    for (typed, dots) in
        [("db", 0), ("db.other", 1), ("db.other.svc.cluster.local", 4), ("a.b.c.d.e.f", 5)]
    {
        let mut expected: Vec<String> = searched(typed);
        let at = if dots < 5 { expected.len() } else { 0 };
        expected.insert(at, format!("{typed}."));
        assert_eq!(tried(typed), expected, "{typed}");
        assert_eq!(tried(&format!("{typed}.")), [format!("{typed}.")]);
    }
    assert!(pod.names("a..b").is_err());
    assert_eq!(
        tried(&format!("{}.{}.{}.x", "a".repeat(63), "b".repeat(63), "c".repeat(63))).len(),
        5
    );
    let long = format!("{0}.{0}.{0}.{1}", "a".repeat(63), "b".repeat(50));
    // With any domain behind it would be no legal name.
    assert_eq!(tried(&long), [format!("{long}."),].map(|name| name));

    // The namespace's own `db` first, then the one that was meant.
    let mut zone = handler_zone(Config::default());
    let db = service("other/db", "10.0.0.9");
    zone.upsert(&db, &EndpointSet::new(db.name.clone(), []));
    let hit = pod
        .names("db.other")
        .expect("a name")
        .position(|name| zone.answer(name.name(), RecordType::A, 0).code() == Code::NoError);
    assert_eq!(hit, Some(1));

    for (count, len, limits, expected) in [
        (40, 10, Limits::default(), 32),
        (32, 10, Limits::default(), 32),
        (32, 63, Limits::default(), 32),
        (32, 64, Limits::default(), 31),
        (40, 10, Limits { domains: 6, characters: 256, ..Limits::default() }, 6),
        (6, 42, Limits { domains: 6, characters: 256, ..Limits::default() }, 5),
        (6, 41, Limits { domains: 6, characters: 251, ..Limits::default() }, 6),
        (6, 41, Limits { domains: 6, characters: 250, ..Limits::default() }, 5),
    ] {
        let domain = |n: usize| -> Box<str> { format!("{n:0len$}").into() };
        let servers = (0..5_u8).map(|n| IpAddr::from([10, 0, 0, n]));
        let (conf, dropped) =
            ResolvConf::cluster_first("x", None, servers, (0..count).map(domain), limits);
        assert_eq!(conf.search.len(), expected, "{count} of {len}");
        assert!(
            conf.search
                .iter()
                .chain(&dropped.search)
                .eq((0..count).map(domain).collect::<Vec<_>>().iter())
        );
        assert_eq!((conf.name_servers.len(), dropped.name_servers.len()), (3, 2));
    }
}

/// Small messages: the additional section goes first, then the answer is cut and says so.
#[test]
fn what_does_not_fit() {
    let mut zone = Zone::new("cluster.local".parse().expect("a name"), Config::default());
    let service = service("s", "None");
    let many: Vec<Endpoint> = (0..500_u32)
        .map(|n| endpoint(&IpAddr::from(0x0a00_0000_u32.wrapping_add(n).to_be_bytes()).to_string()))
        .collect();
    zone.upsert(&service, &set(&service, &many));
    let name: NameBuf = "s.testns.svc.cluster.local".parse().expect("a name");
    let answer = zone.answer(name.name(), RecordType::A, 0);
    // 12 of the header, 28 and 4 of the question, 16 for each record.
    let udp = answer.fit(512);
    assert_eq!((udp.answers().len(), udp.is_truncated()), ((512 - 12 - 28 - 4) / 16, true));
    let tcp = answer.fit(65_535);
    assert_eq!((tcp.answers().len(), tcp.is_truncated()), (500, false));
    let srv = zone.answer(name.name(), RecordType::Srv, 0);
    assert_eq!((srv.answers().len(), srv.additional().count()), (500, 500));
    let weight = |data| matches!(data, RecordData::Srv { weight: 1, .. });
    assert!(srv.answers().all(|record| weight(record.data)), "as small as it gets");
    let whole = srv.fit(500 * (12 + 6 + 39) + 44);
    assert_eq!((whole.answers().len(), whole.is_truncated()), (500, false));
    assert!(whole.additional().count() < 200);
}

/// What the fuzz target asks has something of everything.
#[test]
fn a_varied_zone_has_all_kinds() {
    let zone = varied();
    let kinds: std::collections::BTreeSet<u16> =
        zone.records().map(|record| record.data.kind().number()).collect();
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), [1, 2, 5, 6, 16, 28, 33]);
    assert!(zone.pointers().count() > 4);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn as_the_naive_server(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        run(&bytes);
    }
}
