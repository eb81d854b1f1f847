//! The backends: small servers on loopback addresses of their own, that can be killed and started again.
//!
//! A connection begins with a line that says what is wanted, and is answered with a line that names the backend:
//!
//! * `ECHO`: what comes is sent back, until the client ends; then the backend ends.
//! * `TAKE key`: the backend ends at once, and takes what comes. How that ended can be asked for by the key.
//! * `HOLD key`: the same, but the backend does not end before the client.
//! * `RESET`: the backend resets the connection after its name.
//! * `GET /bytes HTTP/1.1`: an answer in HTTP with so many bytes. More requests may follow.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::Context;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

use crate::pattern;

/// How a `TAKE` or a `HOLD` ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// In order, after so many bytes, all of them right.
    Whole(u64),
    /// Cut off.
    Cut,
    /// In order, but with bytes that nobody sent.
    Wrong,
}

/// All backends that were ever started.
pub(crate) struct Backends {
    net: [u8; 3],
    lives: Mutex<HashMap<String, Arc<Life>>>,
    running: Mutex<HashMap<u8, Running>>,
    ends: Arc<Mutex<HashMap<u64, End>>>,
    started: AtomicU64,
}

/// A backend from its start to its death.
pub(crate) struct Life {
    pub(crate) number: u8,
    name: String,
    dead: AtomicBool,
    /// Whether it resets its connections when it dies, rather than ending them in order.
    resets: AtomicBool,
    /// Since when the proxy says that it is no longer listed.
    removed: Mutex<Option<Instant>>,
    pub(crate) accepted: AtomicU64,
}

struct Running {
    life: Arc<Life>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Life {
    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Acquire)
    }

    pub(crate) fn set_removed(&self, removed: bool) {
        *lock(&self.removed) = removed.then(Instant::now);
    }

    /// Whether a connection that began then had to go elsewhere.
    pub(crate) fn was_removed_before(&self, began: Instant) -> bool {
        lock(&self.removed).is_some_and(|removed| removed < began)
    }
}

impl Backends {
    pub(crate) const PORT: u16 = 8000;

    pub(crate) fn new(net: [u8; 3]) -> Self {
        Self {
            net,
            lives: Mutex::default(),
            running: Mutex::default(),
            ends: Arc::default(),
            started: AtomicU64::new(0),
        }
    }

    pub(crate) fn start(&self, number: u8) -> anyhow::Result<Arc<Life>> {
        let [a, b, c] = self.net;
        let addr = SocketAddr::from(([a, b, c, number], Self::PORT));
        let socket = TcpSocket::new_v4()?;
        // What an earlier life left behind is in its last wait.
        socket.set_reuseaddr(true)?;
        socket.bind(addr).with_context(|| format!("backend {number}: {addr}"))?;
        let listener = socket.listen(1024)?;
        let life = Arc::new(Life {
            number,
            name: format!("backend-{number}.{}", self.started.fetch_add(1, Ordering::Relaxed)),
            dead: AtomicBool::new(false),
            resets: AtomicBool::new(false),
            removed: Mutex::default(),
            accepted: AtomicU64::new(0),
        });
        lock(&self.lives).insert(life.name.clone(), Arc::clone(&life));
        let (stop, stopped) = oneshot::channel();
        let task =
            tokio::spawn(serve(listener, Arc::clone(&life), Arc::clone(&self.ends), stopped));
        let running = Running { life: Arc::clone(&life), stop, task };
        lock(&self.running).insert(number, running);
        Ok(life)
    }

    /// Ends a backend and all its connections. Returns when they are closed.
    pub(crate) async fn kill(&self, number: u8, resets: bool) {
        let Some(running) = lock(&self.running).remove(&number) else { return };
        running.life.resets.store(resets, Ordering::Release);
        running.life.dead.store(true, Ordering::Release);
        let _ = running.stop.send(());
        let _ = running.task.await;
    }

    pub(crate) fn named(&self, name: &str) -> Option<Arc<Life>> {
        lock(&self.lives).get(name).cloned()
    }

    /// The life that a number has now.
    pub(crate) fn running(&self, number: u8) -> Option<Arc<Life>> {
        lock(&self.running).get(&number).map(|running| Arc::clone(&running.life))
    }

    pub(crate) fn take_end(&self, key: u64) -> Option<End> {
        lock(&self.ends).remove(&key)
    }
}

async fn serve(
    listener: TcpListener,
    life: Arc<Life>,
    ends: Arc<Mutex<HashMap<u64, End>>>,
    mut stopped: oneshot::Receiver<()>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = &mut stopped => break,
            accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                life.accepted.fetch_add(1, Ordering::Relaxed);
                let connection = Connection { stream: BufReader::new(stream), life: Arc::clone(&life) };
                connections.spawn(connection.answer(Arc::clone(&ends)));
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    connections.shutdown().await;
}

struct Connection {
    stream: BufReader<TcpStream>,
    life: Arc<Life>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.life.resets.load(Ordering::Acquire) {
            let _ = self.stream.get_ref().set_zero_linger();
        }
    }
}

impl Connection {
    async fn answer(mut self, ends: Arc<Mutex<HashMap<u64, End>>>) -> io::Result<()> {
        self.stream.get_ref().set_nodelay(true)?;
        let mut line = String::new();
        for _ in 0..100_000 {
            line.clear();
            if (&mut self.stream).take(1000).read_line(&mut line).await? == 0 {
                return Ok(());
            }
            let greeting = format!("{}\n", self.life.name);
            let mut words = line.split_whitespace();
            let (what, of) = (words.next(), words.next().unwrap_or(""));
            match what {
                Some("GET") => {
                    let length = of.trim_start_matches('/').parse().unwrap_or(0);
                    self.respond(length).await?;
                    continue;
                }
                Some("ECHO") => {
                    self.stream.write_all(greeting.as_bytes()).await?;
                    self.echo().await?;
                }
                Some(what @ ("TAKE" | "HOLD")) => {
                    let key = of.parse().unwrap_or(0);
                    self.stream.write_all(greeting.as_bytes()).await?;
                    if what == "TAKE" {
                        self.stream.shutdown().await?;
                    }
                    let end = self.take().await;
                    lock(&ends).insert(key, end);
                }
                Some("RESET") => {
                    self.stream.write_all(greeting.as_bytes()).await?;
                    // The client says when it has read that.
                    self.stream.read_u8().await?;
                    self.stream.get_ref().set_zero_linger()?;
                }
                _ => self.stream.write_all(b"?\n").await?,
            }
            return Ok(());
        }
        Ok(())
    }

    async fn respond(&mut self, length: u64) -> io::Result<()> {
        let mut line = String::new();
        for _ in 0..100 {
            line.clear();
            (&mut self.stream).take(1000).read_line(&mut line).await?;
            if line.trim_end().is_empty() {
                break;
            }
        }
        let head = format!(
            "HTTP/1.1 200 OK\r\nserver: {}\r\ncontent-length: {length}\r\n\r\n",
            self.life.name
        );
        self.stream.write_all(head.as_bytes()).await?;
        let mut buffer = vec![0; 64 * 1024];
        let mut at = 0;
        while at < length {
            let part =
                usize::try_from(length - at).map_or(buffer.len(), |left| left.min(buffer.len()));
            pattern::fill(&mut buffer[..part], at);
            self.stream.write_all(&buffer[..part]).await?;
            at += part as u64;
        }
        Ok(())
    }

    async fn echo(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let read = self.stream.read(&mut buffer).await?;
            if read == 0 {
                return self.stream.shutdown().await;
            }
            self.stream.write_all(&buffer[..read]).await?;
        }
    }

    async fn take(&mut self) -> End {
        let mut buffer = vec![0; 16 * 1024];
        let (mut at, mut right) = (0, true);
        loop {
            match self.stream.read(&mut buffer).await {
                Ok(0) if right => return End::Whole(at),
                Ok(0) => return End::Wrong,
                Ok(read) => {
                    right &= pattern::is_at(&buffer[..read], at);
                    at += read as u64;
                }
                Err(_) => return End::Cut,
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
