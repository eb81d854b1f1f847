//! The DNS example as a user runs it: a process, manifests in a folder, sockets on loopback.

#![cfg(all(feature = "serde", unix))]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use svcplane::dns::NameBuf;

use crate::example::binary;

/// Nothing is expected to take as long; it keeps a failure from hanging.
const PATIENCE: Duration = Duration::from_secs(30);
const NAME: &str = "web.default.svc.cluster.local";

struct Server {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
    addr: SocketAddr,
    folder: PathBuf,
}

impl Server {
    fn start() -> Self {
        let pid = std::process::id();
        let folder = std::env::temp_dir().join(format!("svcplane-dns-{pid}"));
        fs::create_dir_all(&folder).expect("a folder");
        // A free port of an address of this test's alone.
        let [.., high, low] = pid.to_be_bytes();
        let addr = SocketAddr::from(([127, 33, high, low], 5_353));
        write(&folder, &["10.0.0.1", "10.0.0.2"]);
        let mut command = Command::new(binary("dns"));
        command.args(["--listen", &addr.to_string()]).arg(&folder).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the example starts");
        let lines = BufReader::new(child.stdout.take().expect("its output"));
        let mut server = Self { child, lines, addr, folder };
        server.wait("ready ");
        server
    }

    fn wait(&mut self, start: &str) {
        let mut line = String::new();
        while !line.starts_with(start) {
            line.clear();
            assert!(
                self.lines.read_line(&mut line).expect("a line") > 0,
                "it ended before `{start}`"
            );
        }
    }

    /// The code and the addresses in an answer over UDP.
    fn ask(&self, name: &str) -> (u8, Vec<IpAddr>) {
        let socket = UdpSocket::bind((self.addr.ip(), 0)).expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        socket.send_to(&question(name), self.addr).expect("sent");
        let mut answer = [0; 4_096];
        let (len, _) = socket.recv_from(&mut answer).expect("an answer");
        read(name, &answer[..len])
    }

    fn ask_by_tcp(&self, name: &str) -> (u8, Vec<IpAddr>) {
        let mut stream = TcpStream::connect(self.addr).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let question = question(name);
        let mut answer = Vec::new();
        // Twice over one connection.
        for _ in 0..2 {
            let len = u16::try_from(question.len()).expect("short");
            stream.write_all(&[&len.to_be_bytes(), &*question].concat()).expect("sent");
            let mut len = [0; 2];
            stream.read_exact(&mut len).expect("a length");
            answer = vec![0; u16::from_be_bytes(len).into()];
            stream.read_exact(&mut answer).expect("an answer");
        }
        read(name, &answer)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A headless Service with these endpoints.
fn write(folder: &std::path::Path, ips: &[&str]) {
    let ips: Vec<String> = ips.iter().map(|ip| format!("{{ ip: {ip} }}, ")).collect();
    let ips = ips.concat();
    let text = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{ name: web }}\nspec: {{ clusterIP: None, ports: [{{ port: 80 }}] }}\n---\n\
         apiVersion: v1\nkind: Endpoints\nmetadata: {{ name: web }}\nsubsets: [{{ addresses: [{ips}], ports: [{{ port: 80 }}] }}]\n"
    );
    let temporary = folder.join("writing");
    fs::write(&temporary, text).expect("a file");
    fs::rename(temporary, folder.join("web.yaml")).expect("a file");
}

/// A question for A records.
fn question(name: &str) -> Vec<u8> {
    let name: NameBuf = name.parse().expect("a name");
    [&[7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0], name.as_wire(), &[0, 1, 0, 1]].concat()
}

/// Records whose names are compressed to the question's.
fn read(name: &str, answer: &[u8]) -> (u8, Vec<IpAddr>) {
    assert_eq!(answer[..2], [7, 7]);
    assert_eq!(answer[2] & 0x80, 0x80, "an answer");
    let (count, begin) = (usize::from(answer[7]), question(name).len());
    let records = answer[begin..].chunks(16).take(count);
    let mut ips: Vec<IpAddr> = records
        .map(|record| {
            assert_eq!(record[..4], [0xc0, 12, 0, 1], "an A record of the question's name");
            IpAddr::from(<[u8; 4]>::try_from(&record[12..]).expect("an address"))
        })
        .collect();
    ips.sort();
    (answer[3] & 15, ips)
}

/// It answers over UDP and TCP, whatever else has come in between, and follows the manifests.
#[test]
fn serves_survives_and_follows() {
    let mut server = Server::start();
    let both = ["10.0.0.1", "10.0.0.2"].map(|ip| ip.parse::<IpAddr>().expect("an address"));
    assert_eq!(server.ask(NAME), (0, both.to_vec()));
    assert_eq!(server.ask_by_tcp(NAME), (0, both.to_vec()));
    assert_eq!(server.ask("nobody.default.svc.cluster.local"), (3, vec![]));
    assert_eq!(server.ask("example.com"), (5, vec![]));

    // Questions with each byte changed, cut off anywhere, with more behind, and noise of all lengths.
    let socket = UdpSocket::bind((server.addr.ip(), 0)).expect("a socket");
    let good = question(NAME);
    let mut packets: Vec<Vec<u8>> = (0..=good.len()).map(|len| good[..len].to_vec()).collect();
    for at in 0..good.len() {
        for byte in [0, 1, 63, 64, 128, 192, 255, good[at] ^ 0x20] {
            let mut changed = good.clone();
            changed[at] = byte;
            packets.push([&*changed, &[byte; 11]].concat());
            packets.push(changed);
        }
    }
    let mut state = 1_u32;
    for len in 0..600 {
        let noise = (0..len).map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        });
        packets.push(noise.collect());
    }
    // A name that is a pointer to itself, and an endless one.
    packets.push([&good[..12], &[0xc0, 12, 0, 1, 0, 1]].concat());
    packets.push([&good[..12], &[1, b'a', 0xc0, 12, 0, 1, 0, 1]].concat());
    for (n, packet) in packets.iter().enumerate() {
        socket.send_to(packet, server.addr).expect("sent");
        if n % 50 == 0 {
            assert_eq!(server.ask(NAME).0, 0, "after {packet:?}");
        }
    }
    for packet in packets.iter().step_by(97) {
        let mut stream = TcpStream::connect(server.addr).expect("a connection");
        stream.write_all(packet).expect("sent");
    }
    assert_eq!(server.ask_by_tcp(NAME), (0, both.to_vec()));

    write(&server.folder, &["10.0.0.3"]);
    server.wait("zone ");
    assert_eq!(server.ask(NAME), (0, vec!["10.0.0.3".parse().expect("an address")]));
    assert!(server.child.try_wait().expect("its state").is_none(), "it runs on");
}
