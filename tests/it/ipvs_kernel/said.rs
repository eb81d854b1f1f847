//! What is said to the kernel, and what it says: it has what it was given, and `ipvsadm` calls it what this crate calls it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::num::{NonZeroU8, NonZeroU16, NonZeroU32};
use std::process::Command as Program;

use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use svcplane::ipvs::{
    Command, CommandError, Daemon, DaemonRole, Forwarding, Netmask, OtherForwarding, Persistence,
    RealServer, SchedulerFlags, SchedulerName, Seconds, Thresholds, Timeouts, Tunnel, VirtualKey,
    VirtualServer, Weight,
};
use svcplane::kernel::{Ipvs, KernelError};
use svcplane::net::{IpFamily, Protocol};

use super::ready;
use crate::kernel::netns::Netns;

fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn scheduler(name: &str) -> SchedulerName {
    name.parse().expect("a name")
}

/// One of each kind, for each scheduler and flag.
fn virtual_servers() -> Vec<VirtualServer> {
    let mut servers = vec![];
    let mut port = 8000;
    let mut tcp = |name: &str| {
        port += 1;
        VirtualServer::new(VirtualKey::tcp(([192, 0, 2, 1], port).into()), scheduler(name))
    };
    // All that this kernel has, and none.
    let names = [
        "rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh",
        "none",
    ];
    servers.extend(names.map(&mut tcp));
    for name in ["sh", "mh", "rr"] {
        for bits in 1..8_u8 {
            let mut server = tcp(name);
            let [fallback, port, third] = [1, 2, 4].map(|bit| bits & bit != 0);
            server.flags = SchedulerFlags { fallback, port, third };
            servers.push(server);
        }
    }
    let persistent = |key: VirtualKey, seconds, netmask| {
        let mut server = VirtualServer::new(key, scheduler("wlc"));
        let persistence = Persistence::new(Seconds(seconds), netmask);
        server.set_persistence(Some(persistence)).expect("of the family");
        server
    };
    let v4 = |len| Netmask::v4(len).expect("a length");
    let v6 = |len| Netmask::v6(len).expect("a length");
    let gaps = Netmask::from_mask([255, 0, 255, 1].into());
    for (at, (seconds, netmask)) in
        [(1, v4(32)), (360, v4(24)), (10_800, v4(1)), (60, v4(0)), (4_294_967, gaps)]
            .into_iter()
            .enumerate()
    {
        let port = u16::try_from(at).expect("few");
        servers.push(persistent(VirtualKey::tcp(([192, 0, 2, 2], port).into()), seconds, netmask));
    }
    for (port, (seconds, netmask)) in (1..).zip([(300, v6(128)), (300, v6(64)), (7, v6(1))]) {
        let key = VirtualKey::udp((addr("[2001:db8::2]:0").ip(), port).into());
        servers.push(persistent(key, seconds, netmask));
    }
    let rr = |key| VirtualServer::new(key, scheduler("rr"));
    for text in ["192.0.2.3:53", "[2001:db8::3]:53", "0.0.0.0:1", "[::]:65535"] {
        for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
            servers.push(rr(VirtualKey::new(protocol, addr(text))));
        }
    }
    for mark in [1, 0x4000, u32::try_from(i32::MAX).expect("31 bits")] {
        for family in [IpFamily::V4, IpFamily::V6] {
            servers.push(rr(VirtualKey::mark(NonZeroU32::new(mark).expect("not 0"), family)));
        }
    }
    let mut datagrams = rr(VirtualKey::udp(addr("192.0.2.4:5353")));
    datagrams.one_packet = true;
    servers.push(datagrams);
    let mut calls = rr(VirtualKey::udp(addr("192.0.2.4:5060"))).persistent(Seconds(60));
    calls.engine = Some("sip".parse().expect("a name"));
    servers.push(calls);
    servers
}

/// One of each kind, for an IPv4 virtual server; those of IPv6 are tunnelled.
fn real_servers() -> Vec<RealServer> {
    let mut ways = vec![Forwarding::Masquerade, Forwarding::Direct, Forwarding::Local];
    ways.extend((4..=7).filter_map(OtherForwarding::new).map(Forwarding::Other));
    let port = NonZeroU16::new(6080).expect("not 0");
    let mut tunnels = vec![Tunnel::Ipip];
    for (checksum, remote_checksum) in [(false, false), (true, false), (false, true)] {
        tunnels.push(Tunnel::Gue { port, checksum, remote_checksum });
    }
    tunnels.extend([false, true].map(|checksum| Tunnel::Gre { checksum }));
    ways.extend(tunnels.iter().copied().map(Forwarding::Tunnel));
    let mut servers = vec![];
    for (at, way) in (1..).zip(ways) {
        servers.push(RealServer::new(([10, 1, 0, at], 8080).into(), way));
    }
    for (at, tunnel) in (1..).zip(tunnels) {
        let ip = std::net::Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, at);
        servers.push(RealServer::new((ip, 80).into(), Forwarding::Tunnel(tunnel)));
    }
    let other =
        |last, port| RealServer::new(([10, 2, 0, last], port).into(), Forwarding::Masquerade);
    for (at, weight) in (1..).zip([0, 1, 2, 65_535, 65_536, Weight::MAX.get()]) {
        servers.push(other(at, 80).with_weight(Weight::new(weight).expect("a weight")));
    }
    for (at, (lower, upper)) in
        (1..).zip([(0, 1), (1, 1), (50, 100), (0, u32::MAX), (u32::MAX, u32::MAX)])
    {
        let mut server = other(at, 443);
        server.thresholds = Thresholds::new(lower, upper).expect("in order");
        servers.push(server);
    }
    servers
}

/// The lines of `ipvsadm -S -n` are these.
fn check_saved(netns: &Netns, expected: &BTreeSet<String>) {
    let said = netns.run(|| Program::new("ipvsadm").args(["-S", "-n"]).output()).expect("ipvsadm");
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let text = String::from_utf8(said.stdout).expect("text");
    let got: BTreeSet<String> = text.lines().map(|line| line.trim_end().to_owned()).collect();
    let [more, less] = [(&got, expected), (expected, &got)].map(|(a, b)| a.difference(b).collect());
    let none: Vec<&String> = vec![];
    assert_eq!((more, less), (none.clone(), none), "what ipvsadm has, and has not");
}

fn has(ipvs: &mut Ipvs) -> BTreeMap<VirtualKey, VirtualServer> {
    let listed = ipvs.virtual_servers().expect("a list");
    listed.into_iter().map(|listed| (listed.server.key(), listed.server)).collect()
}

#[test]
fn virtual_servers_are_as_they_were_said() {
    let Some((netns, mut ipvs)) = ready("said-virtual") else { return };
    let servers = virtual_servers();
    let expected: BTreeMap<_, _> = servers.iter().map(|server| (server.key(), *server)).collect();
    assert_eq!(expected.len(), servers.len(), "each has a key of its own");
    let add: Vec<Command> = servers.iter().copied().map(Command::AddVirtual).collect();
    ipvs.apply(&add).expect("added");
    assert_eq!(has(&mut ipvs), expected);
    for server in &servers {
        let found = ipvs.find(server.key()).expect("an answer").expect("it is there");
        assert_eq!((found.server, found.stats), (*server, svcplane::ipvs::Stats::default()));
    }
    // `ipvsadm` has no name for the third flag of those two.
    let line = |server: &VirtualServer| {
        let mut named = *server;
        named.flags.third &= !matches!(server.scheduler.as_str(), "sh" | "mh");
        let nameless = server.flags.third && named.flags == SchedulerFlags::default();
        let line = Command::AddVirtual(named).to_string();
        if nameless { format!("{line} -b") } else { line }
    };
    check_saved(&netns, &servers.iter().map(line).collect());

    // Each becomes what the next one is, but for its key, and then what it was.
    for (at, server) in servers.iter().enumerate() {
        let next = servers[(at + 1) % servers.len()];
        let mut edited = *server;
        (edited.scheduler, edited.flags) = (next.scheduler, next.flags);
        edited.one_packet = next.one_packet;
        let family = server.key().family();
        let persistence = next.persistence().filter(|one| one.netmask.family() == family);
        edited.set_persistence(persistence).expect("of the family");
        for wanted in [edited, *server] {
            ipvs.apply(&[Command::EditVirtual(wanted)]).expect("edited");
            let found = ipvs.find(server.key()).expect("an answer").expect("it is there");
            assert_eq!(found.server, wanted);
        }
    }
    assert_eq!(has(&mut ipvs), expected);
    for server in &servers {
        ipvs.apply(&[Command::DeleteVirtual(server.key())]).expect("deleted");
    }
    assert!(has(&mut ipvs).is_empty());
}

#[test]
fn real_servers_are_as_they_were_said() {
    let Some((netns, mut ipvs)) = ready("said-real") else { return };
    let v4 = VirtualKey::tcp(addr("192.0.2.1:80"));
    let mark = VirtualKey::mark(NonZeroU32::new(7).expect("not 0"), IpFamily::V4);
    let v6 = VirtualKey::udp(addr("[2001:db8::1]:53"));
    let all = real_servers();
    let of_v6 = |server: &&RealServer| {
        server.key.ip.is_ipv6() || matches!(server.forwarding, Forwarding::Tunnel(_))
    };
    for key in [v4, mark, v6] {
        let servers: Vec<RealServer> =
            if key == v6 { all.iter().filter(of_v6).copied().collect() } else { all.clone() };
        let name = VirtualServer::new(key, scheduler("wlc"));
        ipvs.apply(&[Command::AddVirtual(name)]).expect("added");
        let add: Vec<Command> = servers.iter().map(|real| Command::AddReal(key, *real)).collect();
        ipvs.apply(&add).expect("added");
        let listed = |ipvs: &mut Ipvs| -> Vec<RealServer> {
            ipvs.real_servers(key).expect("a list").iter().map(|real| real.server).collect()
        };
        // What was added last comes first.
        let mut expected = servers.clone();
        expected.reverse();
        assert_eq!(listed(&mut ipvs), expected);
        // Each becomes what the next one is, but for its key, where it may; its place stays.
        for at in 0..expected.len() {
            let next = expected[(at + 1) % expected.len()];
            let mut edited = next;
            edited.key = expected[at].key;
            if !of_v6(&&next) {
                edited.forwarding = expected[at].forwarding;
            }
            expected[at] = edited;
            ipvs.apply(&[Command::EditReal(key, edited)]).expect("edited");
            assert_eq!(listed(&mut ipvs), expected, "{edited}");
        }
        // `ipvsadm` leaves out thresholds, and has no word for ways that nobody should go.
        let mut lines: BTreeSet<String> = expected
            .iter()
            .map(|real| {
                let mut real = *real;
                real.thresholds = Thresholds::NONE;
                let line = Command::AddReal(key, real).to_string();
                let has_option = !matches!(real.forwarding, Forwarding::Other(_));
                if has_option { line } else { line.replace(" -g ", " (null) ") }
            })
            .collect();
        lines.insert(Command::AddVirtual(name).to_string());
        check_saved(&netns, &lines);
        let state = ipvs.state().expect("a list");
        let (_, of_key) = state.servers().next().expect("one");
        assert_eq!((state.servers().len(), of_key.reals.len()), (1, expected.len()));
        for real in &expected {
            ipvs.apply(&[Command::DeleteReal(key, real.key)]).expect("deleted");
        }
        assert!(listed(&mut ipvs).is_empty());
        ipvs.flush().expect("flushed");
    }
}

/// More than fits into a datagram, of both kinds.
#[test]
fn long_lists_are_whole() {
    let Some((_netns, mut ipvs)) = ready("said-many") else { return };
    let key = |number: u16| VirtualKey::tcp(([192, 0, 2, 1], number).into());
    let mut commands = vec![];
    for number in 1..=2000 {
        commands.push(Command::AddVirtual(VirtualServer::new(key(number), scheduler("rr"))));
    }
    let real =
        |number: u16| RealServer::new(([10, 1, 0, 1], number).into(), Forwarding::Masquerade);
    for number in 1..=1000 {
        commands.push(Command::AddReal(key(1), real(number)));
    }
    ipvs.apply(&commands).expect("added");
    assert_eq!(
        has(&mut ipvs).keys().copied().collect::<Vec<_>>(),
        (1..=2000).map(key).collect::<Vec<_>>()
    );
    let listed = ipvs.real_servers(key(1)).expect("a list");
    let listed: Vec<u16> = listed.iter().map(|real| real.server.key.port).collect();
    assert_eq!(listed, (1..=1000).rev().collect::<Vec<_>>());
}

#[test]
fn refusals_are_typed() {
    let Some((_netns, mut ipvs)) = ready("said-refused") else { return };
    let [web, none] = ["192.0.2.1:80", "192.0.2.9:80"].map(|text| VirtualKey::tcp(addr(text)));
    let v6 = VirtualKey::tcp(addr("[2001:db8::1]:80"));
    let rr = |key| VirtualServer::new(key, scheduler("rr"));
    let real = |text: &str| RealServer::new(addr(text), Forwarding::Masquerade);
    let (one, two) = (real("10.1.0.1:80"), real("10.1.0.2:80"));
    let first =
        [Command::AddVirtual(rr(web)), Command::AddVirtual(rr(v6)), Command::AddReal(web, one)];
    ipvs.apply(&first).expect("applied");

    let unknown = VirtualServer::new(web, scheduler("nobodys"));
    let mut no_engine = VirtualServer::new(none, scheduler("rr")).persistent(Seconds(1));
    no_engine.engine = Some("nobodys".parse().expect("a name"));
    let refused = |server: VirtualServer| CommandError::UnknownScheduler {
        scheduler: server.scheduler,
        engine: server.engine,
    };
    let role = DaemonRole::Master;
    let nowhere = Daemon::new(role, "nowhere0".parse().expect("a name"), 1);
    let long = Timeouts { tcp: NonZeroU32::new(u32::MAX), ..Timeouts::default() };
    let table = [
        (Command::AddVirtual(rr(web)), CommandError::VirtualExists(web)),
        (
            Command::AddVirtual(VirtualServer::new(web, scheduler("wlc"))),
            CommandError::VirtualExists(web),
        ),
        (Command::EditVirtual(rr(none)), CommandError::NoVirtual(none)),
        (Command::DeleteVirtual(none), CommandError::NoVirtual(none)),
        (Command::FindVirtual(none), CommandError::NoVirtual(none)),
        (Command::Zero(Some(none)), CommandError::NoVirtual(none)),
        (Command::AddReal(none, one), CommandError::NoVirtual(none)),
        (Command::EditReal(none, one), CommandError::NoVirtual(none)),
        (Command::DeleteReal(none, one.key), CommandError::NoVirtual(none)),
        (
            Command::AddReal(web, one.with_weight(Weight::ZERO)),
            CommandError::RealExists(web, one.key),
        ),
        (Command::EditReal(web, two), CommandError::NoReal(web, two.key)),
        (Command::DeleteReal(web, two.key), CommandError::NoReal(web, two.key)),
        (Command::EditVirtual(unknown), refused(unknown)),
        (Command::AddVirtual(no_engine), refused(no_engine)),
        (Command::AddReal(web, real("0.0.0.0:80")), CommandError::Invalid),
        (Command::AddReal(web, real("224.0.0.1:80")), CommandError::Invalid),
        (Command::AddReal(web, real("[fd00::1]:80")), CommandError::Invalid),
        (Command::AddReal(v6, real("[fe80::1]:80")), CommandError::Invalid),
        (Command::AddReal(v6, real("10.1.0.1:80")), CommandError::Invalid),
        (Command::SetTimeouts(long), CommandError::Invalid),
        (Command::StopDaemon(role), CommandError::NoDaemon(role)),
        (Command::StartDaemon(nowhere), CommandError::NoInterface(nowhere.interface)),
    ];
    let before = ipvs.state().expect("a list");
    for (command, expected) in table {
        let error = ipvs.execute(command).expect_err("a refusal");
        assert_eq!(error.refusal(), Some(&expected), "{command}: {error}");
        assert!(error.to_string().starts_with(&format!("ipvs command 0, {command}: ")), "{error}");
    }
    assert_eq!(ipvs.state().expect("a list"), before, "nothing was done");
    assert_eq!(ipvs.find(none).expect("an answer"), None);
    assert_eq!(ipvs.real_servers(none).expect("an empty list"), []);

    // The first that is refused ends it.
    let commands = [
        Command::AddReal(web, two),
        Command::DeleteReal(web, real("10.1.0.3:80").key),
        Command::DeleteReal(web, one.key),
    ];
    let error = ipvs.apply(&commands).expect_err("a refusal");
    let KernelError::Ipvs(failure) = &error else { panic!("{error}") };
    assert_eq!((failure.index, failure.command), (1, commands[1]));
    let left: Vec<_> =
        ipvs.real_servers(web).expect("a list").iter().map(|one| one.server).collect();
    assert_eq!(left, [two, one]);

    // Without the capability nothing can be told or asked, not even through a socket that was opened with it.
    let mut ipvs = std::thread::scope(|scope| {
        let without = scope.spawn(|| {
            let mut sets = capabilities(None).expect("capabilities");
            sets.effective.remove(CapabilitySet::NET_ADMIN);
            set_capabilities(None, sets).expect("fewer");
            for command in [Command::ReadVersion, Command::ListVirtual, Command::Flush] {
                let error = ipvs.execute(command).expect_err("a refusal");
                assert_eq!(error.refusal(), Some(&CommandError::NotPermitted), "{command}");
            }
            ipvs
        });
        without.join().expect("no panic")
    });
    assert_eq!(ipvs.real_servers(web).expect("a list").len(), 2);
}

#[test]
fn timeouts_and_daemons_are_set() {
    let Some((netns, mut ipvs)) = ready("said-daemon") else { return };
    let seconds = |tcp, fin, udp| {
        let [tcp, tcp_fin, udp] = [tcp, fin, udp].map(NonZeroU32::new);
        Timeouts { tcp, tcp_fin, udp }
    };
    assert_eq!(ipvs.timeouts().expect("timeouts"), seconds(900, 120, 300));
    ipvs.set_timeouts(seconds(0, 30, 0)).expect("set");
    assert_eq!(ipvs.timeouts().expect("timeouts"), seconds(900, 30, 300));
    ipvs.set_timeouts(seconds(2_147_483, 1, 7)).expect("set");
    assert_eq!(ipvs.timeouts().expect("timeouts"), seconds(2_147_483, 1, 7));
    let said = netns.run(|| Program::new("ipvsadm").args(["-L", "--timeout"]).output());
    let said = String::from_utf8(said.expect("ipvsadm").stdout).expect("text");
    assert_eq!(said.trim(), "Timeout (tcp tcpfin udp): 2147483 1 7");

    netns.configure(
        "link add there type dummy\naddress add 10.3.0.1/24 dev there\nlink set there up\n",
        "",
    );
    let there = "there".parse().expect("a name");
    let master = Daemon::new(DaemonRole::Master, there, 255);
    let mut backup = Daemon::new(DaemonRole::Backup, there, 7);
    backup.max_len = NonZeroU16::new(1400);
    backup.group = Some("224.0.0.99".parse().expect("a group"));
    backup.port = NonZeroU16::new(4000);
    backup.ttl = NonZeroU8::new(3);
    let start = [Command::StartDaemon(master), Command::StartDaemon(backup)];
    ipvs.apply(&start).expect("started");
    let error = ipvs.apply(&start[1..]).expect_err("a refusal");
    assert_eq!(error.refusal(), Some(&CommandError::DaemonRuns(DaemonRole::Backup)));
    let listed = ipvs.daemons().expect("a list");
    let [first, second] = listed[..] else { panic!("{listed:?}") };
    assert_eq!((first.role, first.interface, first.sync_id), (master.role, there, 255));
    // The kernel says what it took for granted.
    assert_eq!(first.port, NonZeroU16::new(8848));
    assert_eq!(first.ttl, NonZeroU8::new(1));
    assert_eq!(first.group, Some("224.0.0.81".parse().expect("a group")));
    assert_eq!(second, backup);
    // One that has not run yet would be stopped without an answer.
    while !(sleeping("ipvs-m:") && sleeping("ipvs-b:")) {
        std::thread::yield_now();
    }
    for role in [DaemonRole::Master, DaemonRole::Backup] {
        ipvs.apply(&[Command::StopDaemon(role)]).expect("stopped");
    }
    assert_eq!(ipvs.daemons().expect("a list"), []);
}

/// Whether there is a thread of the kernel of such a name, and it waits for something.
fn sleeping(name: &str) -> bool {
    let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
    let mut stats =
        processes.filter_map(|one| std::fs::read_to_string(one.path().join("stat")).ok());
    // `7 (ipvs-m:0:0) S 2 …`
    stats.any(|stat| stat.contains(&format!("({name}")) && stat.contains(") S "))
}
