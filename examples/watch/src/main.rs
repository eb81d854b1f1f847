//! Watches a cluster as one of its nodes sees it, and prints what changes.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::process::ExitCode;

use clap::Parser;
use http::Uri;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::watcher::DefaultBackoff;
use kube::{Client, Config};
use svcplane::backend::BackendChange;
use svcplane::catalog::{Catalog, Changes};
use svcplane::name::NodeName;
use svcplane::nftables;
use svcplane::plan::{LocalNode, Mode, ServiceChange};
use svcplane_watch::{Feed, inputs, run};

/// How many Services of a change are named.
const NAMED: usize = 5;

/// Watches a cluster as one of its nodes sees it, and prints what changes.
#[derive(Parser)]
struct Arguments {
    /// The node: its zone and addresses come from its Node object.
    #[arg(long, value_name = "NAME")]
    node: NodeName,
    /// For what the rules are: nftables, iptables or ipvs. Bytes are counted for nftables
    #[arg(long, default_value = "nftables", value_parser = mode)]
    mode: Mode,
    /// The API server, such as that of `kubectl proxy`: <http://127.0.0.1:8001>
    #[arg(long, value_name = "URL", conflicts_with = "kubeconfig")]
    server: Option<Uri>,
    /// Where the API server and the credentials are [default: $KUBECONFIG, ~/.kube/config, or the pod's own]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

fn mode(text: &str) -> Result<Mode, String> {
    text.parse().map_err(|_| "expected nftables, iptables or ipvs".to_owned())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match live(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn live(arguments: Arguments) -> Result<(), String> {
    let config = config(&arguments).await?;
    let server = config.cluster_url.clone();
    let client = Client::try_from(config).map_err(|error| match error {
        kube::Error::TlsRequired => format!("{server}: TLS is not built in: use --features tls"),
        error => format!("{server}: {error}"),
    })?;
    println!("{server}: listing");
    let mut feed = Feed::new(Catalog::new(LocalNode::new(arguments.node.clone()), arguments.mode));
    let inputs = inputs(&client, &server, &arguments.node, DefaultBackoff::default);
    let mut first = true;
    let update = |catalog: &Catalog, changes: Changes| {
        report(catalog, &changes, std::mem::take(&mut first));
        async {}
    };
    let feeding = pin!(run(inputs, &mut feed, |notice| eprintln!("{notice}"), update));
    tokio::select! {
        () = feeding => Ok(()),
        interrupted = tokio::signal::ctrl_c() => interrupted.map_err(|error| error.to_string()),
    }
}

async fn config(arguments: &Arguments) -> Result<Config, String> {
    if let Some(server) = &arguments.server {
        return Ok(Config::new(server.clone()));
    }
    if let Some(file) = &arguments.kubeconfig {
        let kubeconfig = Kubeconfig::read_from(file).map_err(|error| error.to_string())?;
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
        return config.map_err(|error| format!("{}: {error}", file.display()));
    }
    Config::infer().await.map_err(|error| error.to_string())
}

/// One line.
fn report(catalog: &Catalog, changes: &Changes, first: bool) {
    let plan = catalog.plan();
    let config = nftables::Config::default();
    let full = first || changes.plan.concerns_node();
    let script = match plan.mode() {
        Mode::Nftables if full => Some(nftables::compile(plan, &config)),
        Mode::Nftables => Some(nftables::delta(plan, &changes.plan, &config).script),
        _ => None,
    };
    let bytes = script.map_or(String::new(), |script| format!("{} bytes", script.len()));
    if full {
        let (services, ports) = (plan.services().len(), plan.ports().count());
        let node = plan.node();
        let zone = node.zone.as_deref().unwrap_or("unknown");
        println!(
            "full   {services:>5} services  {bytes:>15}  {ports} ports, node {} in zone {zone}",
            node.name
        );
        return;
    }
    let otherwise = changes.plan.services().len();
    let named: Vec<String> = changes
        .plan
        .services()
        .take(NAMED)
        .map(|(name, change)| format!("{name}{}", what(change)))
        .collect();
    let more = if otherwise > NAMED { ", …" } else { "" };
    // Headless Services and aliases are others, and not treated otherwise.
    let beside = changes.services.iter().filter(|name| plan.service(name).is_none()).count();
    let beside = match beside {
        _ if otherwise > 0 => String::new(),
        _ => format!("{beside} that no rules are for"),
    };
    println!("delta  {otherwise:>5} services  {bytes:>15}  {}{more}{beside}", named.join(", "));
}

/// What is other of a Service: how many addresses come and go.
fn what(change: &ServiceChange) -> String {
    match (&change.before, &change.after) {
        (None, _) => return " new".to_owned(),
        (_, None) => return " gone".to_owned(),
        _ => {}
    }
    let (mut set, mut removed) = (BTreeSet::<SocketAddr>::new(), BTreeSet::new());
    for backend in change.routes().flat_map(|route| route.backends()) {
        match backend {
            BackendChange::Set(backend) => set.insert(backend.addr),
            BackendChange::Remove(address) => removed.insert(address),
        };
    }
    match (set.len(), removed.len()) {
        (0, 0) => " otherwise".to_owned(),
        (set, removed) => format!(" +{set} -{removed}"),
    }
}
