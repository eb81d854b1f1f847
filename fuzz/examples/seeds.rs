//! Writes the seeds of all targets, always the same, from the data of tests and examples: `cargo run --example seeds -- corpus`, in this folder.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use svcplane::endpoints::{EndpointSet, EndpointSlice};
use svcplane::ipam::{IpRange, PortRange};
use svcplane::iptables;
use svcplane::ipvs::Request;
use svcplane::k8s::Object;
use svcplane::net::IpFamily;
use svcplane::plan::{LocalNode, Mode, Plan};
use svcplane::sched::Algorithm;
use svcplane::service::Service;

/// More is of no use: libFuzzer prefers what is short.
const MAX_LEN: usize = 4000;
const MAX_FILES: usize = 20;

/// By target, in the order in which they are numbered.
type Seeds = BTreeMap<&'static str, Vec<Vec<u8>>>;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args().nth(1).ok_or("which folder is for the seeds?")?;
    let mut seeds = Seeds::new();
    manifests(&mut seeds)?;
    selectors(&mut seeds)?;
    messages(&mut seeds)?;
    connections(&mut seeds)?;
    questions(&mut seeds);
    texts(&mut seeds);
    ranges(&mut seeds)?;
    operations(&mut seeds);
    for (target, mut inputs) in seeds {
        inputs.retain(|input| input.len() <= MAX_LEN);
        inputs.truncate(MAX_FILES);
        let folder = Path::new(&folder).join(target);
        fs::create_dir_all(&folder)?;
        for (number, input) in inputs.iter().enumerate() {
            fs::write(folder.join(format!("seed-{number:02}")), input)?;
        }
    }
    Ok(())
}

/// Where the crate itself is.
fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The files of a folder, by name.
fn files(folder: &str, extension: &str) -> Result<Vec<(String, String)>, Box<dyn Error>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(root().join(folder))? {
        let path = entry?.path();
        if path.extension().is_some_and(|found| found == extension) {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            files.push((name, fs::read_to_string(path)?));
        }
    }
    files.sort();
    Ok(files)
}

fn recorded(path: &str) -> Result<Value, Box<dyn Error>> {
    Ok(serde_json::from_str(&fs::read_to_string(root().join(path))?)?)
}

/// The examples' manifests and the clusters of the packet flows as lists; for plans as lines, behind what the node is made from. To the texts
/// goes what rules for such a cluster look like.
fn manifests(seeds: &mut Seeds) -> Result<(), Box<dyn Error>> {
    let mut lists: Vec<Vec<Value>> = Vec::new();
    for (_, text) in files("examples/manifests", "yaml")? {
        let documents = serde_norway::Deserializer::from_str(&text);
        lists.push(documents.map(serde::Deserialize::deserialize).collect::<Result<_, _>>()?);
    }
    let mut flows = Vec::new();
    for (_, text) in files("tests/data/flows", "json")? {
        let flow: Value = serde_json::from_str(&text)?;
        flows.push(flow["objects"].as_array().cloned().unwrap_or_default());
    }
    // The richest of those that are not too long.
    let length = |list: &[Value]| list.iter().map(|object| object.to_string().len()).sum::<usize>();
    flows.retain(|list| length(list) < MAX_LEN - 100);
    flows.sort_by_key(|list| std::cmp::Reverse(length(list)));
    lists.extend(flows);
    for (number, list) in (0_u8..).zip(&lists) {
        let object = json!({"apiVersion": "v1", "kind": "List", "items": list});
        seeds.entry("manifest").or_default().push(object.to_string().into());
        // What decides about the node, its cluster's addresses, two modes.
        let mut lines = vec![number.wrapping_mul(7) & 0x2f, number, number, number / 2];
        for object in list {
            lines.extend(object.to_string().bytes().chain([b'\n']));
        }
        seeds.entry("plan").or_default().push(lines);
    }
    for list in lists.iter().skip(4).take(3) {
        let rules = rules(list)?;
        seeds.entry("text").or_default().push(rules.replace("-I ", "-A ").into());
    }
    Ok(())
}

/// Input for `iptables-restore`, with what leads to our chains.
fn rules(objects: &[Value]) -> Result<String, Box<dyn Error>> {
    let (mut services, mut slices) = (Vec::<Service>::new(), Vec::<EndpointSlice>::new());
    for object in objects {
        match serde_json::from_value::<Object>(object.clone())? {
            Object::Service(mirror) => services.push(mirror.convert()?.object),
            Object::EndpointSlice(mirror) => slices.push(mirror.convert()?.object),
            _ => {}
        }
    }
    let sets: Vec<EndpointSet> =
        services.iter().map(|s| EndpointSet::merge(s.name.clone(), &slices)).collect();
    let node = LocalNode::new("node".parse()?);
    let plan = Plan::new(&node, Mode::Iptables, services.iter().zip(&sets));
    Ok(iptables::replace(&plan, IpFamily::V4, &iptables::Config::default(), ""))
}

fn selectors(seeds: &mut Seeds) -> Result<(), Box<dyn Error>> {
    let recorded = recorded("tests/data/selectors/parse.json")?;
    let cases = recorded["cases"].as_array().ok_or("no cases")?;
    let texts = cases.iter().filter(|case| case["ok"] == true).filter_map(|c| c["in"].as_str());
    let texts: Vec<&str> = texts.filter(|text| (10..80).contains(&text.len())).collect();
    let some = texts.iter().step_by(texts.len() / MAX_FILES);
    seeds.insert("selector", some.map(|text| (*text).into()).collect());
    Ok(())
}

/// What ipvsadm has asked, and what the kernel has answered, as for the family and the sequence number that the target knows.
fn messages(seeds: &mut Seeds) -> Result<(), Box<dyn Error>> {
    let mut inputs = Vec::new();
    let requests = recorded("tests/data/netlink/requests.json")?;
    let cases = requests["cases"].as_array().ok_or("no cases")?;
    for case in cases.iter().step_by(cases.len() / 9) {
        let Some(request) = case["requests"].as_array().and_then(|all| all.last()) else {
            continue;
        };
        let payload = bytes(request["payload_hex"].as_str().ok_or("no payload")?)?;
        let length = u32::try_from(16 + payload.len())?;
        let flags = u16::try_from(request["nlmsg_flags"].as_u64().ok_or("no flags")?)?;
        let header = [&length.to_le_bytes()[..], &[28, 0], &flags.to_le_bytes()].concat();
        let request = [&header[..], &[1, 0, 0, 0, 0, 0, 0, 0], &payload].concat();
        Request::decode(&request)?;
        inputs.push([&[0; 3], &request[..]].concat());
    }
    let answers = recorded("tests/data/netlink/answers.json")?;
    let rows = answers["rows"].as_array().ok_or("no rows")?;
    let replies = |row: &Value| row["raw_replies_hex"].as_array().cloned().unwrap_or_default();
    let told: Vec<Vec<Value>> = rows.iter().map(replies).filter(|all| !all.is_empty()).collect();
    for replies in told.iter().step_by(told.len() / 9) {
        let mut input = vec![0; 3];
        for reply in replies {
            let mut message = bytes(reply.as_str().ok_or("no text")?)?;
            if message[4] >= 16 {
                message[4..6].copy_from_slice(&[28, 0]);
            }
            message[8..12].copy_from_slice(&[1, 0, 0, 0]);
            input.extend(message);
        }
        inputs.push(input);
    }
    seeds.insert("ipvs", inputs);
    Ok(())
}

fn bytes(hex: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    let digits: Vec<char> = hex.chars().collect();
    let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16);
    Ok(digits.chunks(2).map(byte).collect::<Result<_, _>>()?)
}

/// What happened to a kernel's IPVS, as operations.
fn connections(seeds: &mut Seeds) -> Result<(), Box<dyn Error>> {
    let (mut plain, mut persistent) = (Vec::new(), Vec::new());
    let mut seen = BTreeMap::<String, usize>::new();
    for (_, text) in files("tests/data/ipvs", "json")? {
        let recorded: Value = serde_json::from_str(&text)?;
        let service = &recorded["service"];
        let names: Vec<&str> =
            recorded["dests"].as_object().ok_or("no dests")?.keys().map(String::as_str).collect();
        let events = recorded["events"].as_array().ok_or("no events")?;
        if service["persistent_s"] != 0 {
            persistent.push(templates(&names, events));
            continue;
        }
        let scheduler = service["scheduler"].as_str().ok_or("no scheduler")?;
        let count = seen.entry(scheduler.into()).or_default();
        *count += 1;
        if *count <= 2 {
            plain.push(picks(scheduler.parse()?, &names, events));
        }
    }
    seeds.insert("sched", plain);
    seeds.insert("templates", persistent);
    Ok(())
}

/// What an event is about: a destination's number, its weight, a connection, the low bytes of the client's address.
fn about(names: &[&str], event: &Value) -> (u8, u64, u8, [u8; 2]) {
    let byte = |number: u64| u8::try_from(number % 256).unwrap_or_default();
    let dest = event["dest"].as_str().and_then(|dest| names.iter().position(|name| *name == dest));
    let dest = byte(dest.unwrap_or_default() as u64);
    let client = event["client"][0].as_str().unwrap_or_default();
    let client = client.split(['.', ':']).rev().map(|part| part.parse().unwrap_or(0));
    let mut client = client.chain([0, 0]);
    let client = [client.next().unwrap_or(0), client.next().unwrap_or(0)];
    (dest, event["weight"].as_u64().unwrap_or(0), byte(event["conn"].as_u64().unwrap_or(0)), client)
}

fn picks(algorithm: Algorithm, names: &[&str], events: &[Value]) -> Vec<u8> {
    let number = Algorithm::ALL.iter().position(|one| *one == algorithm).unwrap_or_default();
    // 256 addresses, none at first.
    let mut input = vec![u8::try_from(number).unwrap_or_default(), 16, 0];
    for event in events {
        let (dest, weight, conn, client) = about(names, event);
        let threshold = |key: &str| event[key].as_u64().and_then(|n| u8::try_from(n).ok());
        let thresholds = match (threshold("l"), threshold("u")) {
            (_, None | Some(0)) => 0,
            (lower, Some(upper)) => 128 + lower.unwrap_or(0) % 4 * 16 + upper % 16,
        };
        let weight = match u8::try_from(weight) {
            Ok(small @ ..7) => vec![small],
            _ => [&[255], &weight.to_be_bytes()[4..]].concat(),
        };
        let operation = match event["op"].as_str() {
            Some("add_dest") => [&[0, dest], &weight[..], &[thresholds]].concat(),
            Some("edit_dest") => [&[4, dest], &weight[..], &[thresholds]].concat(),
            Some("del_dest") => vec![6, dest],
            Some("pick") => vec![12, 0, 10, 0, client[1], client[0], 1, 24, conn],
            Some("close") => vec![28, conn],
            Some("sleep") => vec![33, 200],
            _ => continue,
        };
        if input.len() + operation.len() > MAX_LEN {
            break;
        }
        input.extend(operation);
    }
    input
}

fn templates(names: &[&str], events: &[Value]) -> Vec<u8> {
    // Room for sixty; clients share a template for 300 seconds.
    let mut input = vec![7, 86, 4, 0, 0];
    for event in events {
        let (dest, weight, conn, client) = about(names, event);
        let number = |byte: &u8| byte % 5 == dest % 5 && u64::from(byte >> 3) % 3 == weight.min(2);
        let wanted = (0..=255).find(number).unwrap_or(dest);
        let operation = match event["op"].as_str() {
            Some("add_dest" | "edit_dest") => vec![0, wanted, 0],
            Some("del_dest") => vec![3, dest],
            Some("pick") => vec![9, client[0] & 0x0f, 0, 27, conn],
            Some("close") => vec![29, conn],
            Some("sleep") => vec![34, 200],
            _ => continue,
        };
        if input.len() + operation.len() > MAX_LEN {
            break;
        }
        input.extend(operation);
    }
    input.push(39);
    input
}

/// Names of every kind, as labels under the zones that the target has, and as they are on the wire; and updates.
fn questions(seeds: &mut Seeds) {
    let names = [
        "a.ns",
        "_http._tcp.a.ns",
        "*.a.ns",
        "10-0-0-1.ns",
        "pod-0.a.ns",
        "dns-version",
        "1.0.96.10",
        "frontend.default.svc.cluster.local",
        "_http._tcp.frontend.default.svc.cluster.local.",
    ];
    let mut inputs = Vec::new();
    for (number, name) in (0..).zip(names) {
        let kind = [1, 28, 33, 12, 5, 6, 16, 255][number % 8];
        inputs.push([&[kind, b'.'][..], name.as_bytes()].concat());
        let mut wire: Vec<u8> = vec![kind, 7];
        for label in name.split('.').filter(|label| !label.is_empty()) {
            wire.push(u8::try_from(label.len()).unwrap_or_default());
            wire.extend(label.bytes());
        }
        wire.push(0);
        inputs.push(wire);
    }
    let updates = |seed| [&[8, 1], &drawn(seed, 200)[..]].concat();
    inputs.extend([updates(1), updates(2)]);
    seeds.insert("dns", inputs);
}

/// One of each kind that is read.
fn texts(seeds: &mut Seeds) {
    let texts = [
        "default/redis",
        "a-b.c-d.example.com/name",
        "app=redis,tier=store",
        "192.168.001.010",
        "::ffff:10.0.0.1/104",
        "2001:db8::/32",
        "30000-32767",
        "30000+100",
        "2024-05-01T10:00:00.5+02:00",
        "1.0005Ki",
        "0.018E",
        "12e-1",
        "wlc",
        "eth0@if7",
        "ClientIP",
    ];
    let inputs = seeds.entry("text").or_default();
    inputs.extend(texts.map(|text| text.as_bytes().to_vec()));
}

/// Operations on ranges of every kind, and ranges as they are stored.
fn ranges(seeds: &mut Seeds) -> Result<(), Box<dyn Error>> {
    let mut inputs: Vec<Vec<u8>> = Vec::new();
    for kind in 0..9_u8 {
        inputs.push([&[kind, 5, 40], &drawn(kind.into(), 300)[..]].concat());
    }
    let stored = |bytes: Vec<u8>| [&[9, 0, 0], &bytes[..]].concat();
    for net in ["10.0.0.0/16", "fd00::/64"] {
        let mut range = IpRange::new(net.parse()?, 1)?;
        inputs.push(stored(range.to_bytes()));
        for _ in 0..9 {
            range.allocate_next()?;
        }
        inputs.push(stored(range.to_bytes()));
    }
    let mut ports = PortRange::new(30_000, 32_767, 1);
    ports.allocate(30_080)?;
    inputs.push(stored(ports.to_bytes()));
    seeds.insert("ipam", inputs);
    Ok(())
}

/// Where any bytes are operations: any bytes, short and long.
fn operations(seeds: &mut Seeds) {
    for target in ["affinity", "assign", "catalog", "index", "plan", "pool", "sched", "templates"] {
        let inputs = seeds.entry(target).or_default();
        for (seed, length) in [40, 150, 400, 900].into_iter().enumerate() {
            let mut any = drawn(seed as u64, length);
            if target == "plan" {
                // A brace would be taken for the beginning of an object.
                any.retain(|byte| *byte != b'{');
            }
            inputs.insert(seed, any);
        }
    }
}

/// Bytes that are the same for ever (splitmix64).
fn drawn(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let words = std::iter::repeat_with(|| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31).to_le_bytes()
    });
    words.flatten().take(length).collect()
}
