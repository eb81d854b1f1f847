//! What becomes of packets.
//!
//! A packet's expectation without `only` holds in the modes iptables and nftables. In mode userspace those of iptables hold,
//! as far as a program that accepts connections itself can have them: there is no masquerading, the health check is its own,
//! and node ports are at the loopback addresses of both families.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use serde::Deserialize;
use serde_json::Value;
use svcplane::endpoints::{EndpointSet, EndpointSlice};
use svcplane::k8s;
use svcplane::net::Protocol;
use svcplane::plan::{LocalNode, Mode, Packet, Plan, Verdict};
use svcplane::service::Service;

use super::Outcome;
use super::node::NodeFile;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Recorded {
    name: String,
    #[serde(rename = "source")]
    _source: String,
    node: NodeFile,
    objects: Vec<k8s::Object>,
    packets: Vec<Expected>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    name: String,
    src: IpAddr,
    proto: String,
    dst: IpAddr,
    dport: u16,
    expect: Expectation,
    #[serde(default)]
    only: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Expectation {
    Backends { backends: BTreeSet<SocketAddr>, masquerade: bool },
    Word(String),
}

/// A scenario, ready to be planned in any mode.
pub(crate) struct Scenario {
    pub(crate) name: String,
    pub(crate) node: LocalNode,
    pub(crate) services: Vec<(Service, EndpointSet)>,
    packets: Vec<Expected>,
}

impl Scenario {
    pub(crate) fn read(recorded: Value) -> Result<Self, String> {
        let recorded: Recorded = serde_json::from_value(recorded)
            .map_err(|error| format!("not a file of flows: {error}"))?;
        let node = recorded.node.local_node()?;
        let (mut services, mut slices): (Vec<Service>, Vec<EndpointSlice>) = <_>::default();
        for object in recorded.objects {
            match object {
                k8s::Object::Service(service) => {
                    services.push(service.convert().map_err(|error| error.to_string())?.object);
                }
                // One that belongs to no Service does not convert.
                k8s::Object::EndpointSlice(slice) => {
                    slices.extend(slice.convert().ok().map(|converted| converted.object));
                }
                _ => return Err("expected Services and EndpointSlices".to_owned()),
            }
        }
        slices.retain(|slice| node.watches_slice(slice));
        let endpoints = |service: &Service| {
            let own = slices.iter().filter(|slice| slice.service == service.name);
            EndpointSet::merge(service.name.clone(), own)
        };
        let services = services.into_iter().map(|service| (endpoints(&service), service));
        let services = services.map(|(endpoints, service)| (service, endpoints)).collect();
        Ok(Self { name: recorded.name, node, services, packets: recorded.packets })
    }

    pub(crate) fn plan(&self, mode: Mode) -> Plan {
        Plan::new(&self.node, mode, self.services.iter().map(|(service, set)| (service, set)))
    }

    /// The packets with what is expected of them in a mode, in words.
    pub(crate) fn packets(&self, mode: Mode) -> impl Iterator<Item = (&str, Packet, String)> {
        let holds = move |packet: &&Expected| match (packet.only.as_deref(), mode) {
            (Some("iptables") | None, Mode::Userspace) => packet.dst != Ipv6Addr::LOCALHOST,
            (None, mode) => mode != Mode::Ipvs,
            (Some(only), mode) => only == mode.as_str(),
        };
        self.packets.iter().filter(holds).map(move |expected| {
            let protocol = expected.proto.to_uppercase();
            let protocol = protocol.parse().unwrap_or(Protocol::Tcp);
            let destination = SocketAddr::new(expected.dst, expected.dport);
            let packet = Packet::new(protocol, expected.src, destination);
            (&*expected.name, packet, expected.expect.to_words(mode))
        })
    }
}

impl Expectation {
    fn to_words(&self, mode: Mode) -> String {
        match self {
            Self::Word(word) if word == "accept" && mode == Mode::Userspace => "none".to_owned(),
            Self::Word(word) => word.clone(),
            Self::Backends { backends, masquerade } => words(backends, *masquerade, mode),
        }
    }
}

fn words(backends: &BTreeSet<SocketAddr>, masquerade: bool, mode: Mode) -> String {
    let backends: Vec<String> = backends.iter().map(ToString::to_string).collect();
    let masquerade = if masquerade && mode != Mode::Userspace { ", masqueraded" } else { "" };
    backends.join(" ") + masquerade
}

/// What a plan does with a packet, in the words of the expectations.
pub(crate) fn verdict(plan: &Plan, packet: &Packet) -> String {
    match plan.route(packet) {
        Verdict::Forward(route) => {
            let backends = route.backends.iter().map(|backend| backend.addr).collect();
            // A scenario has no packets that are masqueraded to some backends only.
            let masquerade = route.backends.iter().all(|b| route.masquerades(b.addr));
            words(&backends, masquerade, plan.mode())
        }
        Verdict::Reject => "reject".to_owned(),
        Verdict::Drop => "drop".to_owned(),
        Verdict::Accept(_) => "accept".to_owned(),
        Verdict::Pass => "none".to_owned(),
    }
}

pub(crate) fn replay(recorded: Value) -> Result<Outcome, String> {
    let scenario = Scenario::read(recorded)?;
    let mut outcome = Outcome::default();
    let mut compared = 0;
    for &mode in Mode::ALL {
        let plan = scenario.plan(mode);
        for (name, packet, expected) in scenario.packets(mode) {
            compared += 1;
            let explanation = plan.explain(&packet);
            let got = verdict(&plan, &packet);
            let input = format!("{mode}: {name}: {packet}");
            outcome.compare(&input, expected.clone(), got.clone());
            if expected != got {
                outcome.compare(&input, "a reason".to_owned(), explanation.to_string());
            }
        }
    }
    outcome.compared = format!("{}: {compared} packets", scenario.name);
    Ok(outcome)
}
