//! Any value that there can be.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZero;

use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use svcplane::ipvs::{
    Command, Daemon, DaemonRole, Forwarding, ListedReal, ListedVirtual, Netmask, OtherForwarding,
    Persistence, RealKey, RealServer, Reply, SchedulerFlags, Seconds, Stats, Thresholds, Timeouts,
    Tunnel, Version, VirtualKey, VirtualServer, Weight,
};
use svcplane::net::{IpFamily, Protocol};

fn ip() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u8; 16]>().prop_map(IpAddr::from),
        select(vec!["0.0.0.0", "10.0.0.1", "::", "::ffff:10.0.0.1", "2001:db8::1"])
            .prop_map(|ip| ip.parse().unwrap()),
    ]
}

pub(super) fn addr() -> impl Strategy<Value = SocketAddr> {
    (ip(), any::<u16>()).prop_map(SocketAddr::from)
}

pub(super) fn key() -> impl Strategy<Value = VirtualKey> {
    let protocol = select(vec![Protocol::Tcp, Protocol::Udp, Protocol::Sctp]);
    let family = select(vec![IpFamily::V4, IpFamily::V6]);
    prop_oneof![
        3 => (protocol, addr()).prop_map(|(protocol, addr)| VirtualKey::new(protocol, addr)),
        1 => (1..=u32::MAX, family).prop_map(|(mark, family)| {
            VirtualKey::mark(NonZero::new(mark).unwrap(), family)
        }),
    ]
}

fn name(max: usize) -> impl Strategy<Value = String> {
    let any = proptest::string::string_regex(&format!("[!-~]{{1,{max}}}")).unwrap();
    prop_oneof![select(vec!["rr", "wlc", "sh", "mh", "none", "sip"]).prop_map(str::to_owned), any]
}

fn flags() -> impl Strategy<Value = SchedulerFlags> {
    any::<(bool, bool, bool)>().prop_map(|(fallback, port, third)| SchedulerFlags {
        fallback,
        port,
        third,
    })
}

fn netmask(family: IpFamily) -> BoxedStrategy<Netmask> {
    match family {
        IpFamily::V4 => prop_oneof![
            (0_u8..=32).prop_map(|len| Netmask::v4(len).unwrap()),
            any::<[u8; 4]>().prop_map(|mask| Netmask::from_mask(mask.into())),
        ]
        .boxed(),
        IpFamily::V6 => (1_u8..=128).prop_map(|len| Netmask::v6(len).unwrap()).boxed(),
    }
}

pub(super) fn virtual_server() -> impl Strategy<Value = VirtualServer> {
    let persistence = |key: VirtualKey| {
        let persistence = (any::<u32>(), netmask(key.family()));
        (Just(key), option::of(persistence))
    };
    let rest = (name(15), flags(), any::<bool>(), option::of(name(16)));
    (key().prop_flat_map(persistence), rest).prop_map(|((key, persistence), rest)| {
        let (scheduler, flags, one_packet, engine) = rest;
        let mut server = VirtualServer::new(key, scheduler.parse().unwrap());
        let persistence =
            persistence.map(|(timeout, netmask)| Persistence::new(Seconds(timeout), netmask));
        server.set_persistence(persistence).unwrap();
        (server.flags, server.one_packet) = (flags, one_packet);
        server.engine = engine.map(|engine| engine.parse().unwrap());
        server
    })
}

fn forwarding() -> impl Strategy<Value = Forwarding> {
    let gue =
        any::<(u16, bool, bool)>().prop_map(|(port, checksum, remote_checksum)| Tunnel::Gue {
            port: port.try_into().unwrap_or(NonZero::<u16>::MIN),
            checksum,
            remote_checksum,
        });
    let gre = any::<bool>().prop_map(|checksum| Tunnel::Gre { checksum });
    prop_oneof![
        Just(Forwarding::Masquerade),
        Just(Forwarding::Local),
        Just(Forwarding::Direct),
        Just(Forwarding::Tunnel(Tunnel::Ipip)),
        gue.prop_map(Forwarding::Tunnel),
        gre.prop_map(Forwarding::Tunnel),
        (4_u8..8).prop_map(|n| Forwarding::Other(OtherForwarding::new(n).unwrap())),
    ]
}

pub(super) fn real_server() -> impl Strategy<Value = RealServer> {
    (addr(), forwarding(), any::<u32>(), any::<[u32; 2]>()).prop_map(
        |(addr, forwarding, weight, [a, b])| {
            let mut server = RealServer::new(addr, forwarding);
            server.weight = Weight::new(weight >> 1).unwrap();
            server.thresholds = Thresholds::new(a.min(b), a.max(b)).unwrap();
            server
        },
    )
}

fn timeouts() -> impl Strategy<Value = Timeouts> {
    any::<[u32; 3]>().prop_map(|numbers| {
        // 0 often enough, too.
        let [tcp, tcp_fin, udp] = numbers.map(|n| NonZero::new(if n % 4 == 0 { 0 } else { n }));
        Timeouts { tcp, tcp_fin, udp }
    })
}

fn role() -> impl Strategy<Value = DaemonRole> {
    select(vec![DaemonRole::Master, DaemonRole::Backup])
}

fn daemon() -> impl Strategy<Value = Daemon> {
    let interface = "[a-z][a-z0-9._@+-]{0,14}";
    let rest = (any::<[u16; 2]>(), any::<u8>(), option::of(ip()));
    (role(), interface, any::<u8>(), rest).prop_map(|(role, interface, id, rest)| {
        let mut daemon = Daemon::new(role, interface.parse().unwrap(), id);
        let ([max_len, port], ttl, group) = rest;
        daemon.max_len = NonZero::new(if max_len % 3 == 0 { 0 } else { max_len });
        daemon.port = NonZero::new(if port % 3 == 0 { 0 } else { port });
        daemon.ttl = NonZero::new(if ttl % 3 == 0 { 0 } else { ttl });
        daemon.group = group;
        daemon
    })
}

pub(super) fn command() -> impl Strategy<Value = Command> {
    let real_key = || addr().prop_map(RealKey::from);
    prop_oneof![
        Just(Command::ResolveFamily),
        Just(Command::ReadVersion),
        virtual_server().prop_map(Command::AddVirtual),
        virtual_server().prop_map(Command::EditVirtual),
        key().prop_map(Command::DeleteVirtual),
        key().prop_map(Command::FindVirtual),
        Just(Command::ListVirtual),
        (key(), real_server()).prop_map(|(key, server)| Command::AddReal(key, server)),
        (key(), real_server()).prop_map(|(key, server)| Command::EditReal(key, server)),
        (key(), real_key()).prop_map(|(key, server)| Command::DeleteReal(key, server)),
        key().prop_map(Command::ListReal),
        Just(Command::Flush),
        option::of(key()).prop_map(Command::Zero),
        Just(Command::ReadTimeouts),
        timeouts().prop_map(Command::SetTimeouts),
        daemon().prop_map(Command::StartDaemon),
        role().prop_map(Command::StopDaemon),
        Just(Command::ListDaemons),
    ]
}

fn stats() -> impl Strategy<Value = Stats> {
    any::<[u64; 10]>().prop_map(|n| Stats {
        connections: n[0],
        packets_in: n[1],
        packets_out: n[2],
        bytes_in: n[3],
        bytes_out: n[4],
        connections_per_second: n[5],
        packets_in_per_second: n[6],
        packets_out_per_second: n[7],
        bytes_in_per_second: n[8],
        bytes_out_per_second: n[9],
    })
}

/// One answer to a command, if it has any.
fn reply(command: Command) -> Option<BoxedStrategy<Reply>> {
    Some(match command {
        Command::ResolveFamily => any::<u16>().prop_map(Reply::Family).boxed(),
        Command::ReadVersion => any::<([u8; 3], u32)>()
            .prop_map(|([a, b, c], size)| Reply::Version(Version::new(a, b, c, size)))
            .boxed(),
        Command::FindVirtual(_) | Command::ListVirtual => (virtual_server(), stats())
            .prop_map(|(server, stats)| {
                let mut listed = ListedVirtual::new(server);
                listed.stats = stats;
                Reply::Virtual(listed)
            })
            .boxed(),
        Command::ListReal(_) => (real_server(), any::<[u32; 3]>(), stats())
            .prop_map(|(server, counts, stats)| {
                let mut listed = ListedReal::new(server);
                [listed.active, listed.inactive, listed.persistent] = counts;
                listed.stats = stats;
                Reply::Real(listed)
            })
            .boxed(),
        Command::ReadTimeouts => timeouts().prop_map(Reply::Timeouts).boxed(),
        Command::ListDaemons => daemon().prop_map(Reply::Daemon).boxed(),
        _ => return None,
    })
}

/// A command with answers: any number to one that asks for a list.
pub(super) fn answered() -> impl Strategy<Value = (Command, Vec<Reply>)> {
    command().prop_flat_map(|command| {
        let count = if command.is_list() { 0..=6 } else { 1..=1 };
        let replies = match reply(command) {
            Some(reply) => proptest::collection::vec(reply, count).boxed(),
            None => Just(Vec::new()).boxed(),
        };
        (Just(command), replies)
    })
}
