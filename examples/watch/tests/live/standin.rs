//! A stand-in for the API server: lists and watches as it does, over HTTP on loopback, and what goes wrong on the way.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};

pub(crate) const SERVICES: &str = "services";
pub(crate) const SLICES: &str = "endpointslices";
pub(crate) const NODES: &str = "nodes";

/// What a request asked for.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) plural: String,
    pub(crate) query: BTreeMap<String, String>,
}

impl Request {
    pub(crate) fn is_watch(&self) -> bool {
        self.query.get("watch").is_some_and(|watch| watch == "true")
    }

    pub(crate) fn version(&self) -> Option<&str> {
        self.query.get("resourceVersion").map(String::as_str)
    }
}

/// What is answered instead of the right answer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    /// A Status, as the API server's.
    Status(u16, &'static str),
    /// A page of something in between.
    Page(u16, &'static str),
    /// Nothing at all.
    HangUp,
}

#[derive(Debug)]
enum Sent {
    Line(String),
    /// The beginning of a line, and then no more.
    Cut(String),
}

#[derive(Debug, Default)]
struct Resource {
    objects: BTreeMap<String, Value>,
    history: Vec<(u64, String)>,
    /// The last version that is forgotten.
    compacted: u64,
    watches: Vec<mpsc::UnboundedSender<Sent>>,
    list_answers: VecDeque<Answer>,
    watch_answers: VecDeque<Answer>,
    /// Lists are answered only when it is told.
    held: Option<Arc<Notify>>,
}

/// What is in the server.
#[derive(Debug, Default)]
pub(crate) struct Store {
    version: u64,
    uids: u64,
    /// How many objects there are on a page at most.
    pub(crate) page: usize,
    resources: BTreeMap<&'static str, Resource>,
    pub(crate) requests: Vec<Request>,
}

#[derive(Clone)]
pub(crate) struct StandIn {
    store: Arc<Mutex<Store>>,
    changed: Arc<Notify>,
    pub(crate) url: String,
}

impl StandIn {
    /// Tells of each request.
    pub(crate) async fn start(changed: Arc<Notify>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut store = Store { page: usize::MAX, version: 1000, ..Store::default() };
        for plural in [SERVICES, SLICES, NODES] {
            store.resources.insert(plural, Resource::default());
        }
        let server = Self { store: Arc::new(Mutex::new(store)), changed, url };
        let accepting = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = accepting.clone();
                // Who hangs up has no answer.
                tokio::spawn(async move { drop(server.serve(stream).await) });
            }
        });
        server
    }

    /// No request is answered while this is held.
    pub(crate) fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap()
    }

    async fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        let head = String::from_utf8_lossy(&head);
        let target = head.split(' ').nth(1).unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let plural = path.rsplit('/').next().unwrap_or_default().to_owned();
        let paths = ["/api/v1/services", "/apis/discovery.k8s.io/v1/endpointslices"];
        assert!(paths.contains(&path) || path == "/api/v1/nodes", "{target}");
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let query = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let request = Request { plural, query };
        self.store().requests.push(request.clone());
        self.changed.notify_one();
        if request.is_watch() {
            self.watch(stream, &request).await
        } else {
            let wait = self.store().of(&request.plural).held.clone();
            if let Some(wait) = wait {
                wait.notified().await;
            }
            let answer = self.store().list(&request);
            stream.write_all(answer.as_bytes()).await
        }
    }

    async fn watch(&self, mut stream: TcpStream, request: &Request) -> std::io::Result<()> {
        let watching = self.store().watch(request);
        let mut lines = match watching {
            Ok(lines) => lines,
            Err(answer) => {
                return stream.write_all(answer.as_bytes()).await;
            }
        };
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
        stream.write_all(head.as_bytes()).await?;
        loop {
            let sent = tokio::select! {
                sent = lines.recv() => sent,
                // Nothing more is asked: the client has hung up.
                _ = stream.read_u8() => {
                    drop(lines);
                    self.changed.notify_one();
                    return Ok(());
                }
            };
            match sent {
                Some(Sent::Line(line)) => {
                    let chunk = format!("{:x}\r\n{line}\n\r\n", line.len() + 1);
                    stream.write_all(chunk.as_bytes()).await?;
                }
                Some(Sent::Cut(line)) => {
                    let chunk = format!("{:x}\r\n{}", line.len() + 1, &line[..line.len() / 2]);
                    return stream.write_all(chunk.as_bytes()).await;
                }
                None => break,
            }
        }
        stream.write_all(b"0\r\n\r\n").await
    }
}

impl Store {
    /// Writes an object, and tells who watches.
    pub(crate) fn put(&mut self, plural: &'static str, object: Value) -> String {
        let line = self.write(plural, object);
        self.send(plural, &line);
        line
    }

    /// Writes an object; the answer is the line that those who watch are to have.
    pub(crate) fn write(&mut self, plural: &'static str, mut object: Value) -> String {
        self.version += 1;
        let name = called(&object);
        let version = self.version;
        let known =
            self.of(plural).objects.get(&name).map(|known| known["metadata"]["uid"].clone());
        let kind = if known.is_some() { "MODIFIED" } else { "ADDED" };
        let uid = known.unwrap_or_else(|| {
            self.uids += 1;
            json!(format!("2f3a1c5e-0d6b-4a86-9c1b-{:012x}", self.uids))
        });
        object["metadata"]["uid"] = uid;
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        let line = json!({"type": kind, "object": object}).to_string();
        let resource = self.of(plural);
        resource.objects.insert(name, object);
        resource.history.push((version, line.clone()));
        line
    }

    /// Deletes an object, and tells who watches.
    pub(crate) fn delete(&mut self, plural: &'static str, name: &str) -> String {
        self.version += 1;
        let version = self.version;
        let resource = self.of(plural);
        let mut object = resource.objects.remove(name).expect("there is one to delete");
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        let line = json!({"type": "DELETED", "object": object}).to_string();
        resource.history.push((version, line.clone()));
        self.send(plural, &line);
        line
    }

    /// Tells who watches how far they are.
    pub(crate) fn bookmark(&mut self, plural: &'static str) -> u64 {
        self.version += 1;
        let version = self.version;
        let kind = if plural == SLICES { "EndpointSlice" } else { "Service" };
        let metadata = json!({"resourceVersion": version.to_string(), "creationTimestamp": null});
        let object = json!({"kind": kind, "apiVersion": "v1", "metadata": metadata, "spec": {}});
        self.send(plural, &json!({"type": "BOOKMARK", "object": object}).to_string());
        version
    }

    /// Sends a line to who watches, whatever it is.
    pub(crate) fn send(&mut self, plural: &str, line: &str) {
        self.of(plural).watches.retain(|watch| watch.send(Sent::Line(line.to_owned())).is_ok());
    }

    /// Sends the first half of a line to who watches, and cuts the connection.
    pub(crate) fn cut(&mut self, plural: &str, line: &str) {
        for watch in self.of(plural).watches.drain(..) {
            drop(watch.send(Sent::Cut(line.to_owned())));
        }
    }

    /// Ends watches as they end when their time is over.
    pub(crate) fn end(&mut self, plural: &str) {
        self.of(plural).watches.clear();
    }

    /// Forgets what was.
    pub(crate) fn compact(&mut self, plural: &str) {
        let version = self.version;
        let resource = self.of(plural);
        resource.history.clear();
        resource.compacted = version;
    }

    /// Tells who watches that what they have seen is too long ago.
    pub(crate) fn expire(&mut self, plural: &str) {
        self.send(plural, &gone());
        self.end(plural);
        self.compact(plural);
    }

    pub(crate) fn answer_lists(&mut self, plural: &str, answers: &[Answer]) {
        self.of(plural).list_answers.extend(answers);
    }

    pub(crate) fn answer_watches(&mut self, plural: &str, answers: &[Answer]) {
        self.of(plural).watch_answers.extend(answers);
    }

    /// Has lists wait, each page for one notice.
    pub(crate) fn hold(&mut self, plural: &str) -> Arc<Notify> {
        self.of(plural).held.insert(Arc::default()).clone()
    }

    pub(crate) fn release(&mut self, plural: &str) {
        self.of(plural).held.take().expect("it is held").notify_one();
    }

    pub(crate) fn objects(&self, plural: &str) -> impl Iterator<Item = &Value> {
        self.resources[plural].objects.values()
    }

    pub(crate) fn watchers(&self, plural: &str) -> usize {
        self.resources[plural].watches.iter().filter(|watch| !watch.is_closed()).count()
    }

    pub(crate) fn requests(&self, plural: &str) -> impl Iterator<Item = &Request> {
        self.requests.iter().filter(move |request| request.plural == plural)
    }

    fn of(&mut self, plural: &str) -> &mut Resource {
        self.resources.get_mut(plural).expect("a kind that is watched")
    }

    fn list(&mut self, request: &Request) -> String {
        let (page, version) = (self.page, self.version.to_string());
        let resource = self.of(&request.plural);
        if let Some(answer) = resource.list_answers.pop_front() {
            return answer.text();
        }
        let only = request.query.get("fieldSelector").map(|selector| {
            selector.strip_prefix("metadata.name%3D").expect("a name is asked for").to_owned()
        });
        let skip: usize = request.query.get("continue").map_or(0, |token| token.parse().unwrap());
        let chosen = resource.objects.values();
        let chosen: Vec<&Value> = chosen
            .filter(|object| only.as_deref().is_none_or(|only| object["metadata"]["name"] == only))
            .collect();
        let limit: usize = request.query["limit"].parse().unwrap();
        let items: Vec<&Value> = chosen.iter().copied().skip(skip).take(page.min(limit)).collect();
        let mut metadata = json!({"resourceVersion": version});
        if skip + items.len() < chosen.len() {
            metadata["continue"] = json!((skip + items.len()).to_string());
            metadata["remainingItemCount"] = json!(chosen.len() - skip - items.len());
        }
        let kind = match request.plural.as_str() {
            SERVICES => ("v1", "ServiceList"),
            SLICES => ("discovery.k8s.io/v1", "EndpointSliceList"),
            _ => ("v1", "NodeList"),
        };
        let list =
            json!({"kind": kind.1, "apiVersion": kind.0, "metadata": metadata, "items": items});
        http(200, &list.to_string())
    }

    fn watch(&mut self, request: &Request) -> Result<mpsc::UnboundedReceiver<Sent>, String> {
        let resource = self.of(&request.plural);
        if let Some(answer) = resource.watch_answers.pop_front() {
            return Err(answer.text());
        }
        assert_eq!(request.query["allowWatchBookmarks"], "true");
        let from: u64 = request.version().unwrap().parse().unwrap();
        let (lines, received) = mpsc::unbounded_channel();
        if from < resource.compacted {
            lines.send(Sent::Line(gone())).unwrap();
            return Ok(received);
        }
        for (version, line) in &resource.history {
            if *version > from {
                lines.send(Sent::Line(line.clone())).unwrap();
            }
        }
        resource.watches.push(lines);
        Ok(received)
    }
}

impl Answer {
    fn text(self) -> String {
        match self {
            Self::Status(code, message) => http(code, &status(code, message).to_string()),
            Self::Page(code, page) => http(code, page),
            Self::HangUp => String::new(),
        }
    }
}

/// The event that ends a watch which has fallen behind.
fn gone() -> String {
    let object = status(410, "too old resource version: 1001 (1042)");
    json!({"type": "ERROR", "object": object}).to_string()
}

fn status(code: u16, message: &str) -> Value {
    let reason = match code {
        403 => "Forbidden",
        410 => "Expired",
        _ => "InternalError",
    };
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code})
}

fn http(code: u16, body: &str) -> String {
    let mut answer = format!("HTTP/1.1 {code} Said\r\nContent-Type: application/json\r\n");
    write!(answer, "Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len()).unwrap();
    answer
}

/// `namespace/name`, or the name alone.
fn called(object: &Value) -> String {
    let metadata = &object["metadata"];
    let name = metadata["name"].as_str().unwrap_or("?");
    match metadata["namespace"].as_str() {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name.to_owned(),
    }
}
