//! Starts everything, kills one in the middle, and counts at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use svcplane::ipam::IpRange;
use svcplane::ipnet::IpNet;
use svcplane::k8s;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::store::{SERVICES, Store};

/// Nothing takes as long; it keeps a failure from hanging.
const PATIENCE: Duration = Duration::from_mins(2);

pub(crate) async fn fight(range: IpNet, etcd: &Path, replicas: u8) -> anyhow::Result<()> {
    let usable = IpRange::new(range, 0)?.free();
    ensure!((1..=10_000).contains(&usable), "{range} has {usable} addresses: expected 1 to 10000");
    let data = std::env::temp_dir().join(format!("svcplane-etcd-{}", std::process::id()));
    let outcome = match Etcd::start(etcd, &data).await {
        Ok(etcd) => timeout(PATIENCE, rounds(&etcd.endpoint, range, replicas, usable)).await,
        Err(error) => Ok(Err(error)),
    };
    let _ = std::fs::remove_dir_all(&data);
    outcome.context("the replicas do not come to an end")?
}

async fn rounds(endpoint: &str, range: IpNet, replicas: u8, usable: u64) -> anyhow::Result<()> {
    let mut store = Store::connect(endpoint).await?;
    let mut running = Vec::new();
    for name in (b'a'..).take(replicas.into()).map(char::from) {
        running.push(Replica::start(endpoint, &name.to_string(), range)?);
    }
    let mut told = Told::default();

    // The last one is killed when half of the addresses are gone, whatever it is doing, and comes back.
    while (store.claims().await?.len() as u64) < usable / 2 {
        sleep(Duration::from_millis(1)).await;
    }
    let victim = running.pop().context("no replica")?;
    let name = victim.name.clone();
    let before = victim.kill().await?;
    println!("replica {name} killed after {} addresses", before.got.len());
    told.add(before);
    running.push(Replica::start(endpoint, &name, range)?);

    for replica in running {
        let name = replica.name.clone();
        let lines = replica.end().await?;
        println!("replica {name}: {} addresses, {} lost to others", lines.got.len(), lines.lost);
        told.add(lines);
    }
    check(&mut store, range, usable, &told).await
}

/// No address twice, none lost, none without a Service, no Service without its address.
async fn check(store: &mut Store, range: IpNet, usable: u64, told: &Told) -> anyhow::Result<()> {
    let claims = store.claims().await?;
    let mut services = BTreeMap::new();
    for (name, text) in store.read(SERVICES).await? {
        let service = serde_json::from_str::<k8s::Service>(&text)?.convert()?.object;
        services.insert(name, service.cluster_ips.as_slice().to_vec());
    }
    ensure!(claims.len() as u64 == usable, "{} of {usable} addresses are claimed", claims.len());
    ensure!(services.len() == claims.len(), "{} Services, {} claims", services.len(), claims.len());
    let mut seen = BTreeSet::new();
    for (name, ips) in &services {
        let [ip] = ips[..] else { bail!("{name} has {ips:?}") };
        ensure!(range.contains(&ip), "{name} has {ip}, which is not in {range}");
        ensure!(seen.insert(ip), "{ip} was given twice, once to {name}");
        let holder = claims.get(&format!("cluster-ip/{ip}"));
        let holder = holder.with_context(|| format!("nobody claims {ip} of {name}"))?;
        ensure!(holder.service == *name, "{ip} of {name} is claimed by {}", holder.service);
    }
    for (name, ip) in &told.got {
        let kept = services.get(name).is_some_and(|ips| ips.iter().any(|i| i.to_string() == *ip));
        ensure!(kept, "{name} was told that it has {ip}, and lost it");
    }
    println!(
        "{usable} addresses, {} Services, {} told to their replicas: none twice, none lost",
        services.len(),
        told.got.len()
    );
    Ok(())
}

/// What replicas printed.
#[derive(Default)]
struct Told {
    /// The address of each Service.
    got: BTreeMap<String, String>,
    lost: usize,
}

impl Told {
    fn line(&mut self, line: &str) {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["got", ip, service] => drop(self.got.insert(service.to_owned(), ip.to_owned())),
            ["lost", ..] => self.lost += 1,
            _ => {}
        }
    }

    fn add(&mut self, mut other: Self) {
        self.got.append(&mut other.got);
        self.lost += other.lost;
    }
}

struct Replica {
    name: String,
    child: Child,
    lines: JoinHandle<Told>,
}

impl Replica {
    fn start(endpoint: &str, name: &str, range: IpNet) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["replica", "--endpoint", endpoint, "--name", name]);
        command.args(["--range", &range.to_string()]);
        let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let output = BufReader::new(child.stdout.take().context("no output")?);
        let lines = tokio::spawn(async move {
            let (mut told, mut lines) = (Told::default(), output.lines());
            while let Ok(Some(line)) = lines.next_line().await {
                told.line(&line);
            }
            told
        });
        Ok(Self { name: name.to_owned(), child, lines })
    }

    async fn kill(mut self) -> anyhow::Result<Told> {
        self.child.kill().await?;
        Ok(self.lines.await?)
    }

    async fn end(mut self) -> anyhow::Result<Told> {
        let status = self.child.wait().await?;
        ensure!(status.success(), "replica {} ended with {status}", self.name);
        Ok(self.lines.await?)
    }
}

struct Etcd {
    endpoint: String,
    _child: Child,
}

impl Etcd {
    /// On two free ports of loopback, alone.
    async fn start(program: &Path, data: &Path) -> anyhow::Result<Self> {
        let sockets = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
        let mut urls = Vec::new();
        for socket in &sockets {
            urls.push(format!("http://{}", socket.local_addr()?));
        }
        drop(sockets);
        let [client, peer] = &urls[..] else { bail!("two ports") };
        let mut command = Command::new(program);
        command.arg("--data-dir").arg(data);
        command.args(["--name", "one", "--initial-cluster", &format!("one={peer}")]);
        command.args(["--listen-client-urls", client, "--advertise-client-urls", client]);
        command.args(["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]);
        command.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let mut child =
            command.spawn().with_context(|| format!("{} does not start", program.display()))?;
        for _ in 0..300 {
            if let Some(status) = child.try_wait()? {
                bail!("{} ended at once with {status}", program.display());
            }
            if let Ok(mut store) = Store::connect(client).await
                && store.claims().await.is_ok()
            {
                return Ok(Self { endpoint: client.clone(), _child: child });
            }
            sleep(Duration::from_millis(100)).await;
        }
        bail!("{} does not answer", program.display())
    }
}
