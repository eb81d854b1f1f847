//! Connections that are not used in the ordinary way: read slowly, closed by halves, reset.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::World;
use crate::backends::End;
use crate::clients::{PATIENCE, connect, connect_from, until};
use crate::pattern;
use crate::proxy::Proxy;

/// Connections that read a byte now and then.
const SLOW: u64 = 50;
/// What each of them asked for.
const ANSWER: u64 = 16 << 20;
/// What the proxy may keep for each: two buffers and its own state, generously.
const KEPT: u64 = 64 << 10;
/// What its memory may move by for other reasons.
pub(crate) const SLACK: u64 = 8 << 20;
/// Bytes on a connection that is closed by halves or reset.
const SOME: u64 = 100_000;

static KEY: AtomicU64 = AtomicU64::new(1);

/// Others are served as before, the proxy keeps little, and who reads on at last gets every byte.
pub(crate) async fn slow(
    world: &Arc<World>,
    proxy: &Proxy,
    duration: Duration,
) -> anyhow::Result<()> {
    let before = proxy.sample()?;
    let until = Instant::now() + duration;
    let mut readers = JoinSet::new();
    for i in 0..SLOW {
        let world = Arc::clone(world);
        readers.spawn(async move { slow_reader(&world, until, i % 10 == 0).await });
    }
    sleep(duration * 4 / 5).await;
    let during = proxy.sample()?;
    while readers.join_next().await.is_some() {}
    let grown = during.rss.saturating_sub(before.rss);
    world.figures.check(grown <= SLOW * KEPT + SLACK, || {
        format!("the proxy grew by {grown} bytes for {SLOW} slow readers")
    });
    let nine_of_ten = world.figures.latency(0.9);
    world.figures.check(nine_of_ten < Duration::from_secs(2), || {
        format!("others waited {nine_of_ten:?} for an answer while some read slowly")
    });
    Ok(())
}

async fn slow_reader(world: &World, until: Instant, whole: bool) {
    let socket = TcpSocket::new_v4().and_then(|socket| {
        socket.set_recv_buffer_size(32 << 10)?;
        Ok(socket)
    });
    let want = format!("GET /{ANSWER} HTTP/1.1\r\nhost: soak\r\n\r");
    let [service, _] = world.place.web();
    let Some(mut connection) = connect_from(world, socket, service, &want).await else { return };
    let read = async {
        connection.head().await?;
        let mut at = 0;
        while Instant::now() < until {
            connection.body(at, at + 1).await?;
            at += 1;
            sleep(Duration::from_millis(100)).await;
        }
        if whole { connection.body(at, ANSWER).await } else { Ok(()) }
    };
    match read.await {
        // The others go with most of the answer unread, which resets the connection.
        Ok(()) => world.figures.carried(if whole { 16 << 20 } else { 0 }),
        Err(why) => connection.failed(world, &format!("read slowly: {why}")),
    }
}

/// Ends in one direction leave the other as it is; what was cut off on one side does not look whole on the other.
pub(crate) async fn halves_and_resets(world: &Arc<World>, duration: Duration) {
    let until = Instant::now() + duration;
    let mut clients = JoinSet::new();
    for i in 0..40 {
        let world = Arc::clone(world);
        clients.spawn(async move {
            let addr = world.place.web()[i % 2];
            while Instant::now() < until {
                let outcome = match i % 5 {
                    0 => client_ends_first(&world, addr).await,
                    1 => backend_ends_first(&world, addr).await,
                    2 => client_resets(&world, addr).await,
                    3 => backend_resets(&world, addr).await,
                    _ => silent(addr).await,
                };
                if let Err(why) = outcome {
                    world.figures.lost(why);
                }
                sleep(Duration::from_millis(100)).await;
            }
        });
    }
    while clients.join_next().await.is_some() {}
}

async fn client_ends_first(world: &World, addr: SocketAddr) -> Result<(), String> {
    let Some(mut connection) = connect(world, addr, "ECHO").await else { return Ok(()) };
    let mut data = vec![0; 100_000];
    pattern::fill(&mut data, 0);
    let sent = async {
        connection.stream.write_all(&data).await?;
        connection.stream.shutdown().await
    };
    sent.await.map_err(|error| format!("sending all before reading: {error}"))?;
    connection.body(0, SOME).await.map_err(|why| format!("after the client ended: {why}"))?;
    connection.end().await.map_err(|why| format!("after the client ended: {why}"))?;
    world.figures.carried(2 * data.len());
    Ok(())
}

async fn backend_ends_first(world: &World, addr: SocketAddr) -> Result<(), String> {
    let key = KEY.fetch_add(1, Ordering::Relaxed);
    let Some(mut connection) = connect(world, addr, &format!("TAKE {key}")).await else {
        return Ok(());
    };
    let end = timeout(PATIENCE, connection.stream.read(&mut [0])).await;
    if !matches!(end, Ok(Ok(0))) {
        return Err(format!("the backend ended its side, the client sees {end:?}"));
    }
    let mut data = vec![0; 100_000];
    pattern::fill(&mut data, 0);
    for part in data.chunks(30_000) {
        let sent = connection.stream.write_all(part).await;
        sent.map_err(|error| format!("after the backend ended: {error}"))?;
        sleep(Duration::from_millis(5)).await;
    }
    let _ = connection.stream.shutdown().await;
    world.figures.carried(data.len());
    ended(world, key, End::Whole(SOME), "the client went on after the backend had ended").await
}

async fn client_resets(world: &World, addr: SocketAddr) -> Result<(), String> {
    let key = KEY.fetch_add(1, Ordering::Relaxed);
    let Some(mut connection) = connect(world, addr, &format!("HOLD {key}")).await else {
        return Ok(());
    };
    let mut data = vec![0; 10_000];
    pattern::fill(&mut data, 0);
    let sent = connection.stream.write_all(&data).await;
    sent.map_err(|error| format!("before a reset: {error}"))?;
    sleep(Duration::from_millis(10)).await;
    let _ = connection.stream.get_ref().set_zero_linger();
    drop(connection);
    ended(world, key, End::Cut, "the client reset the connection").await
}

async fn ended(world: &World, key: u64, expected: End, what: &str) -> Result<(), String> {
    let mut end = None;
    until(|| {
        end = world.backends.take_end(key);
        end.is_some()
    })
    .await;
    if end == Some(expected) {
        Ok(())
    } else {
        Err(format!("{what}: the backend saw {end:?}, expected {expected:?}"))
    }
}

async fn backend_resets(world: &World, addr: SocketAddr) -> Result<(), String> {
    let Some(mut connection) = connect(world, addr, "RESET").await else { return Ok(()) };
    let _ = connection.stream.write_all(b"!").await;
    match timeout(PATIENCE, connection.stream.read(&mut [0])).await {
        Ok(Err(_)) => Ok(()),
        other => Err(format!("the backend reset the connection, the client sees {other:?}")),
    }
}

/// Says nothing and goes, once in order and once with a reset.
async fn silent(addr: SocketAddr) -> Result<(), String> {
    for resets in [false, true] {
        let connected = timeout(PATIENCE, TcpStream::connect(addr)).await;
        let stream = connected.map_err(|_| "a silent connection: no answer".to_owned())?;
        let stream = stream.map_err(|error| format!("a silent connection: {error}"))?;
        if resets {
            let _ = stream.set_zero_linger();
        } else {
            sleep(Duration::from_millis(20)).await;
        }
    }
    Ok(())
}
