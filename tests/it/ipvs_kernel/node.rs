//! A node whose Services IPVS carries out: what the kernel and `ipvsadm` have of a plan, what drains, what others did, who comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::Command as Program;
use std::time::Duration;

use svcplane::endpoints::EndpointSet;
use svcplane::ipvs::{
    Command, Config, Forwarding, RealServer, VirtualKey, VirtualServer, Weight, compile,
};
use svcplane::kernel::{Ipvs, IpvsNode};
use svcplane::net::{IpFamily, Protocol};
use svcplane::nftables::Layout;
use svcplane::plan::{Mode, Plan};
use svcplane::service::Service;
use svcplane::time::Instant;

use super::{LONG, ready};
use crate::kernel::change::state;
use crate::kernel::lab::{CLUSTER_IP, Lab, PORT, at, client, ip, pod, service, sticky};

fn plan_of(lab: &Lab, services: &[(Service, EndpointSet)]) -> Plan {
    let services = services.iter().map(|(service, endpoints)| (service, endpoints));
    Plan::new(lab.plan.node(), Mode::Ipvs, services)
}

fn open(lab: &Lab, deadline: Option<Duration>) -> (IpvsNode, Ipvs) {
    let netns = lab.topology.node.name();
    let node = IpvsNode::open(Some(&netns), Config::default(), deadline);
    (node.unwrap_or_else(|error| panic!("{error}")), Ipvs::open_in(&netns, LONG).expect("IPVS"))
}

fn addr(n: u8) -> SocketAddr {
    SocketAddr::new(pod(n), PORT)
}

fn vip() -> SocketAddr {
    SocketAddr::new(ip(CLUSTER_IP), 80)
}

/// A line for each virtual and real server, as `ipvsadm -S -n` has it.
fn said(lab: &Lab) -> BTreeSet<String> {
    let run = || Program::new("ipvsadm").args(["-S", "-n"]).output();
    let said = lab.topology.node.run(run).expect("ipvsadm");
    let text = String::from_utf8(said.stdout).expect("UTF-8");
    text.lines().map(|line| line.trim().to_owned()).collect()
}

fn wanted(plan: &Plan) -> BTreeSet<String> {
    let commands = compile(plan, &Config::default()).commands();
    commands.iter().map(ToString::to_string).collect()
}

/// A change is carried out without a look at the rest, and a look at everything finds nothing left to do.
#[test]
fn changes_lead_where_plans_lead() {
    if ready("node").is_none() {
        return;
    }
    let lab = Lab::new(Layout::Flat);
    let (mut node, _) = open(&lab, None);
    let mut plan = plan_of(&lab, &state(0));
    let now = Instant::from_secs(1);
    node.sync(&plan, now).unwrap_or_else(|error| panic!("{error}"));
    let mut commands = 0;
    for seed in 1..10 {
        let next = plan_of(&lab, &state(seed));
        let changes = Plan::diff(&plan, &next);
        let followed = node.follow(&next, &changes, now).unwrap_or_else(|error| panic!("{error}"));
        commands += followed.commands.len();
        assert_eq!(said(&lab), wanted(&next), "{seed}");
        let again = node.sync(&next, now).expect("a sync");
        assert_eq!(
            (again.commands.len(), again.addresses_added, again.addresses_removed),
            (0, 0, 0),
            "{seed}"
        );
        plan = next;
    }
    assert!(commands > 20, "{commands}");
}

#[test]
fn the_kernel_has_what_a_plan_wants_whatever_others_do() {
    if ready("node").is_none() {
        return;
    }
    let lab = Lab::new(Layout::Flat);
    let (mut node, mut ipvs) = open(&lab, None);
    let (mut now, mut commands) = (Instant::from_secs(1), 0);
    for seed in 0..10 {
        let plan = plan_of(&lab, &state(seed));
        now += Duration::from_secs(60);
        commands += node.sync(&plan, now).unwrap_or_else(|error| panic!("{error}")).commands.len();
        assert_eq!(said(&lab), wanted(&plan), "{seed}");
        let again = node.sync(&plan, now).expect("a sync");
        assert_eq!(
            (again.commands.len(), again.addresses_added, again.addresses_removed),
            (0, 0, 0)
        );

        // Somebody takes a virtual server away, closes another, adds one, and a real server to a third.
        let desired = compile(&plan, &Config::default());
        let keys: Vec<VirtualKey> = desired.servers().map(|(key, _)| *key).collect();
        let stranger = VirtualKey::udp("192.0.2.99:99".parse().expect("an address"));
        let mut strokes =
            vec![Command::AddVirtual(VirtualServer::new(stranger, "lc".parse().expect("a name")))];
        if let Some(first) = keys.first() {
            strokes.push(Command::DeleteVirtual(*first));
        }
        if let Some((key, server)) = desired.servers().nth(1) {
            let zero = |real: &RealServer| Command::EditReal(*key, real.with_weight(Weight::ZERO));
            strokes.extend(server.reals.values().map(zero));
            let strange = match key.family() {
                IpFamily::V4 => "192.0.2.98:98",
                IpFamily::V6 => "[2001:db8::98]:98",
            };
            let strange = strange.parse().expect("an address");
            strokes.push(Command::AddReal(*key, RealServer::new(strange, Forwarding::Direct)));
            strokes.push(Command::EditVirtual(VirtualServer::new(
                *key,
                "wlc".parse().expect("a name"),
            )));
        }
        ipvs.apply(&strokes).unwrap_or_else(|error| panic!("{error}"));
        assert_ne!(said(&lab), wanted(&plan), "{seed}");
        node.sync(&plan, now).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(said(&lab), wanted(&plan), "{seed}: put right");
    }
    assert!(commands > 30, "{commands}");
    node.remove().expect("a removal");
    assert!(said(&lab).is_empty());
}

#[test]
fn a_connection_outlives_its_endpoint_until_the_deadline() {
    if ready("node").is_none() {
        return;
    }
    let lab = Lab::new(Layout::Flat);
    let web = service("web", &[CLUSTER_IP], &[Protocol::Tcp]);
    let with =
        |pods: &[u8]| plan_of(&lab, &[(web.clone(), at(&web, pods.iter().map(|&n| pod(n))))]);
    let (mut node, mut ipvs) = open(&lab, Some(Duration::from_secs(300)));
    let start = Instant::from_secs(1);
    let at_second = |second: u64| start + Duration::from_secs(second);
    node.sync(&with(&[1]), at_second(0)).expect("a sync");

    // The servers here speak and hang up: its other half is open as long as the client does not.
    let connect = || TcpStream::connect_timeout(&vip(), LONG).expect("a connection");
    let mut held = lab.topology.pods.run(connect);
    held.set_read_timeout(Some(LONG)).expect("a timeout");
    let mut greeting = [0; 8];
    held.read_exact(&mut greeting).expect("a greeting");
    assert_eq!(&greeting, &addr(1).to_string().as_bytes()[..8]);

    let drained = node.sync(&with(&[2]), at_second(10)).expect("a sync");
    let lines: Vec<String> = drained.commands.iter().map(ToString::to_string).collect();
    let key = VirtualKey::tcp(vip());
    assert_eq!(
        lines,
        [format!("-a {key} -r {} -m -w 1", addr(2)), format!("-e {key} -r {} -m -w 0", addr(1))]
    );
    for n in 1..10 {
        assert_eq!(lab.block(lab.reach(client(n), vip())), addr(2), "nothing new for the first");
    }
    held.read_to_end(&mut Vec::new()).expect("the rest, over the same connection");
    let count = |ipvs: &mut Ipvs| ipvs.real_servers(key).expect("a list").len();
    assert_eq!((count(&mut ipvs), node.next_sync(at_second(10))), (2, Some(at_second(70))));

    // A program that is started anew goes on, and a real server that is wanted again has its weight back.
    drop(node);
    let (mut node, _) = open(&lab, Some(Duration::from_secs(300)));
    node.sync(&with(&[2]), at_second(20)).expect("a sync");
    assert_eq!(count(&mut ipvs), 2, "it still drains");
    let back = node.sync(&with(&[1, 2]), at_second(30)).expect("a sync");
    assert_eq!(back.commands.len(), 1, "{:?}", back.commands);
    node.sync(&with(&[2]), at_second(40)).expect("a sync");
    assert_eq!((count(&mut ipvs), node.next_sync(at_second(300))), (2, Some(at_second(340))));
    let over = node.sync(&with(&[2]), at_second(340)).expect("a sync");
    assert_eq!(
        (over.commands.len(), count(&mut ipvs), node.next_sync(at_second(340))),
        (1, 1, None)
    );
    drop(held);
    node.remove().expect("a removal");
}

#[test]
fn clients_keep_to_their_endpoint() {
    if ready("node").is_none() {
        return;
    }
    let lab = Lab::new(Layout::Flat);
    let service = sticky(Duration::from_secs(3_600));
    let with = |pods: &[u8]| {
        plan_of(&lab, &[(service.clone(), at(&service, pods.iter().map(|&n| pod(n))))])
    };
    let round = || -> BTreeMap<IpAddr, SocketAddr> {
        lab.block(async {
            let mut reached = BTreeMap::new();
            for from in (1..=12).map(client) {
                reached.insert(from, lab.reach(from, vip()).await);
            }
            reached
        })
    };
    let (mut node, _) = open(&lab, None);
    node.sync(&with(&[1, 2, 3]), Instant::from_secs(1)).expect("a sync");
    let before = round();
    assert_eq!(before.values().collect::<BTreeSet<_>>().len(), 3);
    assert_eq!(round(), before);
    node.sync(&with(&[2, 3]), Instant::from_secs(2)).expect("a sync");
    let after = round();
    for (client, server) in &before {
        if *server == addr(1) {
            assert_ne!(after[client], addr(1), "{client}");
        } else {
            assert_eq!(after[client], *server, "{client}");
        }
    }
    node.remove().expect("a removal");
}
