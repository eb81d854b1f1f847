//! A pingora server on loopback, three small backends, and clients that count who answers.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::IntoRawFd;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pingora_core::server::Fds;
use pingora_core::server::configuration::ServerConf;
use pingora_core::services::Service;
use pingora_load_balancing::{Backends, LoadBalancer};
use pingora_proxy::http_proxy_service;
use svcplane::backend::Backend;
use svcplane::sched::Algorithm;
use svcplane_pingora::{Listed, Proxy, Selection, Shared};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

/// Nothing takes as long; it keeps a failure from hanging.
const PATIENCE: Duration = Duration::from_secs(30);

/// A backend that answers with its number, and for `/slow` keeps the end of the answer back.
struct Server {
    addr: SocketAddr,
    ends: Arc<Semaphore>,
}

impl Server {
    async fn start(number: usize) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let ends = Arc::new(Semaphore::new(0));
        let of = Arc::clone(&ends);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, number, Arc::clone(&of)));
            }
        });
        Self { addr, ends }
    }
}

async fn answer(stream: TcpStream, number: usize, ends: Arc<Semaphore>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut lines = BufReader::new(stream).lines();
    let mut slow = false;
    while let Some(line) = lines.next_line().await? {
        slow |= line.starts_with("GET /slow ");
        if line.is_empty() {
            // pingora keeps what has a length back until there is more of it; chunks go on at once.
            let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
            let begun = format!("{head}1\r\n{number}\r\n");
            lines.get_mut().write_all(begun.as_bytes()).await?;
            if std::mem::take(&mut slow) {
                ends.acquire().await.unwrap().forget();
            }
            lines.get_mut().write_all(b"1\r\n.\r\n0\r\n\r\n").await?;
        }
    }
    Ok(())
}

/// The proxy, with three backends.
struct Site {
    addr: SocketAddr,
    servers: Vec<Server>,
    listed: Listed,
    shared: Shared,
    balancer: Arc<LoadBalancer<Selection>>,
    _shutdown: watch::Sender<bool>,
}

impl Site {
    async fn start(algorithm: Algorithm, weights: [u32; 3]) -> Self {
        let mut servers = Vec::new();
        for number in 0..3 {
            servers.push(Server::start(number).await);
        }
        let shared = Shared::new(algorithm, 7);
        let listed = Listed::default();
        let known = Backends::new(Box::new(listed.clone()));
        let balancer = LoadBalancer::from_backends_with_config(known, Some(shared.clone()));
        let balancer = Arc::new(balancer);

        // A port that is free, and stays taken until pingora has it.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let addr = listener.local_addr().unwrap();
        let mut fds = Fds::new();
        fds.add(addr.to_string(), listener.into_raw_fd());
        let mut service =
            http_proxy_service(&Arc::new(ServerConf::default()), Proxy(Arc::clone(&balancer)));
        service.add_tcp(&addr.to_string());
        let (shutdown, watched) = watch::channel(false);
        tokio::spawn(async move {
            service.start_service(Some(Arc::new(Mutex::new(fds))), watched, 1).await;
        });

        let site = Self { addr, servers, listed, shared, balancer, _shutdown: shutdown };
        site.list(&weights).await;
        site
    }

    /// Lists the first so many backends, with these weights.
    async fn list(&self, weights: &[u32]) {
        let backends = self.servers.iter().zip(weights);
        self.listed
            .set(backends.map(|(server, &weight)| Backend::new(server.addr).with_weight(weight)));
        self.balancer.update().await.unwrap();
    }

    /// How many of some requests each backend answers, by number.
    async fn answers(&self, requests: usize) -> Vec<usize> {
        let mut counts = vec![0; 3];
        let mut client = Client::connect(self.addr).await;
        for i in 0..requests {
            // Whether a connection is new does not matter: every request is chosen for.
            if i % 10 == 9 {
                client = Client::connect(self.addr).await;
            }
            client.ask("/").await;
            let number = client.begun().await;
            client.ended().await;
            counts[number] += 1;
        }
        counts
    }

    /// The requests that each backend is busy with, listed or not.
    fn active(&self) -> Vec<u32> {
        let counts: BTreeMap<_, _> = self.shared.balancer().with(|balancer| {
            let all = balancer.iter().chain(balancer.removed());
            all.map(|(_, entry)| (entry.addr(), entry.active() + entry.inactive())).collect()
        });
        self.servers.iter().map(|server| counts.get(&server.addr).copied().unwrap_or(0)).collect()
    }

    /// Waits until what is counted is this: a request ends a moment after its answer.
    async fn settles_at(&self, expected: [u32; 3]) {
        let settled = async {
            while self.active() != expected {
                tokio::task::yield_now().await;
            }
        };
        let settled = timeout(PATIENCE, settled).await;
        assert!(settled.is_ok(), "{:?}, expected {expected:?}", self.active());
    }
}

struct Client {
    stream: BufReader<TcpStream>,
    /// Of the chunk that was begun.
    left: usize,
}

impl Client {
    async fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::new(stream), left: 0 }
    }

    async fn ask(&mut self, path: &str) {
        let request = format!("GET {path} HTTP/1.1\r\nhost: virtual.invalid\r\n\r\n");
        self.stream.write_all(request.as_bytes()).await.unwrap();
    }

    /// The status of the answer, of which the head is read.
    async fn status(&mut self) -> String {
        let head = async {
            let (mut first, mut line) = (String::new(), String::new());
            self.stream.read_line(&mut first).await.unwrap();
            while line != "\r\n" {
                line.clear();
                assert_ne!(self.stream.read_line(&mut line).await.unwrap(), 0, "{first:?}");
            }
            first.split(' ').nth(1).unwrap_or_default().to_owned()
        };
        timeout(PATIENCE, head).await.expect("an answer")
    }

    /// The next byte of the body, which comes in chunks.
    async fn byte(&mut self) -> Option<u8> {
        let next = async {
            while self.left == 0 {
                let mut line = String::new();
                self.stream.read_line(&mut line).await.unwrap();
                self.left = usize::from_str_radix(line.trim_end(), 16).expect("a chunk");
                if self.left == 0 {
                    self.stream.read_line(&mut line).await.unwrap();
                    return None;
                }
            }
            let byte = self.stream.read_u8().await.unwrap();
            self.left -= 1;
            if self.left == 0 {
                self.stream.read_u16().await.unwrap();
            }
            Some(byte)
        };
        timeout(PATIENCE, next).await.expect("a body")
    }

    /// The backend whose answer begins.
    async fn begun(&mut self) -> usize {
        assert_eq!(self.status().await, "200");
        usize::from(self.byte().await.expect("a body") - b'0')
    }

    async fn ended(&mut self) {
        assert_eq!((self.byte().await, self.byte().await), (Some(b'.'), None));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_scheduler_named_decides() {
    let cases = [
        (Algorithm::RoundRobin, [1, 1, 1], [20, 20, 20]),
        (Algorithm::RoundRobin, [1, 5, 1], [20, 20, 20]),
        (Algorithm::WeightedRoundRobin, [1, 2, 3], [10, 20, 30]),
        (Algorithm::WeightedRoundRobin, [0, 1, 1], [0, 30, 30]),
    ];
    for (algorithm, weights, expected) in cases {
        let site = Site::start(algorithm, weights).await;
        assert_eq!(site.answers(60).await, expected, "{algorithm}, weights {weights:?}");
        site.settles_at([0, 0, 0]).await;
    }
    // One client: one backend.
    let site = Site::start(Algorithm::SourceHashing, [1, 1, 1]).await;
    let answers = site.answers(30).await;
    assert!(answers.contains(&30), "{answers:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_count_while_they_last() {
    let site = Site::start(Algorithm::LeastConnection, [1, 1, 1]).await;
    let mut held = Vec::new();
    let mut numbers = Vec::new();
    for _ in 0..2 {
        let mut client = Client::connect(site.addr).await;
        client.ask("/slow").await;
        numbers.push(client.begun().await);
        held.push(client);
    }
    let idle = 3 - numbers.iter().sum::<usize>();
    let mut expected = [1; 3];
    expected[idle] = 0;
    assert_eq!(site.active(), expected);
    let mut counts = vec![0; 3];
    for _ in 0..10 {
        // The one before may still be counted for a moment.
        site.settles_at(expected).await;
        let once = site.answers(1).await;
        counts.iter_mut().zip(once).for_each(|(sum, count)| *sum += count);
    }
    assert_eq!(counts[idle], 10, "{counts:?}");

    // One ends, the other is dropped in the middle.
    site.servers[numbers[0]].ends.add_permits(1);
    held[0].ended().await;
    held.clear();
    site.settles_at([0, 0, 0]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_backend_gets_nothing_new_and_keeps_what_it_has() {
    let site = Site::start(Algorithm::RoundRobin, [1, 1, 1]).await;
    let mut clients = Vec::new();
    let mut numbers = Vec::new();
    for _ in 0..3 {
        let mut client = Client::connect(site.addr).await;
        client.ask("/slow").await;
        numbers.push(client.begun().await);
        clients.push(client);
    }
    assert_eq!(site.active(), [1, 1, 1]);

    site.list(&[1, 1]).await;
    let answers = site.answers(40).await;
    assert_eq!(answers, [20, 20, 0]);
    site.settles_at([1, 1, 1]).await;
    for (client, &number) in clients.iter_mut().zip(&numbers) {
        site.servers[number].ends.add_permits(1);
        client.ended().await;
    }
    site.settles_at([0, 0, 0]).await;

    // On the same connections, too, there is nothing new for it.
    for client in &mut clients {
        client.ask("/").await;
        assert_ne!(client.begun().await, 2);
        client.ended().await;
    }
    site.list(&[1, 1, 1]).await;
    assert_eq!(site.answers(30).await, [10, 10, 10]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cannot_be_reached_is_passed_over() {
    let mut site = Site::start(Algorithm::RoundRobin, [1, 1, 1]).await;
    // Nobody listens there.
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    site.servers[1].addr = dead;
    site.list(&[1, 1, 1]).await;
    let answers = site.answers(30).await;
    assert_eq!((answers[0] + answers[2], answers[1]), (30, 0), "{answers:?}");
    site.settles_at([0, 0, 0]).await;

    site.list(&[]).await;
    let mut client = Client::connect(site.addr).await;
    client.ask("/").await;
    assert_eq!(client.status().await, "503");
}
