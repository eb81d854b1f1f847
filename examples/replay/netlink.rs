//! What `ipvsadm` and a kernel's IPVS said to each other, and how the kernel answered requests made by hand.

mod meaning;

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use svcplane::ipvs::{Command, CommandError, DecodeError, Exchange, ExchangeError, Reply, Request};

use super::{Outcome, ipvsadm};
use meaning::{Attribute, hex};

/// What the family was numbered in answers that are recorded without their headers. Any number would do.
const FAMILY: u16 = 28;
const SEQUENCE: u32 = 1;

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    command: String,
    #[serde(default)]
    stdin: Option<String>,
    requests: Vec<Recorded>,
}

#[derive(Deserialize)]
struct Recorded {
    cmd: String,
    nlmsg_flags: u16,
    payload_hex: String,
    replies: Vec<Answered>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Answered {
    errno: Option<i32>,
    done: Option<String>,
    nlmsg_flags: u16,
    payload_hex: String,
    attrs: Vec<Attribute>,
}

#[derive(Deserialize)]
struct Errors {
    rows: Vec<Row>,
    #[serde(default)]
    unprivileged: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Row {
    name: String,
    cmd: String,
    flags: u16,
    request_payload_hex: String,
    errno: i32,
    n_replies: usize,
    reply_payloads_hex: Vec<String>,
    raw_replies_hex: Vec<String>,
}

/// What `ipvsadm` said: its requests are made again from its arguments, and the answers mean what is recorded.
pub(crate) fn golden(recorded: Value) -> Result<Outcome, String> {
    let golden: Golden = serde_json::from_value(recorded)
        .map_err(|error| format!("not a file of netlink requests: {error}"))?;
    let mut outcome = Outcome::default();
    let (mut requests, mut replies) = (0, 0);
    for case in &golden.cases {
        requests += case.requests.len();
        replies += play(case, &mut outcome)?;
    }
    outcome.compared = format!("{requests} requests, {replies} replies");
    Ok(outcome)
}

fn play(case: &Case, outcome: &mut Outcome) -> Result<usize, String> {
    let name = &case.name;
    // `ipvsadm` itself refuses some: those are no requests.
    let mut expected = Vec::new();
    if !case.requests.is_empty() {
        let lines = case.stdin.as_deref().filter(|_| {
            let words = ["-R", "--restore", "ipvsadm-restore"];
            case.command.split_whitespace().any(|word| words.contains(&word))
        });
        let lines: Vec<&str> =
            lines.map_or_else(|| vec![&*case.command], |lines| lines.lines().collect());
        for line in lines.into_iter().filter(|line| !line.trim().is_empty()) {
            expected.push(ipvsadm::command(line)?);
        }
    }
    let mut said = Vec::new();
    let mut replies = 0;
    for request in &case.requests {
        let input = format!("{name}: {}", request.cmd);
        let payload = bytes(&request.payload_hex)?;
        let message = message(FAMILY, request.nlmsg_flags, SEQUENCE, &payload);
        let decoded = match Request::decode(&message) {
            Ok(decoded) => decoded,
            Err(error) => {
                outcome.compare(&input, "a request".to_owned(), error.to_string());
                continue;
            }
        };
        outcome.compare(&input, hex(&message), hex(&decoded.encode()));
        let command = decoded.command;
        said.push(command);
        let listed = answered(command, request, &input, outcome)?;
        replies += listed.len();
        // What a list has is asked about one by one.
        if matches!(command, Command::ListVirtual | Command::FindVirtual(_)) {
            expected.extend(listed.iter().filter_map(|reply| match reply {
                Reply::Virtual(listed) => Some(Command::ListReal(listed.server.key())),
                _ => None,
            }));
        }
    }
    let words = |commands: &[Command]| {
        let mut words: Vec<String> = commands
            .iter()
            .map(|command| format!("{command} {}", hex(&command.encode(FAMILY, SEQUENCE))))
            .collect();
        words.sort();
        words.join("\n")
    };
    outcome.compare(&format!("{name}: {}", case.command), words(&expected), words(&said));
    Ok(replies)
}

/// What a recorded answer means, and whether that is what its description says.
fn answered(
    command: Command,
    request: &Recorded,
    input: &str,
    outcome: &mut Outcome,
) -> Result<Vec<Reply>, String> {
    let mut exchange = Exchange::new(command, FAMILY, SEQUENCE);
    let mut replies = Vec::new();
    for answered in &request.replies {
        let (kind, payload) = match (answered.errno, &answered.done) {
            (Some(errno), _) => (2, [&(-errno).to_ne_bytes()[..], &[0; 16]].concat()),
            (None, Some(code)) => (3, bytes(code)?),
            (None, None) => (FAMILY, bytes(&answered.payload_hex)?),
        };
        let received = exchange.receive(&message(kind, answered.nlmsg_flags, SEQUENCE, &payload));
        let errno = answered.errno.unwrap_or(0);
        outcome.compare(input, errno.to_string(), refused(&received).to_string());
        known(&received, input, outcome);
        for reply in received.unwrap_or_default() {
            meaning::compare(&reply, &answered.attrs, input, outcome);
            again(command, &reply, &payload, input, outcome);
            replies.push(reply);
        }
        outcome.compare(input, (kind != FAMILY).to_string(), exchange.is_over().to_string());
    }
    Ok(replies)
}

/// The number of the error that an answer comes to.
fn refused(received: &Result<Vec<Reply>, ExchangeError>) -> i32 {
    match received {
        Ok(_) => 0,
        Err(ExchangeError::Refused(error)) => error.errno(),
        Err(_) => i32::MAX,
    }
}

/// Errors have a meaning, and what is not read is of a protocol that cannot be.
fn known(received: &Result<Vec<Reply>, ExchangeError>, input: &str, outcome: &mut Outcome) {
    match received {
        Ok(replies) => {
            for reply in replies {
                let Reply::Unreadable(error) = reply else { continue };
                if !matches!(
                    error,
                    DecodeError::Invalid { attribute: "IPVS_SVC_ATTR_PROTOCOL", .. }
                ) {
                    outcome.compare(input, "a reply".to_owned(), error.to_string());
                }
            }
        }
        Err(ExchangeError::Refused(CommandError::Other(errno))) => {
            outcome.compare(input, "an error with a name".to_owned(), errno.to_string());
        }
        Err(ExchangeError::Refused(_)) => {}
        Err(error) => outcome.compare(input, "an answer".to_owned(), error.to_string()),
    }
}

/// Written again it is the same, but for what only aligns numbers.
fn again(command: Command, reply: &Reply, payload: &[u8], input: &str, outcome: &mut Outcome) {
    if matches!(reply, Reply::Unreadable(_)) {
        return;
    }
    let answer = Request::new(command, FAMILY, SEQUENCE).answer(&[*reply]);
    let length = answer.first_chunk().map_or(0, |length| u32::from_ne_bytes(*length) as usize);
    let written = answer.get(16..length).unwrap_or_default();
    outcome.compare(input, hex(&unpadded(payload)), hex(&unpadded(written)));
}

/// A payload without the attributes that align 64-bit numbers.
fn unpadded(payload: &[u8]) -> Vec<u8> {
    let (header, attributes) = payload.split_at(payload.len().min(4));
    let mut out = header.to_vec();
    out.extend(strip(attributes, 0));
    out
}

/// Statistics are two levels down, and number 11 there is what aligns.
fn strip(mut attributes: &[u8], depth: u8) -> Vec<u8> {
    let mut out = Vec::new();
    while let [a, b, c, d, ..] = *attributes {
        let (length, kind) = (u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d]));
        let length = usize::from(length).clamp(4, attributes.len());
        let value = &attributes[4..length];
        attributes = &attributes[length.next_multiple_of(4).min(attributes.len())..];
        let nest = (depth == 0 && (1..=3).contains(&kind) && value.len() > 4)
            || (depth == 1 && (kind == 10 || kind == 12));
        if depth == 2 && kind == 11 {
            continue;
        }
        let value = if nest { strip(value, depth + 1) } else { value.to_vec() };
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        out.extend([length.to_ne_bytes(), kind.to_ne_bytes()].concat());
        out.extend(&value);
        out.resize(out.len().next_multiple_of(4), 0);
    }
    out
}

/// How the kernel answered what was made by hand, often wrongly: each answer has a meaning, and requests that mean something still mean it
/// when they are written again.
pub(crate) fn errors(recorded: Value) -> Result<Outcome, String> {
    let errors: Errors = serde_json::from_value(recorded)
        .map_err(|error| format!("not a file of netlink errors: {error}"))?;
    let mut outcome = Outcome::default();
    let mut read = 0;
    for row in &errors.rows {
        read += usize::from(answer(row, &mut outcome)?);
    }
    for (cmd, error) in &errors.unprivileged {
        let got = CommandError::new(&stand_in(cmd)?, 1);
        let expected = if error == "EPERM" { CommandError::NotPermitted } else { got };
        outcome.compare(&format!("unprivileged {cmd}"), expected.to_string(), got.to_string());
    }
    let rows = errors.rows.len();
    outcome.compared = format!("{rows} answers, {read} of the requests read");
    Ok(outcome)
}

/// Whether the request could be read.
fn answer(row: &Row, outcome: &mut Outcome) -> Result<bool, String> {
    let input = &row.name;
    let payload = bytes(&row.request_payload_hex)?;
    let decoded = Request::decode(&message(FAMILY, row.flags, SEQUENCE, &payload));
    if let Ok(request) = &decoded {
        let again = Request::decode(&request.encode());
        outcome.compare(
            input,
            format!("{:?}", Ok::<_, DecodeError>(*request)),
            format!("{again:?}"),
        );
    }
    let command = decoded.map_or_else(|_| stand_in(&row.cmd), |request| Ok(request.command))?;
    let mut exchange: Option<Exchange> = None;
    let (mut replies, mut errno) = (Vec::new(), 0);
    for datagram in &row.raw_replies_hex {
        let datagram = bytes(datagram)?;
        let exchange = exchange.get_or_insert_with(|| {
            let [_, _, _, _, a, b, _, _, s @ .., _, _, _, _] =
                datagram.first_chunk::<16>().copied().unwrap_or_default();
            // The types below 16 are netlink's own.
            let family = Some(u16::from_ne_bytes([a, b])).filter(|kind| *kind >= 16);
            Exchange::new(command, family.unwrap_or(FAMILY), u32::from_ne_bytes(s))
        });
        let received = exchange.receive(&datagram);
        known(&received, input, outcome);
        errno = refused(&received);
        replies.extend(received.unwrap_or_default());
    }
    outcome.compare(input, row.errno.to_string(), errno.to_string());
    outcome.compare(input, row.n_replies.to_string(), replies.len().to_string());
    for (reply, payload) in replies.iter().zip(&row.reply_payloads_hex) {
        again(command, reply, &bytes(payload)?, input, outcome);
    }
    // With acknowledgement, or the end of a list, an answer is complete.
    let complete = row.flags & 4 != 0 || row.errno != 0 || command.is_list();
    let over = exchange.is_some_and(|exchange| exchange.is_over());
    outcome.compare(input, complete.to_string(), over.to_string());
    Ok(decoded.is_ok())
}

/// A command of the kind that a request was which says nothing.
fn stand_in(cmd: &str) -> Result<Command, String> {
    let text = match cmd {
        "NEW_SERVICE" => "-A -t 0.0.0.0:0",
        "SET_SERVICE" => "-E -t 0.0.0.0:0",
        "DEL_SERVICE" => "-D -t 0.0.0.0:0",
        // Of one that asks for destinations what is wrong is that it asks for no list.
        "GET_SERVICE" | "GET_DEST" => "-L -n -t 0.0.0.0:0",
        "NEW_DEST" => "-a -t 0.0.0.0:0 -r 0.0.0.0",
        "SET_DEST" => "-e -t 0.0.0.0:0 -r 0.0.0.0",
        "DEL_DEST" => "-d -t 0.0.0.0:0 -r 0.0.0.0",
        "NEW_DAEMON" => "--start-daemon master --mcast-interface lo",
        "DEL_DAEMON" => "--stop-daemon master",
        "GET_DAEMON" => "-L --daemon",
        "SET_CONFIG" => "--set 0 0 0",
        "GET_CONFIG" => "-L --timeout",
        "GET_INFO" => "-L -c",
        "ZERO" => "-Z",
        "FLUSH" => "-C",
        other => return Err(format!("unknown command {other:?}")),
    };
    ipvsadm::command(text)
}

/// A whole message.
fn message(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len() + 16).unwrap_or(u32::MAX);
    let header = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &flags.to_ne_bytes()];
    [&header.concat(), &sequence.to_ne_bytes()[..], &[0; 4], payload].concat()
}

fn bytes(hex: &str) -> Result<Vec<u8>, String> {
    let pair = |at: usize| hex.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    let bytes: Option<Vec<u8>> = (0..hex.len()).step_by(2).map(pair).collect();
    bytes.ok_or_else(|| format!("not bytes in hexadecimal: {hex:?}"))
}
