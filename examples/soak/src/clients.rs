//! The clients: those that hold a connection, those that come and go, and the odd ones.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::World;
use crate::backends::Life;
use crate::pattern;

/// Nothing takes as long, with all clients at once on two cores.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A connection through the proxy, and the backend that answered.
pub(crate) struct Connection {
    pub(crate) stream: BufReader<TcpStream>,
    pub(crate) life: Arc<Life>,
}

/// Connects and says what is wanted. `None` if nothing answered; that is a loss unless it is excused.
pub(crate) async fn connect(world: &World, addr: SocketAddr, want: &str) -> Option<Connection> {
    connect_from(world, TcpSocket::new_v4(), addr, want).await
}

/// The same with a socket that was set up before.
pub(crate) async fn connect_from(
    world: &World,
    socket: io::Result<TcpSocket>,
    addr: SocketAddr,
    want: &str,
) -> Option<Connection> {
    let (mark, began) = (world.excuses.mark(), Instant::now());
    let first = async {
        let socket = socket?;
        let mut stream = BufReader::new(socket.connect(addr).await?);
        stream.get_ref().set_nodelay(true)?;
        stream.write_all(format!("{want}\n").as_bytes()).await?;
        let name = name(&mut stream).await?;
        Ok::<_, io::Error>((stream, name))
    };
    let why = match timeout(PATIENCE, first).await {
        Ok(Ok((stream, name))) => {
            let Some(life) = world.backends.named(&name) else {
                world.figures.lost(format!("{addr}: {name:?} answered, which is no backend"));
                return None;
            };
            world.figures.connected(began.elapsed());
            world.figures.check(!life.was_removed_before(began), || {
                format!("backend {} got a new connection after it was removed", life.number)
            });
            return Some(Connection { stream, life });
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer in {PATIENCE:?}"),
    };
    if world.excuses.held_since(mark) {
        world.figures.refused();
    } else {
        world.figures.lost(format!("{addr}: a new connection: {why}"));
    }
    None
}

/// The backend's name: its first line, or the header of an answer in HTTP.
async fn name(stream: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = String::new();
    (&mut *stream).take(1000).read_line(&mut line).await?;
    if line.starts_with("HTTP/1.1 200 ") {
        line.clear();
        (&mut *stream).take(1000).read_line(&mut line).await?;
    }
    let name = line.trim_end().trim_start_matches("server: ");
    if !line.ends_with('\n') || name.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(name.to_owned())
}

impl Connection {
    /// Sends bytes and waits until they come back.
    pub(crate) async fn round(&mut self, at: u64, length: usize) -> Result<(), String> {
        let mut sent = vec![0; length];
        pattern::fill(&mut sent, at);
        let mut back = vec![0; length];
        let (mut read, mut write) = tokio::io::split(&mut self.stream);
        let both = async {
            tokio::try_join!(write.write_all(&sent), read.read_exact(&mut back)).map(|_| ())
        };
        timed(both).await?;
        if back == sent { Ok(()) } else { Err(format!("other bytes came back than byte {at} on")) }
    }

    /// Ends its side, and waits until the other side ends.
    pub(crate) async fn end(&mut self) -> Result<(), String> {
        let mut rest = [0; 1];
        let read = async {
            self.stream.shutdown().await?;
            self.stream.read(&mut rest).await
        };
        match timed(read).await? {
            0 => Ok(()),
            _ => Err("bytes came that nobody sent".to_owned()),
        }
    }

    /// Reads a body of this length, of which a part is read.
    pub(crate) async fn body(&mut self, mut at: u64, length: u64) -> Result<(), String> {
        let mut buffer = vec![0; 64 * 1024];
        while at < length {
            let most = usize::try_from(length - at).map_or(buffer.len(), |n| n.min(buffer.len()));
            let read = timed(self.stream.read(&mut buffer[..most])).await?;
            if read == 0 {
                return Err(format!("it ended after {at} of {length} bytes"));
            }
            if !pattern::is_at(&buffer[..read], at) {
                return Err(format!("wrong bytes from byte {at} on"));
            }
            at += read as u64;
        }
        Ok(())
    }

    /// Reads the rest of a head in HTTP.
    pub(crate) async fn head(&mut self) -> Result<(), String> {
        let mut line = String::new();
        for _ in 0..100 {
            line.clear();
            timed((&mut self.stream).take(1000).read_line(&mut line)).await?;
            if line.trim_end().is_empty() {
                return Ok(());
            }
        }
        Err("a head without end".to_owned())
    }

    /// An open connection has failed: a loss, unless its backend is dead.
    pub(crate) fn failed(&self, world: &World, why: &str) {
        if self.life.is_dead() {
            world.figures.died();
        } else {
            world
                .figures
                .lost(format!("an open connection to backend {}: {why}", self.life.number));
        }
    }
}

async fn timed<T>(work: impl Future<Output = io::Result<T>>) -> Result<T, String> {
    match timeout(PATIENCE, work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("nothing came or went for {PATIENCE:?}")),
    }
}

/// Clients at work in the background, until they are told to stop.
pub(crate) struct Load {
    stop: watch::Sender<bool>,
    clients: JoinSet<()>,
    /// Connections that are held at the moment.
    pub(crate) held: Arc<AtomicU64>,
}

impl Load {
    /// Starts so many: seven of ten hold a connection, the others come and go.
    pub(crate) fn start(world: &Arc<World>, count: u32) -> Self {
        let stop = watch::Sender::new(false);
        let held = Arc::new(AtomicU64::new(0));
        let mut clients = JoinSet::new();
        let [service, node] = world.place.web();
        for i in 0..count {
            let addr = [service, node, world.place.other(), service][(i / 10 % 4) as usize];
            let (world, stopped) = (Arc::clone(world), stop.subscribe());
            if i % 10 < 7 {
                clients.spawn(holder(world, addr, i, stopped, Arc::clone(&held)));
            } else {
                clients.spawn(visitor(world, addr, i, stopped));
            }
        }
        Self { stop, clients, held }
    }

    /// Lets all end what they are at. Every connection is closed when this returns.
    pub(crate) async fn stop(mut self) {
        self.stop.send_replace(true);
        while self.clients.join_next().await.is_some() {}
    }
}

/// Waits for a time that is the client's own; false if it is over.
async fn pause(stopped: &mut watch::Receiver<bool>, millis: u64) -> bool {
    let over = timeout(Duration::from_millis(millis), stopped.wait_for(|stopped| *stopped));
    over.await.is_err()
}

/// Keeps one connection and sends bytes back and forth on it. If it fails, another.
async fn holder(
    world: Arc<World>,
    addr: SocketAddr,
    seed: u32,
    mut stopped: watch::Receiver<bool>,
    held: Arc<AtomicU64>,
) {
    let rhythm = 300 + u64::from(seed * 37 % 400);
    while !*stopped.borrow() {
        let Some(mut connection) = connect(&world, addr, "ECHO").await else {
            // Everybody comes again, but not all at once.
            pause(&mut stopped, rhythm).await;
            continue;
        };
        held.fetch_add(1, Ordering::Relaxed);
        let mut at = 0_u64;
        let outcome = loop {
            let length = 1 + (usize::try_from(at).unwrap_or(0) * 7 + seed as usize * 613) % 40_000;
            if let Err(why) = connection.round(at, length).await {
                break Err(why);
            }
            world.figures.carried(2 * length);
            at += length as u64;
            if !pause(&mut stopped, rhythm).await {
                break connection.end().await;
            }
        };
        held.fetch_sub(1, Ordering::Relaxed);
        if let Err(why) = outcome {
            connection.failed(&world, &format!("after {at} bytes: {why}"));
        }
    }
}

/// Connects, asks, reads the answer, goes; and again.
async fn visitor(
    world: Arc<World>,
    addr: SocketAddr,
    seed: u32,
    mut stopped: watch::Receiver<bool>,
) {
    let rhythm = 600 + u64::from(seed * 41 % 800);
    let mut round = 0;
    // Not all at once, either.
    while pause(&mut stopped, if round == 0 { rhythm / 2 } else { rhythm }).await {
        round += 1;
        let length = (u64::from(seed) * 997 + round * 10_007) % 60_000;
        let want = format!("GET /{length} HTTP/1.1\r\nhost: soak\r\n\r");
        let Some(mut connection) = connect(&world, addr, &want).await else { continue };
        let answered = async {
            connection.head().await?;
            connection.body(0, length).await
        };
        match answered.await {
            Ok(()) => world.figures.carried(usize::try_from(length).unwrap_or(0)),
            Err(why) => connection.failed(&world, &why),
        }
    }
}

/// Waits until something holds, but no longer than is reasonable.
pub(crate) async fn until(mut holds: impl FnMut() -> bool) -> bool {
    for _ in 0..PATIENCE.as_millis() / 20 {
        if holds() {
            return true;
        }
        sleep(Duration::from_millis(20)).await;
    }
    holds()
}
