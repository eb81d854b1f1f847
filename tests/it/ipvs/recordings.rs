//! What was recorded, in `tests/data/netlink/`, as the replay example compares it, and changed.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::Value;
use svcplane::ipvs::{Command, DecodeError, Exchange, Reply, Request};
use svcplane::sched::Algorithm;

#[path = "../../../examples/replay/ipvsadm.rs"]
pub(super) mod ipvsadm;
#[path = "../../../examples/replay/netlink.rs"]
mod netlink;

#[derive(Default)]
struct Outcome {
    compared: String,
    /// Input, expected, got.
    mismatches: Vec<[String; 3]>,
}

impl Outcome {
    fn compare(&mut self, input: &str, expected: String, got: String) {
        if expected != got {
            self.mismatches.push([input.to_owned(), expected, got]);
        }
    }
}

fn recorded(name: &str) -> Value {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/netlink");
    let file = File::open(folder.join(name)).expect("a recording");
    serde_json::from_reader(BufReader::new(file)).expect("JSON")
}

#[test]
fn requests_are_ipvsadm_s_and_answers_mean_what_is_recorded() {
    for (name, compared) in
        [("requests.json", "74 requests, 47 replies"), ("more.json", "48 requests, 10 replies")]
    {
        let outcome = netlink::golden(recorded(name)).expect("of its kind");
        assert!(outcome.mismatches.is_empty(), "{name}: {:#?}", outcome.mismatches);
        assert_eq!(outcome.compared, compared, "{name}");
    }
    let outcome = netlink::errors(recorded("answers.json")).expect("of its kind");
    assert!(outcome.mismatches.is_empty(), "{:#?}", outcome.mismatches);
    assert_eq!(outcome.compared, "69 answers, 48 of the requests read");
}

/// A replay that cannot fail would be no test: a byte of each recorded request and reply matters.
#[test]
fn a_recording_that_is_not_right_is_noticed() {
    let right = recorded("more.json");
    let mut changed = 0;
    let count = right["cases"].as_array().map_or(0, Vec::len);
    for (case, part) in (0..count).flat_map(|case| [(case, ""), (case, "/replies/0")]) {
        let path = format!("/cases/{case}/requests/0{part}/payload_hex");
        let mut wrong = right.clone();
        let Some(Value::String(hex)) = wrong.pointer_mut(&path) else { continue };
        // The last digit that is not padding.
        let Some(at) = hex.rfind(|digit| digit != '0').filter(|at| *at > 4) else { continue };
        let digit = if hex.as_bytes()[at] == b'1' { "2" } else { "1" };
        hex.replace_range(at..=at, digit);
        let noticed = netlink::golden(wrong).is_ok_and(|outcome| !outcome.mismatches.is_empty());
        assert!(noticed, "{path}");
        changed += 1;
    }
    assert!(changed > 40, "{changed} changes");
}

fn bytes(hex: &Value) -> Vec<u8> {
    let hex = hex.as_str().expect("hexadecimal");
    let pairs = (0..hex.len()).step_by(2);
    pairs.map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("digits")).collect()
}

/// A netlink message of family 28 with the number 1.
fn framed(flags: u16, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len() + 16).expect("short");
    let mut message = length.to_ne_bytes().to_vec();
    message.extend([28_u16.to_ne_bytes(), flags.to_ne_bytes()].concat());
    message.extend([1_u32.to_ne_bytes(), [0; 4]].concat());
    message.extend(payload);
    message
}

/// What is read here is what the kernel takes for well-formed, and what is not read is what it refuses.
#[test]
fn requests_are_read_as_the_kernel_reads_them() {
    let answers = recorded("answers.json");
    let mut read = [0; 2];
    for row in answers["rows"].as_array().expect("rows") {
        let flags = u16::try_from(row["flags"].as_u64().expect("flags")).expect("small");
        let request = Request::decode(&framed(flags, &bytes(&row["request_payload_hex"])));
        let (name, error) = (row["name"].as_str().expect("a name"), &row["error"]);
        read[usize::from(request.is_ok())] += 1;
        let expected = match (name, &request) {
            // What this crate has no value for.
            ("new-service-proto-icmp", Err(_)) => "OK",
            // Read, and looked for among the schedulers.
            ("new-service-sched-empty", Err(_)) => "ENOENT",
            (_, Err(DecodeError::OutOfRange { .. })) => "ERANGE",
            (_, Err(DecodeError::UnknownFamily(_))) => "EAFNOSUPPORT",
            (_, Err(DecodeError::UnknownCommand { .. })) => "ENOTSUP",
            // The latter are well-formed, and refused for what they say.
            (_, Err(_))
            | (
                "new-dest-multicast"
                | "new-dest-zero-addr"
                | "new-dest-af6-masq-under-v4"
                | "set-config-too-large"
                | "set-config-negative",
                Ok(_),
            ) => "EINVAL",
            (_, Ok(_)) => {
                let found = ["OK", "EEXIST", "ENOENT", "ESRCH", "ENODEV"];
                assert!(found.iter().any(|found| error == found), "{name}: {request:?}, {error}");
                continue;
            }
        };
        assert_eq!(error, expected, "{name}: {request:?}");
    }
    assert_eq!(read, [21, 48]);
}

/// What of a request counts where several readings are possible. Source: the kernel's answers to the same rows.
#[test]
fn what_counts_in_a_request() {
    let answers = recorded("answers.json");
    for (name, command) in [
        ("new-service-addr4-only-4-bytes", "-A -t 10.0.8.1:80 -s rr"),
        ("new-service-addr4-dirty-tail", "-A -t 10.0.7.1:80 -s rr"),
        ("new-service-fwmark-0", "-A -t 0.0.0.0:0 -s rr"),
        ("new-service-fwmark-and-addr", "-A -f 34 -s dh"),
        ("new-service-flags-mask", "-A -t 10.0.4.1:80 -s sh -p 0 -b sh-fallback"),
        ("new-service-af-u32", "-A -t 10.0.3.2:80 -s rr"),
        ("new-service-sched-none", "-A -t 10.0.5.3:80 -s none"),
        ("new-service-sched-15-chars", "-A -t 10.0.5.1:80 -s aaaaaaaaaaaaaaa"),
        ("unknown-attr-ignored", "-L -n -t 10.0.0.1:80"),
        ("new-dest-fwd-bits-masked", "-a -t 10.0.0.1:80 -r 10.1.0.5:1 -i -w 1 --tun-type ipip"),
        (
            "new-dest-af6-tunnel-under-v4",
            "-a -t 10.0.0.1:80 -r [2001:db8:1::5]:80 -i -w 1 --tun-type ipip",
        ),
        ("new-dest-weight-2147483647", "-a -t 10.0.0.1:80 -r 10.1.0.3:1 -m -w 2147483647"),
        ("set-config-zero", "--set 0 0 0"),
        ("set-config-too-large", "--set 2147483647 0 0"),
    ] {
        let rows = answers["rows"].as_array().expect("rows");
        let row = rows.iter().find(|row| row["name"] == name).expect("a row of the name");
        let request = Request::decode(&framed(5, &bytes(&row["request_payload_hex"])));
        let request = request.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(request.command.to_string(), command, "{name}");
        assert_eq!((request.family_id, request.sequence), (28, 1));
    }
}

/// What a list has that there is no value for does not hide the rest.
#[test]
fn what_cannot_be_read_is_one_thing_of_a_list() {
    let answers = recorded("answers.json");
    let rows = answers["rows"].as_array().expect("rows");
    let row = rows.iter().find(|row| row["name"] == "get-service-dump").expect("the list");
    let mut exchange = Exchange::new(Command::ListVirtual, 28, 0x27);
    let mut listed = Vec::new();
    for datagram in row["raw_replies_hex"].as_array().expect("datagrams") {
        listed.extend(exchange.receive(&bytes(datagram)).expect("an answer"));
    }
    assert!(exchange.is_over());
    let words: Vec<String> = listed
        .iter()
        .map(|reply| match reply {
            Reply::Virtual(listed) => listed.server.to_string(),
            Reply::Unreadable(error) => error.to_string(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        words,
        [
            "-t [2001:db8::9]:80 -s rr",
            "IPVS_SVC_ATTR_PROTOCOL: expected 6, TCP, 17, UDP, or 132, SCTP",
            "-t 10.0.5.3:80 -s none",
            "-t 10.0.4.1:80 -s sh -p 0 -b sh-fallback,sh-port",
            "-t 10.0.7.1:80 -s rr",
            "-t 10.0.8.1:80 -s rr",
            "-t 10.0.0.1:80 -s rr",
            "-t 0.0.0.0:0 -s rr",
            "-f 33 -s dh",
            "-f 34 -s dh",
        ]
    );
}

/// Each of the kernel's algorithms that there are traces of was named in a recorded request, or is like the others.
#[test]
fn algorithms_are_named_as_the_kernel_names_them() {
    let text = recorded("requests.json").to_string() + &recorded("more.json").to_string();
    for &algorithm in Algorithm::ALL {
        let named = svcplane::ipvs::SchedulerName::try_from(algorithm);
        match algorithm.as_str() {
            "random" | "wrandom" | "p2c" => {
                let error = named.expect_err("no kernel has it").to_string();
                assert!(error.contains(algorithm.as_str()), "{error}");
            }
            name => {
                assert_eq!(named.expect("the kernel has it").as_str(), name);
                assert!(
                    text.contains(&format!("-s {name}\"")) || text.contains(&format!("-s {name} ")),
                    "{name}"
                );
            }
        }
    }
}

/// Recorded requests and replies, whole messages.
fn messages() -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    for name in ["requests.json", "more.json"] {
        let recorded = recorded(name);
        for case in recorded["cases"].as_array().expect("cases") {
            for request in case["requests"].as_array().expect("requests") {
                messages.push(framed(0x305, &bytes(&request["payload_hex"])));
                for reply in request["replies"].as_array().expect("replies") {
                    if !reply["payload_hex"].is_null() {
                        messages.push(framed(2, &bytes(&reply["payload_hex"])));
                    }
                }
            }
        }
    }
    for row in recorded("answers.json")["rows"].as_array().expect("rows") {
        messages.push(framed(5, &bytes(&row["request_payload_hex"])));
        messages.extend(row["raw_replies_hex"].as_array().expect("datagrams").iter().map(bytes));
    }
    messages.sort();
    messages.dedup();
    messages
}

const ASKING: &[&str] =
    &["-L -n", "-L -n -t 10.0.0.1:80", "-L -c", "-L --timeout", "-L --daemon", "-C"];

/// No panic; and what is read says the same when it is written and read again.
fn look(message: &[u8]) {
    if let Ok(request) = Request::decode(message) {
        assert_eq!(Request::decode(&request.encode()), Ok(request));
        assert!(!request.command.to_string().is_empty());
    }
    let sequence = message.get(8..12).and_then(|number| number.try_into().ok());
    let sequence = sequence.map_or(1, u32::from_ne_bytes);
    let asking = ASKING.iter().map(|line| ipvsadm::command(line).expect("a command"));
    let real =
        Command::ListReal("10.0.0.1:80".parse().map(svcplane::ipvs::VirtualKey::tcp).unwrap());
    for command in asking.chain([real, Command::ResolveFamily]) {
        let mut exchange = Exchange::new(command, 28, sequence);
        let Ok(mut replies) = exchange.receive(message) else { continue };
        replies.retain(|reply| !matches!(reply, Reply::Unreadable(_)));
        let request = Request::decode(exchange.request()).expect("its own");
        let answer = request.answer(&replies);
        let again = Exchange::new(command, 28, sequence).receive(&answer);
        assert_eq!(again, Ok(replies));
    }
}

proptest! {
    #[test]
    fn any_bytes_are_an_answer_or_an_error(message in prop::collection::vec(any::<u8>(), 0..200)) {
        look(&message);
    }

    #[test]
    fn changed_recordings_are_read_or_refused(
        message in select(messages()),
        changes in prop::collection::vec((any::<Index>(), any::<u8>()), 1..4),
        cut in prop::option::weighted(0.2, any::<Index>()),
    ) {
        let mut message = message;
        for (at, byte) in changes {
            let at = at.index(message.len());
            message[at] = byte;
        }
        if let Some(cut) = cut {
            message.truncate(cut.index(message.len()));
        }
        look(&message);
    }
}
