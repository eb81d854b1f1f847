//! What a kernel's IPVS did with one service: picks, and its counts before and after.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;
use serde_json::Value;
use svcplane::backend::{Backend, Flow};
use svcplane::balancer::{Balancer, Conn};
use svcplane::sched::{Algorithm, Flags};
use svcplane::time::Instant;

use super::Outcome;

#[derive(Deserialize)]
struct Recorded {
    service: Service,
    #[serde(default)]
    sysctl: BTreeMap<String, i64>,
    dests: BTreeMap<String, Dest>,
    events: Vec<Event>,
}

#[derive(Deserialize)]
struct Service {
    #[serde(default)]
    proto: String,
    scheduler: String,
    flags: Vec<String>,
    persistent_s: u64,
    ops: bool,
}

#[derive(Deserialize)]
struct Dest {
    addr: IpAddr,
    port: u16,
}

/// Destination, weight, active, inactive, persistent connections.
type State = Vec<(String, u32, u32, u32, u32)>;

#[derive(Default, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_excessive_bools, reason = "as it is recorded")]
struct Event {
    op: String,
    t_ms: u64,
    dest: String,
    weight: u32,
    u: u32,
    l: u32,
    conn: u64,
    client: Option<(IpAddr, u16)>,
    dst: Option<(IpAddr, u16)>,
    pick: Option<String>,
    server_refused: bool,
    existing: bool,
    existed: bool,
    delivered: Option<String>,
    conns: Vec<u64>,
    name: String,
    value: i64,
    before: Option<State>,
    after: Option<State>,
    scheduler: String,
    flags: Vec<String>,
    ops: bool,
}

/// An entry of the kernel's connection table.
struct Entry {
    conn: Conn,
    dest: String,
    flow: Flow,
}

struct Kernel {
    balancer: Balancer,
    service: Service,
    sysctl: BTreeMap<String, i64>,
    names: BTreeMap<SocketAddr, String>,
    addrs: BTreeMap<String, SocketAddr>,
    entries: Vec<Option<Entry>>,
    /// The entry of each recorded connection.
    conns: BTreeMap<u64, usize>,
}

pub(crate) fn replay(recorded: Value) -> Result<Outcome, String> {
    let recorded: Recorded =
        serde_json::from_value(recorded).map_err(|error| format!("not an IPVS trace: {error}"))?;
    if recorded.service.persistent_s > 0 {
        return Err("persistent services are not replayed yet".to_owned());
    }
    let algorithm = algorithm(&recorded.service.scheduler)?;
    let mut kernel = Kernel {
        balancer: Balancer::with_flags(algorithm, flags(&recorded.service.flags), 0),
        sysctl: recorded.sysctl,
        names: recorded
            .dests
            .iter()
            .map(|(name, d)| (addr((d.addr, d.port)), name.clone()))
            .collect(),
        addrs: recorded
            .dests
            .iter()
            .map(|(name, d)| (name.clone(), addr((d.addr, d.port))))
            .collect(),
        entries: Vec::new(),
        conns: BTreeMap::new(),
        service: recorded.service,
    };
    let mut outcome = Outcome::default();
    let (mut picks, mut states) = (0, 0);
    for (i, event) in recorded.events.iter().enumerate() {
        let input = format!("event {i} ({} at {} ms)", event.op, event.t_ms);
        if let Some(before) = &event.before {
            states += 1;
            outcome.compare(&input, text(before), text(&kernel.state()));
        }
        picks += usize::from(event.op == "pick");
        kernel.happen(event, &input, &mut outcome)?;
        if let Some(after) = &event.after {
            states += 1;
            outcome.compare(&input, text(after), text(&kernel.state()));
        }
    }
    outcome.compared = format!("{picks} picks of {}, {states} states", kernel.service.scheduler);
    Ok(outcome)
}

fn algorithm(name: &str) -> Result<Algorithm, String> {
    name.parse().map_err(|error| format!("scheduler {name:?}: {error}"))
}

/// The kernel's flags: what is not stated is off.
fn flags(stated: &[String]) -> Flags {
    let has = |suffix| stated.iter().any(|flag| flag.ends_with(suffix));
    Flags { port: has("-port"), fallback: has("-fallback"), ..Flags::KERNEL }
}

fn addr((ip, port): (IpAddr, u16)) -> SocketAddr {
    SocketAddr::new(ip, port)
}

fn text(state: &State) -> String {
    let dest = |(name, weight, active, inactive, persistent): &(String, u32, u32, u32, u32)| {
        format!("{name} {weight} {active}/{inactive}/{persistent}")
    };
    state.iter().map(dest).collect::<Vec<_>>().join(", ")
}

impl Kernel {
    fn state(&self) -> State {
        let dest = |(_, entry): (_, &svcplane::sched::Entry)| {
            let name = self.names.get(&entry.addr()).cloned().unwrap_or_default();
            (name, entry.weight(), entry.active(), entry.inactive(), 0)
        };
        self.balancer.iter().map(dest).collect()
    }

    fn happen(&mut self, event: &Event, input: &str, outcome: &mut Outcome) -> Result<(), String> {
        let now = Instant::from_nanos(event.t_ms.saturating_mul(1_000_000));
        match event.op.as_str() {
            "add_dest" | "edit_dest" => {
                let addr = self.addr(&event.dest)?;
                let backend = Backend::new(addr).with_weight(event.weight);
                self.balancer.add(backend.with_thresholds(event.l, event.u), now);
            }
            "del_dest" => {
                let id = self.balancer.find(self.addr(&event.dest)?);
                let id = id.ok_or_else(|| format!("{input}: {} is not there", event.dest))?;
                self.balancer.remove(id, now).map_err(|error| format!("{input}: {error}"))?;
            }
            "add_service" | "edit_service" => {
                self.service.ops = event.ops;
                let flags = flags(&event.flags);
                self.balancer.set_algorithm(algorithm(&event.scheduler)?, flags, 0);
                self.service.scheduler.clone_from(&event.scheduler);
            }
            "del_service" => self.balancer.set_backends([], now),
            "sysctl" => drop(self.sysctl.insert(event.name.clone(), event.value)),
            "sleep" => {}
            "pick" => self.pick(event, now, input, outcome)?,
            "close" => {
                if let Some(entry) = self.entry(event.conn) {
                    let (balancer, entry) = entry;
                    let closed = balancer.deactivate(&mut entry.conn);
                    closed.map_err(|error| format!("{input}: {error}"))?;
                }
            }
            "touch" => {
                let listed = |kernel: &mut Self| {
                    let (balancer, entry) = kernel.entry(event.conn)?;
                    Some((entry.dest.clone(), balancer.is_listed(entry.conn.backend())))
                };
                let found = listed(self);
                outcome.compare(input, event.existed.to_string(), found.is_some().to_string());
                let delivered = found.filter(|(_, listed)| *listed).map(|(dest, _)| dest);
                outcome.compare(input, format!("{:?}", event.delivered), format!("{delivered:?}"));
            }
            "expired" => {
                for conn in &event.conns {
                    let at = self.conns.get(conn).copied();
                    if let Some(entry) = at.and_then(|at| self.entries[at].take()) {
                        let released = self.balancer.release(entry.conn);
                        released.map_err(|error| format!("{input}: {error}"))?;
                    }
                }
            }
            other => return Err(format!("{input}: unknown kind of event {other:?}")),
        }
        Ok(())
    }

    fn addr(&self, dest: &str) -> Result<SocketAddr, String> {
        self.addrs.get(dest).copied().ok_or_else(|| format!("unknown destination {dest:?}"))
    }

    fn entry(&mut self, conn: u64) -> Option<(&mut Balancer, &mut Entry)> {
        let entry = self.entries.get_mut(*self.conns.get(&conn)?)?.as_mut()?;
        Some((&mut self.balancer, entry))
    }

    fn pick(
        &mut self,
        event: &Event,
        now: Instant,
        input: &str,
        outcome: &mut Outcome,
    ) -> Result<(), String> {
        let (Some(client), Some(called)) = (event.client, event.dst) else {
            return Err(format!("{input}: expected client and dst"));
        };
        let flow = Flow::new(addr(client), addr(called));
        let tcp = self.service.proto == "tcp";
        let known = |entry: &Option<Entry>| entry.as_ref().is_some_and(|entry| entry.flow == flow);
        let at = self.entries.iter().rposition(known);
        // A new connection from the same port: the old entry is closed, and by default not used again.
        let reused = at.filter(|_| !tcp || self.sysctl.get("conn_reuse_mode") == Some(&0));
        outcome.compare(input, event.existing.to_string(), reused.is_some().to_string());
        let stale = |error| format!("{input}: {error}");
        let at = match reused {
            Some(at) => Some(at),
            None => self.balancer.pick(&flow, now).map(|conn| {
                let dest = self.names.get(&conn.addr()).cloned().unwrap_or_default();
                self.entries.push(Some(Entry { conn, dest, flow }));
                self.entries.len() - 1
            }),
        };
        let entry = at.and_then(|at| self.entries[at].as_mut());
        let dest = entry.as_ref().map(|entry| entry.dest.clone());
        outcome.compare(input, format!("{:?}", event.pick), format!("{dest:?}"));
        if let (Some(entry), true) = (entry, tcp) {
            self.balancer.activate(&mut entry.conn).map_err(stale)?;
            if event.server_refused {
                self.balancer.deactivate(&mut entry.conn).map_err(stale)?;
            }
        }
        self.conns.extend(at.map(|at| (event.conn, at)));
        // One packet, one connection.
        if self.service.ops {
            if let Some(entry) = at.and_then(|at| self.entries[at].take()) {
                self.balancer.release(entry.conn).map_err(stale)?;
            }
        }
        Ok(())
    }
}
