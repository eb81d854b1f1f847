//! Any bytes as a request to IPVS and as an answer to each kind of request: whole, with the headers that they would need, as attributes in
//! attributes, or as changes to what is right. No panic, and what is read says the same when it is written and read again.

#![no_main]

use std::num::NonZero;

use libfuzzer_sys::fuzz_target;
use svcplane::ipvs::{
    Command, Daemon, DaemonRole, Exchange, Forwarding, ListedReal, ListedVirtual, RealServer,
    Reply, Request, Seconds, Timeouts, Tunnel, VirtualKey, VirtualServer,
};

/// The number of the family.
const FAMILY: u16 = 28;
const SEQUENCE: u32 = 1;

fuzz_target!(|bytes: &[u8]| {
    let Some((&[kind, flags, number], payload)) = bytes.split_first_chunk::<3>() else { return };
    let flags = u16::from(flags & 0x1f) | if flags & 0x80 > 0 { 0x300 } else { 0 };
    let headed = |attributes: &[u8]| [&[number % 18, 1, 0, 0], attributes].concat();
    let framed = match kind % 8 {
        0 => payload.to_vec(),
        1 => message(2, flags, payload),
        2 => message(3, flags, payload),
        3 => message(16, flags, &headed(payload)),
        4 => message(FAMILY, flags, &headed(payload)),
        5 => message(FAMILY, flags, &headed(&attributes(payload))),
        _ => changed(number, payload),
    };
    if let Ok(request) = Request::decode(&framed) {
        assert_eq!(Request::decode(&request.encode()), Ok(request));
        assert!(!request.command.to_string().is_empty());
        answers(request.command, &framed);
    }
    let web = "10.0.0.1:80".parse().map(VirtualKey::tcp).expect("an address");
    for command in [
        Command::ResolveFamily,
        Command::ReadVersion,
        Command::FindVirtual(web),
        Command::ListVirtual,
        Command::ListReal(web),
        Command::ReadTimeouts,
        Command::ListDaemons,
        Command::Flush,
    ] {
        answers(command, &framed);
    }
});

/// A message with headers that fit it.
fn message(kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(16 + payload.len()).unwrap_or(u32::MAX);
    let kind = [kind.to_ne_bytes(), flags.to_ne_bytes()].concat();
    [&length.to_ne_bytes()[..], &kind, &SEQUENCE.to_ne_bytes(), &[0; 4], payload].concat()
}

/// A byte for the number and flag of an attribute, one for its length, and then those in it.
fn attributes(mut bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some((&[kind, length], rest)) = bytes.split_first_chunk::<2>() {
        let (value, rest) = rest.split_at(usize::from(length % 64).min(rest.len()));
        bytes = rest;
        let value = if kind & 0x40 > 0 { attributes(value) } else { value.to_vec() };
        let kind = u16::from(kind % 17) | u16::from(kind & 0x80) << 8;
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        out.extend([length.to_ne_bytes(), kind.to_ne_bytes()].concat());
        out.extend(value);
        out.resize(out.len().next_multiple_of(4), 0);
    }
    out
}

/// A request or an answer that is right, but for bytes that are others: each a place and a value.
fn changed(number: u8, changes: &[u8]) -> Vec<u8> {
    let key = VirtualKey::tcp("10.0.0.1:80".parse().expect("an address"));
    let mut server = VirtualServer::new(key, "sh".parse().expect("a name")).persistent(Seconds(9));
    server.engine = "sip".parse().ok();
    let pod = "[2001:db8::1]:80".parse().expect("an address");
    let port = NonZero::new(6080).expect("a port");
    let tunnel = Tunnel::Gue { port, checksum: true, remote_checksum: false };
    let real = RealServer::new(pod, Forwarding::Tunnel(tunnel));
    let lo = "lo".parse().expect("a name");
    let mut daemon = Daemon::new(DaemonRole::Backup, lo, 7);
    (daemon.group, daemon.ttl) = (Some(pod.ip()), NonZero::new(3));
    let mut message = match number % 13 {
        0 => Command::AddVirtual(server).encode(FAMILY, SEQUENCE),
        1 => Command::EditVirtual(server).encode(FAMILY, SEQUENCE),
        2 => Command::DeleteVirtual(key).encode(FAMILY, SEQUENCE),
        3 => Command::AddReal(key, real).encode(FAMILY, SEQUENCE),
        4 => Command::DeleteReal(key, real.key).encode(FAMILY, SEQUENCE),
        5 => Command::StartDaemon(daemon).encode(FAMILY, SEQUENCE),
        6 => Command::SetTimeouts(Timeouts::default()).encode(FAMILY, SEQUENCE),
        7 => Command::ResolveFamily.encode(FAMILY, SEQUENCE),
        8 => Command::ListReal(key).encode(FAMILY, SEQUENCE),
        9 => answer(Command::ListVirtual, Reply::Virtual(ListedVirtual::new(server))),
        10 => answer(Command::ListReal(key), Reply::Real(ListedReal::new(real))),
        11 => answer(Command::ListDaemons, Reply::Daemon(daemon)),
        _ => answer(Command::ResolveFamily, Reply::Family(FAMILY)),
    };
    for change in changes.chunks_exact(3) {
        let at = usize::from(u16::from_ne_bytes([change[0], change[1]])) % message.len();
        message[at] = change[2];
    }
    message
}

fn answer(command: Command, reply: Reply) -> Vec<u8> {
    Request::new(command, FAMILY, SEQUENCE).answer(&[reply, reply])
}

fn answers(command: Command, bytes: &[u8]) {
    let mut exchange = Exchange::new(command, FAMILY, SEQUENCE);
    let received = exchange.receive(bytes);
    assert!(received.is_ok() || exchange.is_over());
    let Ok(mut replies) = received else { return };
    replies.retain(|reply| !matches!(reply, Reply::Unreadable(_)));
    let request = Request::new(command, FAMILY, SEQUENCE);
    let mut exchange = Exchange::new(command, FAMILY, SEQUENCE);
    assert_eq!(exchange.receive(&request.answer(&replies)), Ok(replies));
    assert!(exchange.is_over());
}
