//! What plans want of IPVS, and what leads there: with a naive kernel that counts what is usable after each command.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use proptest::prelude::*;
use svcplane::ipvs::{
    Actual, Command, Config, Desired, Drain, Forwarding, ListedReal, RealKey, RealServer, Tunnel,
    VirtualKey, VirtualServer, Weight, compile, delta, reconcile,
};
use svcplane::net::Protocol;
use svcplane::plan::{Mode, Plan, Verdict};
use svcplane::time::Instant;

use crate::ends::{cluster, packets};
use crate::plan_model::sequences::plans;

/// IPVS with connections that do not end by themselves.
#[derive(Clone, Debug, Default)]
struct Kernel {
    servers: BTreeMap<VirtualKey, (VirtualServer, Vec<ListedReal>)>,
}

impl Kernel {
    fn actual(&self) -> Actual {
        let mut actual = Actual::default();
        for (server, reals) in self.servers.values() {
            actual.insert(*server, reals.iter().copied());
        }
        actual
    }

    fn usable(&self, key: &VirtualKey) -> bool {
        let reals = self.servers.get(key).into_iter().flat_map(|(_, reals)| reals);
        reals.clone().any(|real| real.server.weight != Weight::ZERO)
    }

    /// Fails as the kernel does, and for what changes nothing.
    fn run(&mut self, command: &Command) -> Result<(), String> {
        let failed = |why: &str| Err(format!("{command}: {why}"));
        let key = command.virtual_key().ok_or("no virtual server")?;
        if let Command::AddVirtual(server) = command {
            return match self.servers.insert(key, (*server, Vec::new())) {
                None => Ok(()),
                Some(_) => failed("it is there"),
            };
        }
        let Some((known, reals)) = self.servers.get_mut(&key) else { return failed("ESRCH") };
        let at = |key: &RealKey| reals.iter().position(|real| real.server.key == *key);
        match command {
            Command::EditVirtual(server) if known == server => return failed("no change"),
            Command::EditVirtual(server) => *known = *server,
            Command::DeleteVirtual(_) => _ = self.servers.remove(&key),
            Command::AddReal(_, real) => match at(&real.key) {
                None => reals.insert(0, ListedReal::new(*real)),
                Some(_) => return failed("EEXIST"),
            },
            Command::EditReal(_, real) => match at(&real.key) {
                Some(place) if reals[place].server == *real => return failed("no change"),
                Some(place) => reals[place].server = *real,
                None => return failed("ENOENT"),
            },
            Command::DeleteReal(_, real) => match at(real) {
                Some(place) => _ = reals.remove(place),
                None => return failed("ENOENT"),
            },
            other => return failed(&format!("{other:?} was not expected")),
        }
        Ok(())
    }

    /// Runs commands, and looks after each at every virtual server that has somebody to serve before and after.
    fn follow(&mut self, desired: &Desired, commands: &[Command]) -> Result<(), String> {
        let alive = desired
            .servers()
            .filter(|(_, wanted)| wanted.reals.values().any(|real| real.weight != Weight::ZERO));
        let alive: Vec<VirtualKey> =
            alive.map(|(key, _)| *key).filter(|key| self.usable(key)).collect();
        for command in commands {
            self.run(command)?;
            if let Some(key) = alive.iter().find(|key| !self.usable(key)) {
                return Err(format!("after {command} nobody serves {key}"));
            }
        }
        Ok(())
    }

    /// Gives each real server some connections, or none.
    fn call(&mut self, mut seed: u32) {
        for real in self.servers.values_mut().flat_map(|(_, reals)| reals) {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (real.active, real.inactive) = (seed >> 31, (seed >> 29) & 1);
        }
    }

    /// What is other than wanted, besides TCP's real servers that wait for connections.
    fn differences(&self, desired: &Desired) -> Vec<String> {
        let mut found = Vec::new();
        for (key, wanted) in desired.servers() {
            let Some((server, reals)) = self.servers.get(key) else {
                found.push(format!("{key} is missing"));
                continue;
            };
            if *server != wanted.server {
                found.push(format!("{server} instead of {}", wanted.server));
            }
            let tcp = matches!(key, VirtualKey::Address { protocol: Protocol::Tcp, .. });
            let drains = |real: &ListedReal| {
                let busy = real.active + real.inactive > 0;
                tcp && busy && real.server.weight == Weight::ZERO
            };
            let there: BTreeMap<RealKey, &ListedReal> =
                reals.iter().map(|real| (real.server.key, real)).collect();
            for (real, listed) in &there {
                match wanted.reals.get(real) {
                    Some(wanted) if *wanted == listed.server => {}
                    None if drains(listed) => {}
                    _ => found.push(format!("{key}: {}", listed.server)),
                }
            }
            let missing = wanted.reals.keys().filter(|real| !there.contains_key(real));
            found.extend(missing.map(|real| format!("{key}: {real} is missing")));
        }
        let more = self.servers.keys().filter(|key| desired.server(key).is_none());
        found.extend(more.map(|key| format!("{key} is left")));
        found
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn commands_lead_there_and_nobody_is_left_without_server(
        plans in plans(Mode::Ipvs, 6),
        seed in any::<u32>(),
        restarts in any::<bool>(),
    ) {
        let (mut kernel, mut drain) = (Kernel::default(), Drain::default());
        let mut now = Instant::from_secs(1);
        for (plan, seed) in plans.iter().zip(seed..) {
            let desired = compile(plan, &Config::default());
            kernel.call(seed);
            if restarts {
                drain = Drain::default();
            }
            let actual = kernel.actual();
            let commands = drain.commands(&desired, &actual, &[], now);
            prop_assert_eq!(&commands, &reconcile(&desired, &actual, &[]));
            let done = kernel.follow(&desired, &commands);
            prop_assert!(done.is_ok(), "{:?}", done);
            prop_assert_eq!(kernel.differences(&desired), Vec::<String>::new());
            let again = drain.commands(&desired, &kernel.actual(), &[], now);
            prop_assert!(again.is_empty(), "{:?}", again);
            let drains = kernel.servers.iter().any(|(key, (_, reals))| {
                let wanted = desired.server(key).expect("no other is left");
                reals.iter().any(|real| !wanted.reals.contains_key(&real.server.key))
            });
            prop_assert_eq!(drain.is_idle(), !drains);
            now += Duration::from_secs(60);
        }
        // When all connections have ended, nothing else is there, and as much as commands from nothing make.
        kernel.call(0);
        for real in kernel.servers.values_mut().flat_map(|(_, reals)| reals) {
            (real.active, real.inactive) = (0, 0);
        }
        let desired = compile(plans.last().expect("one at least"), &Config::default());
        let commands = reconcile(&desired, &kernel.actual(), &[]);
        prop_assert!(commands.iter().all(|command| matches!(command, Command::DeleteReal(..))));
        kernel.follow(&desired, &commands).expect("deletions");
        let mut anew = Kernel::default();
        anew.follow(&desired, &desired.commands()).expect("additions");
        let sorted = |kernel: &Kernel| {
            let servers = kernel.servers.values().map(|(server, reals)| {
                let mut reals: Vec<RealServer> = reals.iter().map(|real| real.server).collect();
                reals.sort();
                (*server, reals)
            });
            servers.collect::<Vec<_>>()
        };
        prop_assert_eq!(sorted(&kernel), sorted(&anew));
        // Each real server went to the head, the first one last.
        for (_, reals) in anew.servers.values() {
            prop_assert!(reals.windows(2).all(|pair| pair[0].server.key < pair[1].server.key));
        }
    }

    /// A change looks at what it concerns, and does there what a look at everything would do; elsewhere that would only end draining.
    #[test]
    fn deltas_lead_where_plans_lead(
        plans in plans(Mode::Ipvs, 6),
        seed in any::<u32>(),
        wait in 0_u64..120,
    ) {
        let config = Config::default();
        let (mut kernel, mut drain) = (Kernel::default(), Drain::new(Some(Duration::from_secs(100))));
        let mut desired = compile(&plans[0], &config);
        kernel.follow(&desired, &desired.commands()).expect("additions");
        let mut now = Instant::from_secs(1);
        for (pair, seed) in plans.windows(2).zip(seed..) {
            now += Duration::from_secs(wait);
            kernel.call(seed);
            let delta = delta(&pair[1], &Plan::diff(&pair[0], &pair[1]), &config);
            let before = desired.clone();
            desired.apply(&delta);
            prop_assert_eq!(&desired, &compile(&pair[1], &config));
            let gone: Vec<_> = before.addresses().filter(|ip| !desired.addresses().any(|a| a == *ip)).collect();
            prop_assert!(gone.iter().all(|ip| delta.removed_addresses().any(|removed| removed == *ip)));
            prop_assert!(delta.removed_addresses().all(|ip| !desired.addresses().any(|a| a == ip)));

            let actual = kernel.actual();
            let all = drain.clone().commands(&desired, &actual, &[], now);
            let commands = drain.delta_commands(&delta, &actual, &[], now);
            let keys: Vec<_> = delta.virtual_servers().copied().collect();
            let concerned = |command: &&Command| {
                command.virtual_key().is_some_and(|key| keys.contains(&key))
            };
            let (there, elsewhere): (Vec<&Command>, Vec<&Command>) = all.iter().partition(concerned);
            prop_assert_eq!(commands.iter().collect::<Vec<_>>(), there);
            prop_assert!(elsewhere.iter().all(|command| matches!(command, Command::DeleteReal(..))));
            let done = kernel.follow(&desired, &commands);
            prop_assert!(done.is_ok(), "{:?}", done);
            let mut differences = kernel.differences(&desired);
            let says = |line: &str, key: &VirtualKey| {
                line.strip_prefix(&key.to_string()).is_some_and(|rest| rest.starts_with([':', ' ']))
            };
            differences.retain(|line| keys.iter().any(|key| says(line, key)));
            prop_assert_eq!(differences, Vec::<String>::new());
            // What drains elsewhere is not forgotten: its time goes on.
            let mut known = drain.clone();
            if known.commands(&desired, &kernel.actual(), &[], now).is_empty() {
                prop_assert_eq!(drain.next_deadline(), known.next_deadline());
            }
        }
    }

    /// Somebody else has been at it.
    #[test]
    fn tampering_is_undone(plans in plans(Mode::Ipvs, 2), strokes in prop::collection::vec(any::<(u16, u8)>(), 1..12)) {
        let desired = compile(&plans[0], &Config::default());
        let mut kernel = Kernel::default();
        kernel.follow(&desired, &desired.commands()).expect("additions");
        for (place, stroke) in strokes {
            let keys: Vec<VirtualKey> = kernel.servers.keys().copied().collect();
            let Some(key) = keys.get(usize::from(place) % keys.len().max(1)) else { continue };
            let (server, reals) = kernel.servers.get_mut(key).expect("a key of it");
            match stroke % 7 {
                0 => _ = kernel.servers.remove(key),
                1 => *server = VirtualServer::new(*key, "wlc".parse().expect("a name")),
                2 => reals.clear(),
                3 => reals.iter_mut().for_each(|real| real.server.weight = Weight::ZERO),
                4 => reals.iter_mut().for_each(|real| real.server.forwarding = Forwarding::Tunnel(Tunnel::Ipip)),
                5 => {
                    let stranger: SocketAddr = "203.0.113.9:9".parse().expect("an address");
                    reals.retain(|real| real.server.key != stranger.into());
                    reals.push(ListedReal::new(RealServer::new(stranger, Forwarding::Masquerade)));
                }
                _ => {
                    let stranger = VirtualKey::udp("203.0.113.8:8".parse().expect("an address"));
                    let server = VirtualServer::new(stranger, "rr".parse().expect("a name"));
                    kernel.servers.insert(stranger, (server, Vec::new()));
                }
            }
        }
        let commands = reconcile(&desired, &kernel.actual(), &[]);
        let done = kernel.follow(&desired, &commands);
        prop_assert!(done.is_ok(), "{:?}", done);
        prop_assert_eq!(kernel.differences(&desired), Vec::<String>::new());
    }

    /// Where the plan forwards, there is a virtual server with just these backends; elsewhere there is none, or one without.
    #[test]
    fn virtual_servers_are_where_the_plan_forwards(cluster in cluster(Mode::Ipvs), packets in packets(150)) {
        let plan = cluster.plan();
        let desired = compile(&plan, &Config::default());
        for packet in &packets {
            let ip = packet.destination.ip().to_canonical();
            let to = SocketAddr::new(ip, packet.destination.port());
            let key = VirtualKey::new(packet.protocol, to);
            let server = desired.server(&key);
            let reals = server.map(|server| &server.reals);
            match plan.route(packet) {
                Verdict::Forward(route) => {
                    let Some(server) = server else { return Err(TestCaseError::fail(format!("{packet}: none"))) };
                    let wanted: BTreeMap<RealKey, Weight> = route.backends.iter()
                        .map(|backend| (backend.addr.into(), Weight::saturating(backend.weight)))
                        .collect();
                    let got: BTreeMap<RealKey, Weight> =
                        server.reals.values().map(|real| (real.key, real.weight)).collect();
                    prop_assert_eq!(got, wanted, "{}", packet);
                    let persistence = server.server.persistence().map(|one| Duration::from(one.timeout));
                    prop_assert_eq!(persistence, route.port.client_ip_affinity);
                }
                Verdict::Reject => prop_assert!(reals.is_none_or(BTreeMap::is_empty), "{}", packet),
                Verdict::Drop => {}
                other => prop_assert!(reals.is_none(), "{}: {:?}", packet, other),
            }
            let bound = desired.addresses().any(|bound| bound == ip);
            prop_assert!(!bound || !plan.node().is_own(ip));
            if plan.is_cluster_ip(ip) {
                prop_assert!(bound || plan.node().is_own(ip));
            }
        }
    }
}

fn web() -> (VirtualKey, RealServer) {
    let key = VirtualKey::tcp("10.96.0.10:80".parse().expect("an address"));
    (key, RealServer::new("10.0.0.7:80".parse().expect("an address"), Forwarding::Masquerade))
}

#[test]
fn what_drains_goes_at_its_deadline_and_not_before() {
    let (key, real) = web();
    let server = VirtualServer::new(key, "rr".parse().expect("a name"));
    let mut kernel = Kernel::default();
    let other = RealServer::new("10.0.0.8:80".parse().expect("an address"), Forwarding::Masquerade);
    for command in
        [Command::AddVirtual(server), Command::AddReal(key, real), Command::AddReal(key, other)]
    {
        kernel.run(&command).expect("an addition");
    }
    kernel.servers.get_mut(&key).expect("it").1.iter_mut().for_each(|real| real.active = 1);
    let desired = |endpoints: &[&str]| {
        use svcplane::endpoints::{Endpoint, EndpointPort, EndpointSet};
        use svcplane::plan::{LocalNode, Plan};
        use svcplane::service::{ClusterIps, Service, ServicePort};
        let name = svcplane::name::ObjectName::new("default", "web").expect("a name");
        let mut service = Service::new(name.clone());
        service.cluster_ips = ClusterIps::Assigned(vec![[10, 96, 0, 10].into()]);
        service.ports = vec![ServicePort::new(80)];
        let endpoint = |ip: &&str| {
            let mut endpoint = Endpoint::new(ip.parse().expect("an address"));
            endpoint.ports = [EndpointPort::new(80)].into();
            endpoint
        };
        let endpoints = EndpointSet::new(name, endpoints.iter().map(endpoint));
        let node = LocalNode::new("node".parse().expect("a name"));
        compile(&Plan::new(&node, Mode::Ipvs, [(&service, &endpoints)]), &Config::default())
    };
    let (both, one) = (desired(&["10.0.0.7", "10.0.0.8"]), desired(&["10.0.0.8"]));
    let mut drain = Drain::new(Some(Duration::from_secs(100)));
    let mut step = |kernel: &mut Kernel, desired: &Desired, at: u64| -> Vec<String> {
        let commands = drain.commands(desired, &kernel.actual(), &[], Instant::from_secs(at));
        kernel.follow(desired, &commands).expect("commands");
        let mut said: Vec<String> = commands.iter().map(ToString::to_string).collect();
        said.extend(
            drain.next_deadline().map(|at| format!("until {}", at.as_nanos() / 1_000_000_000)),
        );
        said
    };
    assert_eq!(step(&mut kernel, &both, 10), [""; 0]);
    let to_zero = "-e -t 10.96.0.10:80 -r 10.0.0.7:80 -m -w 0";
    assert_eq!(step(&mut kernel, &one, 20), [to_zero, "until 120"]);
    assert_eq!(step(&mut kernel, &one, 119), ["until 120"]);
    // It comes back, with its connections, and the time begins anew.
    assert_eq!(step(&mut kernel, &both, 119), ["-e -t 10.96.0.10:80 -r 10.0.0.7:80 -m -w 1"]);
    assert_eq!(step(&mut kernel, &one, 130), [to_zero, "until 230"]);
    assert_eq!(step(&mut kernel, &one, 229), ["until 230"]);
    assert_eq!(step(&mut kernel, &one, 230), ["-d -t 10.96.0.10:80 -r 10.0.0.7:80"]);
    assert_eq!(step(&mut kernel, &one, 231), [""; 0]);
    // Without endpoints nothing is waited for that was not there, and the last real server drains too.
    assert_eq!(
        step(&mut kernel, &desired(&[]), 240),
        ["-e -t 10.96.0.10:80 -r 10.0.0.8:80 -m -w 0", "until 340"]
    );
}

#[test]
fn others_virtual_servers_stay() {
    let mut actual = Actual::default();
    let rr = "rr".parse().expect("a name");
    let mark = VirtualKey::mark(7.try_into().expect("not 0"), svcplane::net::IpFamily::V4);
    for key in [mark, web().0, VirtualKey::udp("192.0.2.1:53".parse().expect("an address"))] {
        actual.insert(VirtualServer::new(key, rr), []);
    }
    let commands = |exclude: &[&str]| -> Vec<String> {
        let exclude: Vec<_> = exclude.iter().map(|net| net.parse().expect("a CIDR")).collect();
        let commands = reconcile(&Desired::default(), &actual, &exclude);
        commands.iter().map(ToString::to_string).collect()
    };
    assert_eq!(commands(&[]), ["-D -t 10.96.0.10:80", "-D -u 192.0.2.1:53"]);
    assert_eq!(commands(&["192.0.2.0/24", "fd00::/8"]), ["-D -t 10.96.0.10:80"]);
}
