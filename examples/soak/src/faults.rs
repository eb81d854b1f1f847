//! What is done to the proxy's surroundings while it is at work.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::ensure;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::World;
use crate::clients::{Connection, connect, until};
use crate::proxy::Proxy;

/// Backends that live all the while and stay listed.
pub(crate) const KEPT: std::ops::RangeInclusive<u8> = 1..=4;
/// Backends that are killed and removed, and come back.
pub(crate) const MORTAL: std::ops::RangeInclusive<u8> = 5..=8;
/// Backends that join later.
const LATE: std::ops::RangeInclusive<u8> = 9..=10;

const NOT_RELOADED: &str = "not reloaded: the last good state stays";

/// Replaces the pods, and waits until the proxy says so.
pub(crate) async fn list(
    world: &World,
    proxy: &Proxy,
    numbers: impl Iterator<Item = u8>,
    ready: bool,
) -> anyhow::Result<()> {
    let since = proxy.printed();
    world.place.replace("pods.yaml", &world.place.pods(numbers, ready))?;
    reloaded(proxy, since).await
}

async fn reloaded(proxy: &Proxy, since: usize) -> anyhow::Result<()> {
    ensure!(proxy.prints("reloaded", since).await, "the proxy does not take up the manifests");
    Ok(())
}

fn first() -> impl Iterator<Item = u8> {
    KEPT.chain(MORTAL)
}

/// Backends die, in order and by resets, and come back. The manifests know nothing of it.
pub(crate) async fn killed(world: &World, duration: Duration) -> anyhow::Result<()> {
    let end = Instant::now() + duration;
    for (number, resets) in MORTAL.zip([false, true].into_iter().cycle()).cycle() {
        {
            let _dying = world.excuses.begin();
            world.backends.kill(number, resets).await;
        }
        sleep(Duration::from_millis(150)).await;
        world.backends.start(number)?;
        sleep(Duration::from_millis(250)).await;
        if Instant::now() >= end {
            break;
        }
    }
    for number in MORTAL {
        let life = world.backends.running(number);
        let used = || life.as_ref().is_some_and(|life| life.accepted.load(Ordering::Relaxed) > 0);
        world.figures.check(until(used).await, || {
            format!("backend {number} came back and got no connection")
        });
    }
    Ok(())
}

/// Backends are taken out of the manifests, and live on with their connections; others join; one that was removed dies.
pub(crate) async fn removed(
    world: &World,
    proxy: &Proxy,
    duration: Duration,
) -> anyhow::Result<()> {
    for number in LATE {
        world.backends.start(number)?;
    }
    let out = [5, 6];
    let mut held = Vec::new();
    for i in 0..400 {
        let addr = world.place.web()[i % 2];
        let connection = connect(world, addr, "ECHO").await;
        held.extend(connection.filter(|connection| out.contains(&connection.life.number)));
        if out.iter().all(|&number| on(&held, number) >= 10) {
            break;
        }
    }
    list(world, proxy, KEPT.chain(7..=8).chain(LATE), true).await?;
    for number in out {
        world.set_removed(number, true);
    }
    sleep(duration / 2).await;
    for number in out {
        let count = on(&held, number);
        world.figures.check(count >= 10, || format!("{count} connections to backend {number}"));
    }
    for connection in &mut held {
        if let Err(why) = connection.round(0, 50_000).await {
            connection.failed(world, &format!("after the backend was removed: {why}"));
        }
    }
    for number in LATE {
        let life = world.backends.running(number);
        let used = || life.as_ref().is_some_and(|life| life.accepted.load(Ordering::Relaxed) > 0);
        world
            .figures
            .check(until(used).await, || format!("backend {number} joined and got no connection"));
    }
    drop(held);
    world.backends.kill(6, true).await;
    world.backends.start(6)?;
    world.set_removed(5, false);
    list(world, proxy, first(), true).await?;
    for number in LATE {
        world.set_removed(number, true);
    }
    sleep(duration / 2).await;
    Ok(())
}

fn on(connections: &[Connection], number: u8) -> usize {
    connections.iter().filter(|connection| connection.life.number == number).count()
}

/// Manifests are spoilt in many ways, left half-written, and rewritten faster than they can be read.
pub(crate) async fn rewritten(
    world: &World,
    proxy: &Proxy,
    duration: Duration,
) -> anyhow::Result<()> {
    let began = Instant::now();
    let pods = world.place.pods(first(), true);
    let spoilt: [(&str, &[u8]); 6] = [
        ("no YAML", b"{ : ["),
        ("no text", b"kind: \xff\xfe\n"),
        ("no object", b"just words\n"),
        ("no such kind", b"apiVersion: v1\nkind: Servise\nmetadata: { name: x }\n"),
        (
            "a wrong type",
            b"apiVersion: v1\nkind: Service\nmetadata: { name: x }\nspec: { ports: [{ port: many }] }\n",
        ),
        ("a duplicate", pods.as_bytes()),
    ];
    for (what, text) in spoilt {
        let (complained, printed) = (proxy.complained(), proxy.printed());
        std::fs::write(world.place.folder().join("more.yaml"), text)?;
        refused(world, proxy, complained, what, "more.yaml").await;
        world.place.remove("more.yaml")?;
        reloaded(proxy, printed).await?;
    }

    // In the middle of an object.
    let cut = pods.rfind("podIP").unwrap_or(0);
    let (complained, printed) = (proxy.complained(), proxy.printed());
    let half = world.place.write_in_two("pods.yaml", &pods, cut, Duration::from_millis(600));
    half.await?;
    refused(world, proxy, complained, "a half", "pods.yaml").await;
    reloaded(proxy, printed).await?;

    // Emptied, and for a moment nothing follows: that is not to be taken as a cluster without pods.
    let printed = proxy.printed();
    world.place.write_in_two("pods.yaml", &pods, 0, Duration::from_millis(300)).await?;
    reloaded(proxy, printed).await?;

    let (complained, printed) = (proxy.complained(), proxy.printed());
    let folder = world.place.folder();
    let aside = folder.with_extension("aside");
    std::fs::rename(folder, &aside)?;
    refused(world, proxy, complained, "no folder", &folder.display().to_string()).await;
    std::fs::rename(&aside, folder)?;
    reloaded(proxy, printed).await?;

    other_service_goes(world, proxy).await?;

    // Whole every time, in place and by renaming.
    let some = world.place.pods(KEPT.chain([7]), true);
    for i in 0..100_000 {
        let text = if i % 2 == 0 { &some } else { &pods };
        if i % 3 == 0 {
            world.place.overwrite("pods.yaml", text)?;
        } else {
            world.place.replace("pods.yaml", text)?;
        }
        sleep(Duration::from_millis(3 + i * 7 % 120)).await;
        if began.elapsed() > duration {
            break;
        }
    }
    // The last is what counts.
    world.place.replace("pods.yaml", &world.place.pods(KEPT.chain([5, 6, 7]), true))?;
    quiet(proxy).await;
    world.set_removed(8, true);
    sleep(duration / 10).await;
    world.set_removed(8, false);
    list(world, proxy, first(), true).await
}

/// The proxy has to say what is wrong, where, and that it goes on as before, in a few lines.
async fn refused(world: &World, proxy: &Proxy, since: usize, what: &str, file: &str) {
    let said = proxy.complains(NOT_RELOADED, since).await;
    let lines = proxy.complaints(since);
    world.figures.check(said, || format!("{what} in the manifests: the proxy says {lines:?}"));
    world
        .figures
        .check(lines.iter().any(|line| line.starts_with("error: ") && line.contains(file)), || {
            format!("{what} in the manifests: no message names {file}: {lines:?}")
        });
    world.figures.check(lines.len() <= 20, || format!("{what}: {} lines", lines.len()));
}

/// One Service of the two goes and comes back. Connections that came by it live on.
async fn other_service_goes(world: &World, proxy: &Proxy) -> anyhow::Result<()> {
    let _gone = world.excuses.begin();
    let since = proxy.printed();
    world.place.services(false)?;
    reloaded(proxy, since).await?;
    // The sockets are closed after that was said.
    let other = world.place.other();
    let mut refused = false;
    for _ in 0..100 {
        // Not a reset, by which somebody answers who is still there.
        let outcome = TcpStream::connect(other).await;
        refused = outcome.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused);
        if refused {
            break;
        }
        sleep(Duration::from_millis(20)).await;
    }
    world.figures.check(refused, || format!("{other}: its Service is gone, and somebody listens"));
    sleep(Duration::from_millis(500)).await;
    let since = proxy.printed();
    world.place.services(true)?;
    reloaded(proxy, since).await?;
    let back = || std::net::TcpStream::connect(other).is_ok();
    world
        .figures
        .check(until(back).await, || format!("{other}: its Service is back, not its socket"));
    Ok(())
}

/// Waits until the proxy has nothing more to take up.
async fn quiet(proxy: &Proxy) {
    for _ in 0..20 {
        let before = proxy.printed();
        sleep(Duration::from_secs(1)).await;
        if proxy.printed() == before {
            return;
        }
    }
}

/// No backend is ready: new connections are refused at once, open ones go on.
pub(crate) async fn none(world: &World, proxy: &Proxy, duration: Duration) -> anyhow::Result<()> {
    let _none = world.excuses.begin();
    list(world, proxy, first(), false).await?;
    let before = world.figures.refusals();
    sleep(duration).await;
    for addr in world.place.web() {
        world.figures.check(is_refused(addr).await, || {
            format!("{addr}: no backend, and the client is not refused within two seconds")
        });
    }
    world.figures.check(world.figures.refusals() > before, || {
        "nobody came while there was no backend".to_owned()
    });
    list(world, proxy, first(), true).await
}

async fn is_refused(addr: SocketAddr) -> bool {
    let attempt = async {
        let mut stream = TcpStream::connect(addr).await?;
        stream.read(&mut [0]).await
    };
    matches!(timeout(Duration::from_secs(2), attempt).await, Ok(Err(_)))
}
