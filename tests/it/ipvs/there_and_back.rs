//! Every value, written and read.

use proptest::prelude::*;
use svcplane::ipvs::{
    Command, Exchange, Forwarding, ListedReal, Netmask, RealServer, Reply, Request, Seconds,
    Thresholds, Tunnel, VirtualKey, VirtualServer, Weight,
};
use svcplane::net::IpFamily;

use super::recordings::ipvsadm;
use super::values;

/// An attribute and those in it.
#[derive(Clone, Debug)]
struct Attribute {
    kind: u16,
    value: Vec<u8>,
    nested: Vec<Self>,
}

const NESTED: u16 = 0x8000;

fn split(mut bytes: &[u8]) -> Vec<Attribute> {
    let mut attributes = Vec::new();
    while let [a, b, c, d, ..] = *bytes {
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let kind = u16::from_ne_bytes([c, d]);
        let value = bytes[4..length].to_vec();
        bytes = &bytes[length.next_multiple_of(4)..];
        attributes.push(Attribute { kind, value, nested: Vec::new() });
    }
    attributes
}

fn join(attributes: &[Attribute]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for Attribute { kind, value, nested } in attributes {
        let value = if nested.is_empty() { value.clone() } else { join(nested) };
        let length = u16::try_from(value.len() + 4).expect("short");
        bytes.extend([length.to_ne_bytes(), kind.to_ne_bytes()].concat());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

/// The same message as another sender or a newer kernel would have it: in another order, with attributes that nobody knows, with others before
/// that are said again, and with or without the flag for nests.
fn otherwise(message: &[u8], nests: &[u16], seed: u64) -> Vec<u8> {
    let mut random = seed | 1;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random >> 33).expect("31 bits")
    };
    let mut shuffle = |attributes: &mut Vec<Attribute>| {
        let unknown = |kind, length| Attribute { kind, value: vec![0xff; length], nested: vec![] };
        let before = attributes.iter().find(|a| a.value.len() <= 4).map(|a| a.kind);
        for at in (1..attributes.len()).rev() {
            attributes.swap(at, next() % (at + 1));
        }
        // Too wide a number, so that it would be noticed if it counted.
        attributes.splice(0..0, before.map(|kind| unknown(kind, 8)));
        for kind in [13_u16, 16, 40, 0x3fff] {
            // Number 13 is one of a real server's.
            let real = attributes.iter().any(|attribute| attribute.kind == 14);
            if kind != 13 || !real {
                let at = next() % (attributes.len() + 1);
                attributes.insert(at, unknown(kind, next() % 20));
            }
        }
    };
    let (header, attributes) = message.split_at(20);
    let mut attributes = split(attributes);
    for attribute in &mut attributes {
        let kind = attribute.kind & !NESTED;
        if nests.contains(&kind) {
            attribute.nested = split(&attribute.value);
            for stats in &mut attribute.nested {
                if stats.value.len() > 60 {
                    stats.nested = split(&stats.value);
                    shuffle(&mut stats.nested);
                    stats.kind |= NESTED;
                }
            }
            shuffle(&mut attribute.nested);
            attribute.kind ^= NESTED;
        }
    }
    let mut message = [header, &join(&attributes)].concat();
    let length = u32::try_from(message.len()).expect("short");
    message[..4].copy_from_slice(&length.to_ne_bytes());
    message
}

/// A message with attributes in its only nest of a number changed.
fn edited(message: &[u8], nest: u16, edit: impl FnOnce(&mut Vec<Attribute>)) -> Vec<u8> {
    let (header, attributes) = message.split_at(20);
    let mut attributes = split(attributes);
    let nest = attributes.iter_mut().find(|a| a.kind & !NESTED == nest).expect("the nest");
    nest.nested = split(&nest.value);
    edit(&mut nest.nested);
    let mut message = [header, &join(&attributes)].concat();
    let length = u32::try_from(message.len()).expect("short");
    message[..4].copy_from_slice(&length.to_ne_bytes());
    message
}

/// The messages in an answer, one by one.
fn messages(mut answer: &[u8]) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    while let Some(length) = answer.first_chunk() {
        let length = u32::from_ne_bytes(*length) as usize;
        messages.push(answer[..length].to_vec());
        answer = &answer[length.next_multiple_of(4)..];
    }
    messages
}

proptest! {
    #[test]
    fn requests_come_back(command in values::command(), family: u16, sequence: u32) {
        // Lower numbers are no family's.
        let family = family.max(17);
        let message = command.encode(family, sequence);
        let request = Request::decode(&message).unwrap();
        let own = if command == Command::ResolveFamily { 16 } else { family };
        prop_assert_eq!(request, Request::new(command, own, sequence));
        prop_assert_eq!(request.encode(), message);
    }

    #[test]
    fn requests_may_be_written_otherwise(command in values::command(), seed: u64) {
        let nests = if command == Command::ResolveFamily { &[][..] } else { &[1, 2, 3] };
        let message = otherwise(&command.encode(28, 1), nests, seed);
        prop_assert_eq!(Request::decode(&message).map(|request| request.command), Ok(command));
    }

    #[test]
    fn answers_come_back(
        (command, replies) in values::answered(), sequence: u32, parts: Vec<bool>, seed: u64,
    ) {
        let mut exchange = Exchange::new(command, 28, sequence);
        let request = Request::new(command, 28, sequence);
        let mut datagrams = vec![Vec::new()];
        for (n, message) in messages(&request.answer(&replies)).into_iter().enumerate() {
            // As it is, or as another kernel would have it.
            let nests = [1, 2, 3];
            let plain = matches!(command, Command::ListVirtual | Command::ListReal(_));
            let ends = u16::from_ne_bytes([message[4], message[5]]) < 16;
            let message =
                if plain && !ends && seed & 1 == 1 { otherwise(&message, &nests, seed) } else { message };
            if parts.get(n).copied().unwrap_or_default() {
                datagrams.push(Vec::new());
            }
            datagrams.last_mut().unwrap().extend(message);
        }
        let mut received = Vec::new();
        for datagram in datagrams {
            prop_assert!(!exchange.is_over());
            received.extend(exchange.receive(&datagram).unwrap());
        }
        prop_assert!(exchange.is_over());
        prop_assert_eq!(received, replies);
    }

    /// Old kernels have statistics in 32 bits alone.
    #[test]
    fn narrow_statistics_do(server in values::virtual_server(), numbers: [u32; 10]) {
        let mut listed = svcplane::ipvs::ListedVirtual::new(server);
        let n = numbers.map(u64::from);
        listed.stats.connections = n[0];
        (listed.stats.packets_in, listed.stats.packets_out) = (n[1], n[2]);
        (listed.stats.bytes_in, listed.stats.bytes_out) = (n[3] << 20, n[4] << 20);
        listed.stats.connections_per_second = n[5];
        (listed.stats.packets_in_per_second, listed.stats.packets_out_per_second) = (n[6], n[7]);
        (listed.stats.bytes_in_per_second, listed.stats.bytes_out_per_second) = (n[8], n[9]);
        let command = Command::FindVirtual(server.key());
        let answer = Request::new(command, 28, 1).answer(&[Reply::Virtual(listed)]);
        let [answer, end] = &messages(&answer)[..] else { panic!("a reply and its end") };
        let narrow = edited(answer, 1, |attributes| {
            assert_eq!(attributes.pop().map(|wide| wide.kind), Some(12));
        });
        let received = Exchange::new(command, 28, 1).receive(&[&narrow[..], end].concat());
        prop_assert_eq!(received, Ok(vec![Reply::Virtual(listed)]));
    }

    /// What a command prints as means the same to `ipvsadm`.
    #[test]
    fn commands_print_as_arguments(command in values::command()) {
        let line = command.to_string();
        let read = ipvsadm::command(&line).unwrap();
        let expected = match command {
            // With a list of all begins every call.
            Command::ResolveFamily | Command::ReadVersion => Command::ListVirtual,
            Command::ListReal(key) => Command::FindVirtual(key),
            Command::AddReal(key, server) | Command::EditReal(key, server) => {
                let mut server = server;
                if matches!(server.forwarding, Forwarding::Local | Forwarding::Other(_)) {
                    server.forwarding = Forwarding::Direct;
                }
                if let (VirtualKey::Address { port: 1.., .. }, false) =
                    (key, server.forwarding == Forwarding::Masquerade)
                {
                    // `ipvsadm` sees to the port.
                    server.key.port = match key {
                        VirtualKey::Address { port, .. } => port,
                        VirtualKey::Mark { .. } => unreachable!("matched above"),
                    };
                }
                if matches!(command, Command::AddReal(..)) {
                    Command::AddReal(key, server)
                } else {
                    Command::EditReal(key, server)
                }
            }
            other => other,
        };
        prop_assert_eq!(read, expected, "{}", line);
    }

    #[test]
    fn virtual_and_real_servers_are_in_the_order_of_their_keys(
        virtuals in prop::collection::vec(values::virtual_server(), 2),
        reals in prop::collection::vec(values::real_server(), 2),
    ) {
        if virtuals[0].key() != virtuals[1].key() {
            let keys = virtuals[0].key().cmp(&virtuals[1].key());
            prop_assert_eq!(virtuals[0].cmp(&virtuals[1]), keys);
        }
        if reals[0].key != reals[1].key {
            prop_assert_eq!(reals[0].cmp(&reals[1]), reals[0].key.cmp(&reals[1].key));
        }
    }
}

fn attribute(kind: u16, value: &[u8]) -> Attribute {
    Attribute { kind, value: value.to_vec(), nested: vec![] }
}

/// What the kernel takes in more than one form, by the policies and readers in `ip_vs_ctl.c` of Linux 6.1.
#[test]
fn forms_of_one_meaning() {
    let key = VirtualKey::tcp("[2001:db8::1]:80".parse().unwrap());
    let server = VirtualServer::new(key, "rr".parse().unwrap());
    let real = RealServer::new("[2001:db8::2]:80".parse().unwrap(), Forwarding::Masquerade);
    let mut tunnel = real;
    tunnel.forwarding = Forwarding::Tunnel(Tunnel::Ipip);
    let parsed = |message: Vec<u8>| Request::decode(&message).map(|request| request.command);

    let command = Command::AddVirtual(server);
    let message = command.encode(28, 1);
    // No persistence engine, and text behind the end of a text.
    let same = edited(&message, 1, |attributes| attributes.push(attribute(11, &[0])));
    assert_eq!(parsed(same), Ok(command));
    let same = edited(&message, 1, |attributes| attributes.push(attribute(6, b"rr\0lc\0")));
    assert_eq!(parsed(same), Ok(command));
    for wrong in [&b"rr"[..], b"", b"\0", b"sixteen-letters-\0"] {
        let wrong = edited(&message, 1, |attributes| attributes.push(attribute(6, wrong)));
        assert!(parsed(wrong).is_err());
    }

    // The family is the virtual server's unless it is said, and only three bits of how packets get there count.
    let command = Command::AddReal(key, real);
    let silent = |attributes: &mut Vec<Attribute>| attributes.retain(|a| a.kind != 11);
    assert_eq!(parsed(edited(&command.encode(28, 1), 2, silent)), Ok(command));
    let high = |attributes: &mut Vec<Attribute>| attributes.push(attribute(3, &[10, 0, 0, 0]));
    let command = Command::AddReal(key, tunnel);
    assert_eq!(parsed(edited(&command.encode(28, 1), 2, high)), Ok(command));
    // Before tunnels had types all were IP in IP.
    let old = |attributes: &mut Vec<Attribute>| attributes.retain(|a| a.kind < 13);
    assert_eq!(parsed(edited(&command.encode(28, 1), 2, old)), Ok(command));
    // GUE needs a port.
    let gue = |attributes: &mut Vec<Attribute>| attributes.push(attribute(13, &[1]));
    assert!(parsed(edited(&command.encode(28, 1), 2, gue)).is_err());

    let asked = Command::ListReal(key);
    let answer = Request::new(asked, 28, 1).answer(&[Reply::Real(ListedReal::new(real))]);
    let [answer, end] = &messages(&answer)[..] else { panic!("a reply and its end") };
    let received =
        Exchange::new(asked, 28, 1).receive(&[&edited(answer, 2, silent)[..], end].concat());
    assert_eq!(received, Ok(vec![Reply::Real(ListedReal::new(real))]));
}

/// An edit states everything: what a mask leaves as it was cannot be said.
#[test]
fn an_edit_needs_the_whole_mask() {
    let key = VirtualKey::udp("10.0.0.1:53".parse().unwrap());
    let mut server = VirtualServer::new(key, "rr".parse().unwrap());
    server.one_packet = true;
    let masked = |command: Command, mask: u32| {
        let flags = [u32::MAX.to_ne_bytes(), mask.to_ne_bytes()].concat();
        let message = command.encode(28, 1);
        let message = edited(&message, 1, |attributes| attributes.push(attribute(7, &flags)));
        Request::decode(&message).map(|request| request.command)
    };
    assert_eq!(masked(Command::AddVirtual(server), 0x04), Ok(Command::AddVirtual(server)));
    assert!(masked(Command::EditVirtual(server), 0x04).is_err());
    for bit in 0..32 {
        let needed = 0x3d_u32 >> bit & 1 == 1;
        assert_eq!(masked(Command::EditVirtual(server), !(1 << bit)).is_err(), needed, "{bit}");
    }
}

/// Lines of `ipvsadm -S -n` 1.31 with a Linux 6.1.176, after commands that made them.
#[test]
fn additions_print_as_ipvsadm_saves_them() {
    let lines = "\
        -A -t 10.0.0.1:80 -s rr -p 10800\n\
        -a -t 10.0.0.1:80 -r 10.1.0.1:8080 -m -w 1\n\
        -a -t 10.0.0.1:80 -r 10.1.0.2:80 -i -w 1 --tun-type gue --tun-port 6080 --tun-csum\n\
        -a -t 10.0.0.1:80 -r 10.1.0.3:80 -i -w 1 --tun-type gue --tun-port 6080 --tun-remcsum\n\
        -a -t 10.0.0.1:80 -r 10.1.0.4:80 -i -w 1 --tun-type gre --tun-nocsum\n\
        -a -t 10.0.0.1:80 -r 10.1.0.5:80 -i -w 1 --tun-type gre --tun-csum\n\
        -a -t 10.0.0.1:80 -r 10.1.0.6:80 -i -w 1 --tun-type ipip\n\
        -a -t 10.0.0.1:80 -r 10.1.0.7:80 -g -w 1\n\
        -a -t 10.0.0.1:80 -r [2001:db8::9]:80 -i -w 1 --tun-type ipip\n\
        -A -t 10.0.0.2:80 -s sh -p 60 -M 255.255.255.0 -b sh-fallback,sh-port\n\
        -A -t 10.0.0.3:80 -s mh -p 60 -M 255.0.255.0 -b mh-port\n\
        -A -t 10.0.0.8:0 -s rr -p 360\n\
        -A -u 10.0.0.3:80 -s rr -o -b flag-1,flag-2\n\
        -A -u 10.0.0.6:5060 -s rr -p 60 --pe sip\n\
        -A -u 10.0.0.7:5060 -s rr --pe sip\n\
        -A --sctp-service [2001:db8::1]:90 -s wlc -p 60 -M 64\n\
        -A -f 8 -6 -s rr\n\
        -a -f 8 -6 -r [fd00::1]:0 -m -w 1";
    for line in lines.lines() {
        let command = ipvsadm::command(line).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(command.to_string(), line);
    }
}

#[test]
fn what_cannot_be_is_refused() {
    for len in 0..=255 {
        let v4 = Netmask::v4(len);
        assert_eq!(v4.ok().and_then(Netmask::prefix_len), (len <= 32).then_some(len));
        let v6 = Netmask::v6(len);
        assert_eq!(v6.ok().and_then(Netmask::prefix_len), (1..=128).contains(&len).then_some(len));
    }
    assert_eq!(Netmask::from_mask([255, 0, 255, 0].into()).prefix_len(), None);
    assert_eq!(Netmask::from_mask([255, 255, 0, 0].into()), Netmask::v4(16).unwrap());

    let key = VirtualKey::tcp("[2001:db8::1]:80".parse().unwrap());
    let mut server = VirtualServer::new(key, "rr".parse().unwrap()).persistent(Seconds(1));
    let before = server;
    assert_eq!(server.persistence().unwrap().netmask, Netmask::host(IpFamily::V6));
    let v4 = svcplane::ipvs::Persistence::new(Seconds(1), Netmask::host(IpFamily::V4));
    assert_eq!(server.set_persistence(Some(v4)).unwrap_err().expected, IpFamily::V6);
    assert_eq!(server, before);

    assert_eq!(Weight::new(1 << 31), None);
    assert_eq!(Weight::saturating(u32::MAX), Weight::MAX);
    assert_eq!(Weight::new((1 << 31) - 1), Some(Weight::MAX));
    assert!(Thresholds::new(1, 0).is_err() && Thresholds::new(7, 7).is_ok());
    for (name, good) in [
        ("", false),
        ("a", true),
        ("fifteen-letters", true),
        ("sixteen--letters", false),
        ("r r", false),
        ("ä", false),
    ] {
        assert_eq!(name.parse::<svcplane::ipvs::SchedulerName>().is_ok(), good, "{name:?}");
    }
    assert!("sixteen--letters".parse::<svcplane::ipvs::EngineName>().is_ok());
    for (millis, seconds) in [(0, 0), (1, 1), (1000, 1), (1001, 2), (u64::MAX, u32::MAX)] {
        let duration = std::time::Duration::from_millis(millis);
        assert_eq!(Seconds::from(duration), Seconds(seconds));
    }
}
