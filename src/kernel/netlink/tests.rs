//! A thread stands in for the kernel, at the other end of a pair of sockets; and this machine's kernel, which need not have IPVS.

use std::borrow::ToOwned;
use std::os::unix::net::UnixDatagram;
use std::string::{String, ToString};
use std::sync::mpsc::channel;
use std::thread;

use super::*;
use crate::ipvs::{CommandError, ListedVirtual, Request, Version, VirtualKey, VirtualServer};

const SHORT: Duration = Duration::from_millis(20);
/// Nothing takes so long but a failure.
const LONG: Duration = Duration::from_secs(20);

/// A socket, and what answers its requests: each with some datagrams.
fn socket(
    timeout: Duration,
    mut answer: impl FnMut(usize, &Request) -> Vec<Vec<u8>> + Send + 'static,
) -> Socket {
    let (near, far) = UnixDatagram::pair().expect("a pair of sockets");
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        for number in 0.. {
            let len = far.recv(&mut buffer).unwrap_or(0);
            if len == 0 {
                return;
            }
            let request = Request::decode(&buffer[..len]).expect("a request");
            for datagram in answer(number, &request) {
                // The other end may be gone.
                let _ = far.send(&datagram);
            }
        }
    });
    Socket::over(near.into(), timeout).expect("a timeout")
}

fn version(patch: u8) -> Reply {
    Reply::Version(Version::new(1, 2, patch, 4096))
}

fn web(port: u16) -> Reply {
    let key = VirtualKey::tcp(([192, 0, 2, 1], port).into());
    Reply::Virtual(ListedVirtual::new(VirtualServer::new(key, "rr".parse().expect("a name"))))
}

/// The messages of an answer, each as a datagram.
fn apart(answer: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = answer;
    let mut datagrams = vec![];
    while let Some(len) = rest.first_chunk().map(|&len| u32::from_ne_bytes(len)) {
        let (first, behind) =
            rest.split_at(usize::try_from(len).expect("a length").next_multiple_of(4));
        datagrams.push(first.to_owned());
        rest = behind;
    }
    datagrams
}

#[test]
fn an_answer_may_come_in_pieces() {
    let listed: Vec<Reply> = (1..=600).map(web).collect();
    let all = listed.clone();
    let mut socket = socket(LONG, move |number, request| {
        let answer = request.answer(&all);
        assert!(answer.len() > BUFFER);
        // What was too long for the buffer is asked for again.
        if number < 4 { vec![answer] } else { apart(&answer) }
    });
    // The first takes two requests.
    for _ in 0..4 {
        assert_eq!(socket.execute(&Command::ListVirtual, 28).expect("a list"), listed);
    }
}

#[test]
fn a_late_answer_is_nobody_elses() {
    let (late, come) = channel();
    let (go, begin) = channel();
    let mut socket = socket(SHORT, move |number, request| {
        if number == 0 {
            let _ = late.send(request.answer(&[version(1)]));
            return vec![];
        }
        // The second request was sent: the answer to the first comes just before its own.
        let first: Vec<u8> = come.recv().expect("the first answer");
        let _ = go.send(());
        vec![first, request.answer(&[version(2)])]
    });
    let error = socket.execute(&Command::ReadVersion, 28).expect_err("too late");
    assert!(matches!(error, IpvsError::TimedOut(SHORT)), "{error:?}");
    set_socket_timeout(&socket.fd, Timeout::Recv, Some(LONG)).expect("a timeout");
    socket.timeout = LONG;
    assert_eq!(socket.execute(&Command::ReadVersion, 28).expect("a version"), [version(2)]);
    begin.recv().expect("the first answer was sent");
    // Nothing is left.
    let left = recv(&socket.fd, &mut socket.buffer[..], RecvFlags::DONTWAIT);
    assert_eq!(left.map(|(_, len)| len), Err(Errno::AGAIN));
}

#[test]
fn what_is_left_of_an_answer_is_read_away() {
    let mut socket = socket(LONG, |number, request| match number {
        // Complete, but for what comes behind an answer that is none.
        0 => [
            vec![Request { command: Command::ReadTimeouts, ..*request }.answer(&[version(9)])],
            apart(&request.answer(&[version(1)])),
        ]
        .concat(),
        _ => vec![request.answer(&[version(2)])],
    });
    let error = socket.execute(&Command::ReadVersion, 28);
    assert_eq!(error.ok(), Some(vec![version(9)]), "its number fits, and so does what it says");
    assert_eq!(socket.execute(&Command::ReadVersion, 28).expect("a version"), [version(2)]);
}

#[test]
fn lost_messages_are_asked_for_again_and_commands_are_not_repeated() {
    let overrun = |request: &Request| {
        // NLMSG_OVERRUN
        let mut message = vec![16, 0, 0, 0, 4, 0, 0, 0];
        message.extend(request.sequence.to_ne_bytes());
        message.extend([0; 4]);
        message
    };
    for (lost, command, expected) in [
        (3, Command::ReadVersion, Ok(4)),
        (4, Command::ReadVersion, Err(4)),
        (0, Command::Flush, Ok(1)),
        (1, Command::Flush, Err(1)),
    ] {
        let (count, counted) = channel();
        let mut socket = socket(LONG, move |number, request| {
            let _ = count.send(());
            if number < lost {
                return vec![overrun(request)];
            }
            let replies: &[Reply] = match request.command {
                Command::ReadVersion => &[version(1)],
                _ => &[],
            };
            vec![request.answer(replies)]
        });
        let result = socket.execute(&command, 28);
        let requests = counted.try_iter().count();
        let got = match result {
            Ok(_) => Ok(requests),
            Err(IpvsError::Answer(ExchangeError::Overrun)) => Err(requests),
            Err(error) => panic!("{command}: {error}"),
        };
        assert_eq!(got, expected, "{command} with {lost} lost");
    }
}

#[test]
fn what_never_ends_is_given_up() {
    let (near, far) = UnixDatagram::pair().expect("a pair of sockets");
    let (given_up, stop) = channel();
    let sender = thread::spawn(move || {
        let other = Request { family_id: 28, sequence: 1000, command: Command::ReadVersion };
        let began = Instant::now();
        while stop.try_recv().is_err() {
            assert!(began.elapsed() < LONG, "nobody gives up");
            let _ = far.send(&other.answer(&[version(1)]));
        }
    });
    let mut socket = Socket::over(near.into(), SHORT).expect("a timeout");
    let error = socket.execute(&Command::ReadVersion, 28).expect_err("no answer");
    assert!(matches!(error, IpvsError::TimedOut(_)), "{error:?}");
    // Nor can all of it be read away.
    let error = socket.execute(&Command::ReadVersion, 28).expect_err("no answer");
    assert!(matches!(error, IpvsError::TimedOut(_)), "{error:?}");
    given_up.send(()).expect("somebody sends");
    drop(socket);
    sender.join().expect("it was given up in time");
}

#[test]
fn refusals_are_typed() {
    let mut socket = socket(LONG, |_, request| vec![request.refuse(1)]);
    for command in [Command::Flush, Command::ListVirtual] {
        let error = socket.execute(&command, 28).expect_err("a refusal");
        assert!(
            matches!(error, IpvsError::Answer(ExchangeError::Refused(CommandError::NotPermitted))),
            "{error:?}"
        );
        assert!(!socket.unread, "a refusal is all of the answer");
        assert_eq!(error.to_string(), "not permitted: expected the capability CAP_NET_ADMIN");
    }
}

#[test]
fn sequence_numbers_skip_zero() {
    let mut socket = socket(LONG, |_, request| {
        vec![request.answer(&[version(u8::try_from(request.sequence % 200).expect("small"))])]
    });
    socket.sequence = u32::MAX - 1;
    for expected in [u32::MAX, 1, 2] {
        socket.execute(&Command::ReadVersion, 28).expect("a version");
        assert_eq!(socket.sequence, expected);
    }
}

/// This machine's kernel loses what does not fit into the socket's buffer, and says so once: `ENOBUFS`.
#[test]
fn the_kernel_loses_messages() {
    let full = || {
        let mut socket = Socket::open(LONG).expect("a socket of generic netlink");
        let alone = asked(&mut socket);
        for sequence in 1..5000 {
            let request = Command::ResolveFamily.encode(0, 1_000_000 + sequence);
            send(&socket.fd, &request, SendFlags::empty()).expect("a kernel");
        }
        (socket, alone)
    };
    let (mut socket, _) = full();
    let first = recv(&socket.fd, &mut socket.buffer[..], RecvFlags::PEEK);
    assert_eq!(first.map(|(_, len)| len), Err(Errno::NOBUFS), "messages were lost");
    let (mut socket, alone) = full();
    assert_eq!(asked(&mut socket), alone, "the answer was lost, too");
    let (mut socket, alone) = full();
    socket.unread = true;
    assert_eq!(asked(&mut socket), alone);
}

fn asked(socket: &mut Socket) -> Result<Vec<Reply>, String> {
    socket.execute(&Command::ResolveFamily, 0).map_err(|error| error.to_string())
}
