//! A stand-in, a feed of it, and a consumer that follows what is handed on.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kube::runtime::utils::Backoff;
use kube::{Client, Config};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use svcplane::catalog::{Catalog, Changes};
use svcplane::endpoints::{EndpointSet, EndpointSlice};
use svcplane::k8s;
use svcplane::plan::{LocalDetector, LocalNode, Mode, Plan};
use svcplane::service::Service;
use svcplane_watch::{Feed, Notice, inputs, run};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::standin::{NODES, SERVICES, SLICES, StandIn, Store};

/// Far longer than anything takes.
const BOUND: Duration = Duration::from_secs(30);

pub(crate) struct World {
    pub(crate) server: StandIn,
    changed: Arc<Notify>,
    seen: Arc<Mutex<Seen>>,
    idle: watch::Sender<bool>,
    pauses: Arc<Mutex<BTreeMap<&'static str, Vec<usize>>>>,
    feeding: Option<JoinHandle<()>>,
    markers: usize,
}

/// What the consumer has got.
#[derive(Clone)]
pub(crate) struct Seen {
    /// What follows of the updates.
    pub(crate) plan: Plan,
    pub(crate) updates: Vec<Changes>,
    pub(crate) notices: Vec<String>,
}

/// No pause at all, counted: the first one after a success is 1.
struct Counted {
    of: &'static str,
    since: usize,
    pauses: Arc<Mutex<BTreeMap<&'static str, Vec<usize>>>>,
}

impl Iterator for Counted {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.since += 1;
        self.pauses.lock().unwrap().entry(self.of).or_default().push(self.since);
        Some(Duration::ZERO)
    }
}

impl Backoff for Counted {
    fn reset(&mut self) {
        self.since = 0;
    }
}

fn settings() -> LocalNode {
    let mut node = LocalNode::new("node-1".parse().unwrap());
    node.masquerade_all = true;
    node.local_addresses = vec!["172.17.0.1".parse().unwrap()];
    node
}

impl World {
    pub(crate) async fn new() -> Self {
        let changed = Arc::new(Notify::new());
        let plan = Plan::empty(settings(), Mode::Nftables);
        let seen = Seen { plan, updates: Vec::new(), notices: Vec::new() };
        Self {
            server: StandIn::start(changed.clone()).await,
            changed,
            seen: Arc::new(Mutex::new(seen)),
            idle: watch::channel(true).0,
            pauses: Arc::default(),
            feeding: None,
            markers: 0,
        }
    }

    pub(crate) fn start(&mut self) {
        let config = Config::new(self.server.url.parse().unwrap());
        let server = config.cluster_url.clone();
        let client = Client::try_from(config).unwrap();
        let mut of = [SERVICES, SLICES, NODES].into_iter();
        let of = Mutex::new(move || of.next().unwrap());
        let backoff = || {
            let of = (of.lock().unwrap())();
            Counted { of, since: 0, pauses: self.pauses.clone() }
        };
        let inputs = inputs(&client, &server, &"node-1".parse().unwrap(), backoff);
        let (seen, changed) = (self.seen.clone(), self.changed.clone());
        let notice = move |notice: Notice| {
            seen.lock().unwrap().notices.push(notice.to_string());
            changed.notify_one();
        };
        let (seen, changed) = (self.seen.clone(), self.changed.clone());
        let idle = self.idle.subscribe();
        let update = move |catalog: &Catalog, changes: Changes| {
            let mut seen = seen.lock().unwrap();
            seen.plan.apply(&changes.plan);
            assert_eq!(seen.plan, *catalog.plan(), "what was handed on leads elsewhere");
            seen.updates.push(changes);
            changed.notify_one();
            let mut idle = idle.clone();
            async move { drop(idle.wait_for(|idle| *idle).await.unwrap()) }
        };
        self.feeding = Some(tokio::spawn(async move {
            let mut feed = Feed::new(Catalog::new(settings(), Mode::Nftables));
            run(inputs, &mut feed, notice, update).await;
        }));
    }

    pub(crate) fn seen(&self) -> Seen {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn pauses(&self, of: &str) -> Vec<usize> {
        self.pauses.lock().unwrap().get(of).cloned().unwrap_or_default()
    }

    /// Has updates take their time.
    pub(crate) fn be_busy(&self) {
        self.idle.send_replace(false);
    }

    pub(crate) fn be_idle(&self) {
        self.idle.send_replace(true);
    }

    /// The backends of a Service, as the consumer knows them.
    pub(crate) fn backends(&self, service: &str) -> Vec<String> {
        let (namespace, name) = service.split_once('/').unwrap();
        let name = svcplane::name::ObjectName::new(namespace, name).unwrap();
        let seen = self.seen();
        let ports = seen.plan.service(&name).map(|service| service.ports.clone());
        let backends = ports.iter().flatten().flat_map(|port| &port.cluster.backends);
        let mut backends: Vec<String> = backends.map(|backend| backend.addr.to_string()).collect();
        backends.sort();
        backends
    }

    pub(crate) async fn until(&mut self, what: &str, mut done: impl FnMut(&Seen) -> bool) {
        self.wait(what, |_, seen| done(seen)).await;
    }

    pub(crate) async fn asked(&mut self, what: &str, mut done: impl FnMut(&Store) -> bool) {
        self.wait(what, |store, _| done(store)).await;
    }

    pub(crate) async fn noticed(&mut self, what: &str) {
        self.until(what, |seen| seen.notices.iter().any(|notice| notice.starts_with(what))).await;
    }

    /// All watches are on, and what was handed on is what the server has.
    pub(crate) async fn settled(&mut self) {
        self.wait("the server's plan", |store, seen| {
            let on = [SERVICES, SLICES, NODES].iter().all(|plural| store.watchers(plural) == 1);
            on && !seen.updates.is_empty() && seen.plan == expected(store)
        })
        .await;
    }

    /// All that was said until now is taken, and handed on if the consumer is not busy.
    pub(crate) async fn marked(&mut self) {
        self.markers += 1;
        let name = format!("MARK-{}", self.markers);
        for plural in [SERVICES, SLICES, NODES] {
            let metadata = json!({"name": name, "namespace": "default"});
            self.server.store().put(plural, json!({"metadata": metadata}));
        }
        let mark = format!(" default/{name}: passed over");
        self.until("three marks", |seen| {
            seen.notices.iter().filter(|notice| notice.contains(&mark)).count() == 3
        })
        .await;
    }

    async fn wait(&mut self, what: &str, mut done: impl FnMut(&Store, &Seen) -> bool) {
        let deadline = tokio::time::Instant::now() + BOUND;
        loop {
            if done(&self.server.store(), &self.seen()) {
                return;
            }
            if self.feeding.as_ref().is_some_and(JoinHandle::is_finished) {
                self.feeding.take().unwrap().await.unwrap();
                panic!("feeding has ended");
            }
            if tokio::time::timeout_at(deadline, self.changed.notified()).await.is_err() {
                let store = self.server.store();
                let (seen, requests) = (self.seen(), &store.requests);
                panic!("no {what}: {:#?}\n{:?}\n{requests:#?}", seen.notices, seen.plan);
            }
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(feeding) = &self.feeding {
            feeding.abort();
        }
    }
}

/// The plan of what the server has, from nothing.
fn expected(store: &Store) -> Plan {
    let services =
        read::<k8s::Service, Service>(store, SERVICES, |it| Some(it.convert().ok()?.object));
    let slices = read::<k8s::EndpointSlice, EndpointSlice>(store, SLICES, |it| {
        Some(it.convert().ok()?.object)
    });
    let mut node = settings();
    if let Some(own) = store.objects(NODES).find(|node| node["metadata"]["name"] == "node-1") {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        node.zone = Some(text(&own["metadata"]["labels"]["topology.kubernetes.io/zone"]).into());
        node.addresses = vec![text(&own["status"]["addresses"][0]["address"]).parse().unwrap()];
        node.pods = LocalDetector::Cidrs(vec![text(&own["spec"]["podCIDR"]).parse().unwrap()]);
    }
    let sets: Vec<EndpointSet> = services
        .iter()
        .map(|service| {
            let own = slices.iter().filter(|slice| slice.service == service.name);
            EndpointSet::merge(service.name.clone(), own)
        })
        .collect();
    Plan::new(&node, Mode::Nftables, services.iter().zip(&sets))
}

fn read<T: DeserializeOwned, O>(
    store: &Store,
    plural: &str,
    convert: impl Fn(T) -> Option<O>,
) -> Vec<O> {
    let objects = store.objects(plural).cloned();
    objects.filter_map(|object| convert(serde_json::from_value(object).ok()?)).collect()
}

/// The resource version of the object in a line.
pub(crate) fn version(line: &str) -> u64 {
    let line: Value = serde_json::from_str(line).unwrap();
    line["object"]["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}
