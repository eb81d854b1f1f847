//! The proxy example as a user runs it: a process, manifests in a folder, sockets on loopback.

#![cfg(all(feature = "serde", unix))]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use crate::example::binary;

/// Nothing is expected to take as long; it keeps a failure from hanging.
const PATIENCE: Duration = Duration::from_secs(30);

/// A folder of manifests and a part of loopback, both of this test alone.
struct Place {
    folder: PathBuf,
    net: [u8; 2],
}

impl Place {
    fn new(test: u8) -> Self {
        let pid = std::process::id();
        let folder = std::env::temp_dir().join(format!("svcplane-proxy-{pid}-{test}"));
        fs::create_dir_all(&folder).expect("a folder");
        let [.., low] = pid.to_be_bytes();
        Self { folder, net: [128 + test, low] }
    }

    fn ip(&self, third: u8, last: u8) -> IpAddr {
        IpAddr::from([127, self.net[0] % 128 + 64, self.net[1], third.wrapping_add(last)])
    }

    fn pod_ip(&self, n: u8) -> IpAddr {
        self.ip(0, n)
    }

    /// An address in the upper half of the range, which is for Services.
    fn service_ip(&self, n: u8) -> IpAddr {
        self.ip(128, n)
    }

    fn range(&self) -> String {
        format!("{}/25", self.service_ip(0))
    }

    fn write(&self, file: &str, text: &str) {
        // As an editor does: the file is there whole or not at all.
        let temporary = self.folder.join("writing");
        fs::write(&temporary, text).expect("a file");
        fs::rename(temporary, self.folder.join(file)).expect("a file");
    }

    fn service(&self, name: &str, n: u8, more: &str) -> String {
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{ name: {name} }}\nspec:\n  clusterIP: {}\n{more}",
            self.service_ip(n)
        )
    }

    fn pods(&self, which: &[u8]) -> String {
        let mut text = String::new();
        for &n in which {
            let _ = write!(
                text,
                "---\napiVersion: v1\nkind: Pod\nmetadata: {{ name: pod-{n}, labels: {{ app: web }} }}\n\
                 spec: {{ containers: [{{ name: c, ports: [{{ name: dns, containerPort: 5353, protocol: UDP }}] }}] }}\n\
                 status: {{ phase: Running, podIP: {}, conditions: [{{ type: Ready, status: \"True\" }}] }}\n",
                self.pod_ip(n)
            );
        }
        text
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

struct Proxy {
    child: Child,
    lines: Receiver<String>,
}

impl Proxy {
    fn start(place: &Place, arguments: &[&str]) -> Self {
        let mut command = Command::new(binary("proxy"));
        command
            .args(["-v", "--cluster-ip-range", &place.range()])
            .args(arguments)
            .arg(&place.folder);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the proxy starts");
        let (sender, lines) = channel();
        let streams: [Box<dyn Read + Send>; 2] = [
            Box::new(child.stdout.take().expect("piped")),
            Box::new(child.stderr.take().expect("piped")),
        ];
        for stream in streams {
            let sender = sender.clone();
            thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    if sender.send(line).is_err() {
                        return;
                    }
                }
            });
        }
        Self { child, lines }
    }

    /// Reads its output up to a line that holds the text.
    fn until(&self, text: &str) -> Vec<String> {
        let mut seen = Vec::new();
        loop {
            let line = self.lines.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("no {text:?} in:\n{}", seen.join("\n")));
            let found = line.contains(text);
            seen.push(line);
            if found {
                return seen;
            }
        }
    }

    fn interrupt(&self) {
        self.signal("-INT");
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args([name, &id]).status().expect("kill runs");
        assert!(sent.success());
    }

    fn end(&mut self) -> ExitStatus {
        self.child.wait().expect("the proxy ends")
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A connection that asks again and again.
struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&addr, PATIENCE).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Self(BufReader::new(stream))
    }

    /// The name of the pod that answers; `None` if the connection is gone.
    fn ask(&mut self) -> Option<String> {
        self.0.get_mut().write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").ok()?;
        let mut line = String::new();
        while line.trim_end() != "" || line.is_empty() {
            line.clear();
            if self.0.read_line(&mut line).ok()? == 0 {
                return None;
            }
        }
        line.clear();
        self.0.read_line(&mut line).ok()?;
        Some(line.trim_end().to_owned())
    }
}

fn ask(addr: SocketAddr) -> Option<String> {
    Client::connect(addr).ask()
}

const WEB: &str = "  selector: { app: web }\n  ports: [{ port: 8080, targetPort: 8000 }]\n";
const STICKY: &str = "  sessionAffinity: ClientIP\n";
const DNS: &str =
    "  selector: { app: web }\n  ports: [{ port: 5300, protocol: UDP, targetPort: dns }]\n";

#[test]
fn the_main_job() {
    let place = Place::new(1);
    let services = format!(
        "{}{}{STICKY}{}",
        place.service("web", 10, WEB),
        place.service("sticky", 11, WEB),
        place.service("dns", 12, DNS)
    );
    place.write("services.yaml", &services);
    place.write("pods.yaml", &place.pods(&[1, 2, 3]));
    let mut proxy = Proxy::start(&place, &["--demo"]);
    proxy.until("ready; ");
    let web = SocketAddr::new(place.service_ip(10), 8080);
    let sticky = SocketAddr::new(place.service_ip(11), 8080);

    // In turn; always the same; UDP likewise.
    let reached: Vec<String> = (0..6).filter_map(|_| ask(web)).collect();
    assert_eq!(reached.len(), 6);
    assert_eq!(reached.iter().collect::<BTreeSet<_>>().len(), 3, "{reached:?}");
    assert_eq!(reached[..3], reached[3..], "{reached:?}");
    let home = ask(sticky).expect("an answer");
    assert!((0..5).all(|_| ask(sticky).as_ref() == Some(&home)));
    let socket = UdpSocket::bind((place.pod_ip(99), 0)).expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    socket.connect((place.service_ip(12), 5300)).expect("an address");
    let datagram = || {
        let mut buffer = [0; 100];
        socket.send(b"?").expect("sent");
        let length = socket.recv(&mut buffer).expect("an answer");
        String::from_utf8_lossy(&buffer[..length]).trim_end().to_owned()
    };
    let udp_home = datagram();
    assert!(udp_home.starts_with("pod-"), "{udp_home}");

    // The pod of the sticky client goes; so does the UDP client's, if it is another.
    let mut open: Vec<(String, Client)> = Vec::new();
    for _ in 0..3 {
        let mut client = Client::connect(web);
        open.push((client.ask().expect("an answer"), client));
    }
    let number = |name: &str| name["pod-".len()..].parse::<u8>().expect("a number");
    let keep: Vec<u8> = (1..=3).filter(|n| *n != number(&home)).collect();
    place.write("pods.yaml", &place.pods(&keep));
    proxy.until("reloaded");
    proxy.until("demo backends");
    let moved = ask(sticky).expect("another pod");
    assert_ne!(moved, home);
    assert!((0..3).all(|_| ask(sticky).as_ref() == Some(&moved)));
    assert!((0..4).all(|_| ask(web).is_some_and(|pod| pod != home)));
    assert_ne!(datagram(), home);
    for (pod, client) in &mut open {
        let expected = (*pod != home).then(|| pod.clone());
        assert_eq!(client.ask(), expected, "the open connection to {pod}");
    }

    // A bad file changes nothing.
    place.write("pods.yaml", "apiVersion: v1\nkind: Pod\nmetadata: [\n");
    let complaint = proxy.until("not reloaded").join("\n");
    assert!(complaint.contains("pods.yaml: document 1 (line 4): not YAML"), "{complaint}");
    assert_eq!(ask(sticky), Some(moved));

    // Ctrl-C: nothing new, the open connections go on until they end.
    drop(open.pop());
    let before = open.iter().filter(|(pod, _)| *pod != home).count();
    assert!(before > 0);
    proxy.interrupt();
    proxy.until("draining");
    assert!(TcpStream::connect_timeout(&web, PATIENCE).is_err(), "no new connections");
    for (pod, client) in &mut open {
        assert_eq!(client.ask().is_some(), *pod != home, "the draining connection to {pod}");
    }
    drop(open);
    assert!(proxy.end().success());
}

/// By annotation, else the default; changed while connections are open, which stay counted.
#[test]
fn schedulers_and_counts() {
    let place = Place::new(10);
    let annotated = |scheduler: &str| {
        let name = format!("web, annotations: {{ svcplane/scheduler: {scheduler} }}");
        place.service(&name, 10, WEB)
    };
    place.write("pods.yaml", &place.pods(&[1, 2]));
    place.write("services.yaml", &annotated("lc"));
    let proxy = Proxy::start(&place, &["--demo", "--scheduler", "mh"]);
    proxy.until("ready; ");
    let web = SocketAddr::new(place.service_ip(10), 8080);
    let mut open = [Client::connect(web), Client::connect(web)];
    let reached: BTreeSet<String> = open.iter_mut().filter_map(Client::ask).collect();
    assert_eq!(reached.len(), 2, "each the least connected");
    let counts = || {
        [(); 2].map(|()| {
            let line = proxy.until("default/web ").pop().expect("a line");
            let [_, scheduler, _, weight, active, inactive] =
                line.split_whitespace().collect::<Vec<_>>()[..]
            else {
                panic!("{line}")
            };
            format!("{scheduler} {weight} {active} {inactive}")
        })
    };
    proxy.signal("-USR1");
    assert_eq!(counts(), ["lc 1 1 0"; 2]);

    place.write("services.yaml", &annotated("nearest"));
    let mut seen = proxy.until("unknown scheduling algorithm");
    let warning = seen.pop().unwrap_or_default();
    assert!(warning.contains("default/web: ") && warning.contains("\"nearest\""), "{warning}");
    // That is from standard error and this from standard output: either may be read first.
    if !seen.iter().any(|line| line.contains("demo backends")) {
        proxy.until("demo backends");
    }
    assert!(open.iter_mut().all(|client| client.ask().is_some()));
    proxy.signal("-USR1");
    assert_eq!(counts(), ["mh 1 1 0"; 2]);
}

/// A pod that is there is there, whether or not a Service selects it: what is open to it stays open.
#[test]
fn connections_outlive_the_service() {
    let place = Place::new(6);
    place.write("pods.yaml", &place.pods(&[1]));
    place.write("services.yaml", &place.service("web", 10, WEB));
    let proxy = Proxy::start(&place, &["--demo"]);
    proxy.until("ready; ");
    let web = SocketAddr::new(place.service_ip(10), 8080);
    let mut client = Client::connect(web);
    assert_eq!(client.ask().as_deref(), Some("pod-1"));
    place.write("services.yaml", &place.service("other", 11, WEB).replace("app: web", "app: none"));
    proxy.until("reloaded");
    proxy.until("demo backends");
    assert!(TcpStream::connect_timeout(&web, PATIENCE).is_err(), "the Service is gone");
    assert_eq!(client.ask().as_deref(), Some("pod-1"));
}

#[test]
fn another_backend_is_tried_and_none_is_a_refusal() {
    let place = Place::new(2);
    let manual = format!(
        "{}---\napiVersion: v1\nkind: Endpoints\nmetadata: {{ name: manual }}\nsubsets:\n\
         - {{ addresses: [{{ ip: 1.2.3.4 }}], ports: [{{ port: 9376 }}] }}\n",
        place
            .service("manual", 21, "  ports: [{ port: 80, targetPort: 9376 }]\n  externalIPs: []\n")
            .replace("port: 80,", "port: 8081,")
    );
    place.write(
        "all.yaml",
        &format!("{}{manual}{}", place.service("web", 20, WEB), place.pods(&[1, 2])),
    );
    // Pod 1 is this listener; nothing listens for pod 2.
    let backend = TcpListener::bind((place.pod_ip(1), 8000)).expect("a socket");
    thread::spawn(move || {
        for stream in backend.incoming().flatten() {
            let _ = (&stream).write_all(b"here\n");
        }
    });
    let mut proxy = Proxy::start(&place, &[]);
    let table = proxy.until("ready; ").join("\n");
    assert!(table.contains("1.2.3.4:9376"), "{table}");
    let web = SocketAddr::new(place.service_ip(20), 8080);
    for _ in 0..4 {
        let mut text = String::new();
        let stream = TcpStream::connect_timeout(&web, PATIENCE).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        BufReader::new(stream).read_line(&mut text).expect("an answer");
        assert_eq!(text, "here\n");
    }
    let report = proxy.until(" after ").join("\n");
    assert!(report.contains(&place.pod_ip(2).to_string()), "{report}");
    proxy.interrupt();
    assert!(proxy.end().success());

    // The demo dials loopback only, and says at once that the rest cannot be reached.
    let proxy = Proxy::start(&place, &["--demo"]);
    proxy.until("ready; ");
    let manual = SocketAddr::new(place.service_ip(21), 8081);
    // The reset may come before or after the client has seen the connection made.
    let answer =
        TcpStream::connect_timeout(&manual, PATIENCE).map(|stream| (&stream).read(&mut [0]));
    assert!(!matches!(answer, Ok(Ok(1..))), "{answer:?}");
    let report = proxy.until("refused").join("\n");
    assert!(report.contains("1.2.3.4:9376: host unreachable"), "{report}");
}

/// EndpointSlices are joined with each other; those that a cluster made from the same pods say nothing new, and
/// what stands back for something better is told.
#[test]
fn slices_are_backends() {
    let place = Place::new(9);
    let slice = |name: &str, more: &str, endpoints: &str| {
        format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\n\
             metadata: {{ name: {name}, labels: {{ kubernetes.io/service-name: web{more} }} }}\n\
             ports: [{{ port: 8000 }}]\nendpoints: {endpoints}\n"
        )
    };
    let made = ", endpointslice.kubernetes.io/managed-by: endpointslice-controller.k8s.io";
    let texts = [
        place.service("web", 10, WEB),
        place.pods(&[1]),
        slice("made", made, "[{ addresses: [1.2.3.4] }]"),
        slice("more", "", "[{ addresses: [1.2.3.5] }]"),
        slice("again", "", "[{ addresses: [1.2.3.5] }, { addresses: [1.2.3.6] }]"),
    ];
    place.write("all.yaml", &texts.concat());
    let proxy = Proxy::start(&place, &[]);
    let told = proxy.until("ready; ").join("\n");
    let pod = place.pod_ip(1);
    assert!(told.contains(&format!("1.2.3.5:8000,1.2.3.6:8000,{pod}:8000")), "{told}");
    assert!(!told.contains("1.2.3.4"), "{told}");
    let hidden = "default/web: 1.2.3.5:8000/TCP: the address of EndpointSlice default/again hides \
                  the address of EndpointSlice default/more";
    assert!(told.contains(hidden), "{told}");
}

/// What the backend cuts off must not look whole to the client.
#[test]
fn a_reset_is_passed_on() {
    let place = Place::new(7);
    place.write("all.yaml", &format!("{}{}", place.service("web", 10, WEB), place.pods(&[1])));
    let backend = TcpListener::bind((place.pod_ip(1), 8000)).expect("a socket");
    thread::spawn(move || {
        for stream in backend.incoming().flatten() {
            // Closed with something unread, a socket is reset.
            let _ = stream.peek(&mut [0]);
            let _ = (&stream).write_all(b"half of it");
        }
    });
    let proxy = Proxy::start(&place, &[]);
    proxy.until("ready; ");
    let web = SocketAddr::new(place.service_ip(10), 8080);
    let mut stream = TcpStream::connect_timeout(&web, PATIENCE).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.write_all(b"?").expect("sent");
    let end = stream.read_to_end(&mut Vec::new()).map_err(|error| error.kind());
    assert_eq!(end, Err(std::io::ErrorKind::ConnectionReset));
}

/// Byte order mark, directives, documents on the marker's line, JSON, merge keys, lists with and without kinds.
#[test]
fn manifests_of_every_form() {
    let place = Place::new(8);
    let text = "\u{feff}# a comment alone is no document
---
apiVersion: v1
kind: Service
metadata: { name: marked }
spec: { ports: [{ port: 8080 }] }
---
# nor is this
---
%YAML 1.2
--- { apiVersion: v1, kind: Service, metadata: { name: inline }, spec: { ports: [{ port: 8080 }] } }
---
base: &base { port: 8080, protocol: UDP }
apiVersion: v1
kind: Service
metadata: { name: merged }
spec: { ports: [{ <<: *base, name: dns }] }
---
{ \"apiVersion\": \"v1\", \"kind\": \"ServiceList\", \"items\": [
  { \"metadata\": { \"name\": \"listed\" }, \"spec\": { \"ports\": [{ \"port\": 8080 }] } } ] }
";
    place.write("all.yaml", text);
    let proxy = Proxy::start(&place, &["--demo"]);
    let table = proxy.until("ready; ");
    let row = |name: &str| {
        let named = |line: &&String| line.split_whitespace().nth(1) == Some(name);
        table.iter().find(named).unwrap_or_else(|| panic!("no {name} in {table:#?}"))
    };
    for name in ["marked", "inline", "listed"] {
        assert!(row(name).contains("8080/TCP"), "{name}");
    }
    assert!(row("merged").contains("8080/UDP"));
    drop(proxy);

    place.write("all.yaml", &format!("{text}---\nkind: [\n---\napiVersion: v1\nkind: Servce\n"));
    let errors = fails(&place);
    let last = text.lines().count();
    assert_eq!(errors.len(), 2, "{errors:#?}");
    assert!(
        errors[0].contains(&format!("document 5 (line {}): not YAML", last + 3)),
        "{errors:#?}"
    );
    assert!(errors[1].contains(&format!("document 6 (line {}): Servce", last + 4)), "{errors:#?}");
}

/// Addresses that nothing asks for are given out, and stay across a reload that adds a Service before the others;
/// until another Service asks for one of them.
#[test]
fn given_addresses_stay() {
    let place = Place::new(3);
    let service = |name: &str| {
        format!("---\napiVersion: v1\nkind: Service\nmetadata: {{ name: {name} }}\nspec:\n{WEB}")
    };
    place.write("all.yaml", &format!("{}{}", service("m"), service("o")));
    let proxy = Proxy::start(&place, &["--demo"]);
    let given = |lines: &[String], name: &str| {
        let row = lines.iter().find(|line| line.split_whitespace().nth(1) == Some(name));
        row.and_then(|row| row.split_whitespace().nth(3)).expect("a row").to_owned()
    };
    let before = proxy.until("ready; ");
    place.write("all.yaml", &format!("{}{}{}", service("a"), service("m"), service("o")));
    proxy.until("reloaded");
    let after = proxy.until("demo backends");
    for name in ["m", "o"] {
        assert_eq!(given(&after, name), given(&before, name), "{name}");
    }
    assert_ne!(given(&after, "a"), given(&after, "m"));

    let wanted = given(&after, "m");
    let b = service("b").replace("spec:\n", &format!("spec:\n  clusterIP: {wanted}\n"));
    place.write("all.yaml", &format!("{}{b}{}", service("m"), service("o")));
    proxy.until("reloaded");
    let last = proxy.until("demo backends");
    assert_eq!(given(&last, "b"), wanted);
    assert_ne!(given(&last, "m"), wanted);
    assert_eq!(given(&last, "o"), given(&after, "o"));
}

fn fails(place: &Place) -> Vec<String> {
    let mut command = Command::new(binary("proxy"));
    command.args(["--cluster-ip-range", &place.range()]).arg(&place.folder);
    let output = command.output().expect("the proxy runs");
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).expect("UTF-8").lines().map(str::to_owned).collect()
}

#[test]
fn every_mistake_is_named() {
    let place = Place::new(4);
    let services = "apiVersion: v1
kind: Service
metadata: { name: good }
spec: { ports: [{ port: 80 }] }
---
apiVersion: v1
kind: Service
metadata: { name: bad }
spec:
  type: Clusterip
  ports:
    - { port: eighty }
    - { name: b, port: 70000 }
---
apiVersion: v1
kind: List
items:
  - apiVersion: v1
    kind: Pod
    metadata: { name: Pod_1 }
    status: { podIP: 10.0.0.256 }
";
    place.write("services.yaml", services);
    let file = place.folder.join("services.yaml").display().to_string();
    let bad = format!("error: {file}: document 2 (line 6): Service default/bad");
    let pod = format!("error: {file}: document 3 (line 15): Pod default/Pod_1");
    let errors = fails(&place);
    for expected in [
        format!("{bad}: spec.ports[0].port: "),
        format!("{bad}: spec.type: unsupported value \"Clusterip\": expected ClusterIP"),
        format!("{bad}: spec.ports[0].name: required value"),
        format!("{bad}: spec.ports[1].port: invalid value 70000: expected 1 to 65535"),
        format!("{pod}: metadata.name: invalid value \"Pod_1\": expected "),
        format!("{pod}: status.podIPs[0].ip: invalid value \"10.0.0.256\": expected "),
    ] {
        assert!(
            errors.iter().any(|line| line.starts_with(&expected)),
            "no {expected:?} in {errors:#?}"
        );
    }
    assert_eq!(errors.len(), 6, "{errors:#?}");
}

#[test]
fn conflicts_and_ranges_name_what_to_change() {
    let place = Place::new(5);
    let text = format!(
        "{}{}{}---\napiVersion: v1\nkind: Service\nmetadata: {{ name: far }}\nspec:\n  clusterIP: 10.96.0.1\n{WEB}",
        place.service("one", 30, WEB),
        place.service("two", 30, WEB),
        place.service("two", 31, WEB),
    );
    place.write("all.yaml", &text);
    let errors = fails(&place);
    let duplicate = errors.iter().find(|line| line.contains("metadata.name: duplicate of "));
    assert!(duplicate.is_some_and(|line| line.contains("document 2 ")), "{errors:#?}");

    place.write("all.yaml", &text.replacen("name: two", "name: three", 1));
    let errors = fails(&place);
    assert!(
        errors.iter().any(|line| line.contains("Service default/three: spec.clusterIPs[0]: ")
            && line.contains("allocated to default/one")),
        "{errors:#?}"
    );
    assert!(
        errors.iter().any(|line| line.contains("Service default/far: spec.clusterIPs[0]: ")
            && line.contains("--cluster-ip-range")),
        "{errors:#?}"
    );
    assert_eq!(errors.len(), 2, "{errors:#?}");
}
