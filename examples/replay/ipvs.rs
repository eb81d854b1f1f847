//! What a kernel's IPVS did with one service: picks, its templates, and its counts before and after.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use svcplane::affinity::{Persistence, Template, Templates, VirtualAddress, VirtualService};
use svcplane::backend::{Backend, Flow};
use svcplane::balancer::{Balancer, Controlled, Persistent, StaleConnection};
use svcplane::net::Protocol;
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
    vport: u16,
    fwmark: u32,
    scheduler: String,
    flags: Vec<String>,
    persistent_s: u64,
    netmask: Option<String>,
    ops: bool,
}

#[derive(Deserialize)]
struct Dest {
    addr: IpAddr,
    port: u16,
}

/// Destination, weight, active, inactive, persistent connections.
type State = Vec<(String, u32, u32, u32, u32)>;

/// Client, virtual address and port, destination, state.
type Listed = (IpAddr, IpAddr, u16, String, String);

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
    half_open: bool,
    before: Option<State>,
    after: Option<State>,
    templates: Option<Vec<Listed>>,
    scheduler: String,
    flags: Vec<String>,
    persistent_s: u64,
    netmask: Option<String>,
    ops: bool,
}

/// An entry of the kernel's connection table.
struct Entry {
    conn: Controlled,
    dest: String,
    flow: Flow,
}

struct Kernel {
    balancer: Balancer,
    templates: Templates,
    service: Service,
    sysctl: BTreeMap<String, i64>,
    names: BTreeMap<SocketAddr, String>,
    addrs: BTreeMap<String, SocketAddr>,
    entries: Vec<Option<Entry>>,
    /// The entry of each recorded connection.
    conns: BTreeMap<u64, usize>,
    /// When the last event was.
    last: Instant,
}

pub(crate) fn replay(recorded: Value) -> Result<Outcome, String> {
    let recorded: Recorded =
        serde_json::from_value(recorded).map_err(|error| format!("not an IPVS trace: {error}"))?;
    let algorithm = algorithm(&recorded.service.scheduler)?;
    let mut kernel = Kernel {
        balancer: Balancer::with_flags(algorithm, flags(&recorded.service.flags), 0),
        templates: Templates::new(10_000, 0),
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
        last: Instant::ZERO,
        service: recorded.service,
    };
    let mut outcome = Outcome::default();
    let (mut picks, mut states, mut templates) = (0, 0, 0);
    for (i, event) in recorded.events.iter().enumerate() {
        let input = format!("event {i} ({} at {} ms)", event.op, event.t_ms);
        kernel.expire(event, &input)?;
        if let Some(listed) = &event.templates {
            templates += listed.len();
            outcome.compare(&input, listing(listed.clone()), listing(kernel.listed()));
        }
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
    let persistent = if templates > 0 { format!(", {templates} templates") } else { String::new() };
    let scheduler = &kernel.service.scheduler;
    outcome.compared = format!("{picks} picks of {scheduler}, {states} states{persistent}");
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

fn listing(mut templates: Vec<Listed>) -> String {
    templates.sort();
    let one = |(client, address, port, dest, state): &Listed| {
        format!("{client} {address} {port} {dest} {state}")
    };
    templates.iter().map(one).collect::<Vec<_>>().join(", ")
}

impl Service {
    fn persistence(&self) -> Result<Option<Persistence>, String> {
        if self.persistent_s == 0 {
            return Ok(None);
        }
        let protocol = match self.proto.as_str() {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            other => return Err(format!("unknown protocol {other:?}")),
        };
        let service = match self.fwmark {
            0 => VirtualService::Address { protocol, port: self.vport },
            mark => VirtualService::Mark(mark),
        };
        let mut persistence = Persistence::new(service, Duration::from_secs(self.persistent_s));
        if let Some(netmask) = &self.netmask {
            match (netmask.parse(), netmask.parse()) {
                (Ok(netmask), _) => persistence.netmask = netmask,
                (_, Ok(length)) => persistence.prefix_len = length,
                _ => return Err(format!("netmask {netmask:?}: expected a mask or a length")),
            }
        }
        Ok(Some(persistence))
    }
}

impl Kernel {
    fn state(&self) -> State {
        let dest = |(id, entry): (_, &svcplane::sched::Entry)| {
            let name = self.names.get(&entry.addr()).cloned().unwrap_or_default();
            let persistent = self.balancer.persistent(id);
            (name, entry.weight(), entry.active(), entry.inactive(), persistent)
        };
        self.balancer.iter().map(dest).collect()
    }

    fn listed(&self) -> Vec<Listed> {
        let one = |template: &Template| {
            let key = template.key();
            let address = match key.destination {
                VirtualAddress::Ip(ip) => ip,
                VirtualAddress::Mark(mark) => Ipv4Addr::from_bits(mark).into(),
            };
            let backend = self.balancer.get(template.backend());
            let dest = backend.and_then(|entry| self.names.get(&entry.addr()));
            let state = if template.is_assured() { "ASSURED" } else { "NONE" };
            (key.client, address, key.port, dest.cloned().unwrap_or_default(), state.to_owned())
        };
        let templates = self.templates.iter().map(|(_, template)| template);
        templates.filter(|template| template.is_valid()).map(one).collect()
    }

    fn persistent(&mut self) -> Result<Persistent<'_>, String> {
        let mut persistence = self.service.persistence()?;
        if let Some(persistence) = &mut persistence {
            let quiescent = self.sysctl.get("expire_quiescent_template");
            persistence.expire_quiescent = quiescent.is_some_and(|&value| value != 0);
        }
        Ok(self.balancer.with_templates(&mut self.templates, persistence))
    }

    /// Connections and templates that have ended since the last event. Which ended when is not recorded: connections ended soon after
    /// that.
    fn expire(&mut self, event: &Event, input: &str) -> Result<(), String> {
        let now = Instant::from_nanos(event.t_ms.saturating_mul(1_000_000));
        for conn in &event.conns {
            let at = self.conns.get(conn).copied();
            if let Some(entry) = at.and_then(|at| self.entries[at].take()) {
                let last = self.last;
                let released = self.persistent()?.release(entry.conn, last);
                released.map_err(|error| format!("{input}: {error}"))?;
            }
        }
        self.persistent()?.expire(now);
        self.last = now;
        Ok(())
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
                self.service.persistent_s = event.persistent_s;
                self.service.netmask.clone_from(&event.netmask);
                let flags = flags(&event.flags);
                self.balancer.set_algorithm(algorithm(&event.scheduler)?, flags, 0);
                self.service.scheduler.clone_from(&event.scheduler);
            }
            "del_service" => self.balancer.set_backends([], now),
            "sysctl" => drop(self.sysctl.insert(event.name.clone(), event.value)),
            "sleep" | "expired" => {}
            "pick" => self.pick(event, now, input, outcome)?,
            "close" => {
                if let Some(at) = self.conns.get(&event.conn).copied() {
                    self.with_entry(at, input, |persistent, entry| {
                        Ok(persistent.deactivate(&mut entry.conn)?)
                    })?;
                }
            }
            "touch" => {
                let at = self.conns.get(&event.conn).copied();
                let entry = at.and_then(|at| self.entries.get(at)?.as_ref());
                let found = entry.map(|entry| {
                    (entry.dest.clone(), self.balancer.is_listed(entry.conn.backend()))
                });
                outcome.compare(input, event.existed.to_string(), found.is_some().to_string());
                let delivered = found.filter(|(_, listed)| *listed).map(|(dest, _)| dest);
                outcome.compare(input, format!("{:?}", event.delivered), format!("{delivered:?}"));
            }
            other => return Err(format!("{input}: unknown kind of event {other:?}")),
        }
        Ok(())
    }

    fn addr(&self, dest: &str) -> Result<SocketAddr, String> {
        self.addrs.get(dest).copied().ok_or_else(|| format!("unknown destination {dest:?}"))
    }

    fn with_entry(
        &mut self,
        at: usize,
        input: &str,
        then: impl FnOnce(&mut Persistent<'_>, &mut Entry) -> Result<(), StaleConnection>,
    ) -> Result<(), String> {
        let Some(mut entry) = self.entries.get_mut(at).and_then(Option::take) else {
            return Ok(());
        };
        let done = then(&mut self.persistent()?, &mut entry);
        self.entries[at] = Some(entry);
        done.map_err(|error| format!("{input}: {error}"))
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
        // A new connection from the same port: the old entry is closed, and by default not used again, unless it is a template's.
        let reuse = self.sysctl.get("conn_reuse_mode") == Some(&0);
        let controlled = |at: usize| {
            let entry = self.entries[at].as_ref();
            entry.is_some_and(|entry| entry.conn.template().is_some())
        };
        let reused = at.filter(|&at| !tcp || reuse || controlled(at));
        outcome.compare(input, event.existing.to_string(), reused.is_some().to_string());
        let at = match reused {
            Some(at) => Some(at),
            // Only a persistent service of all ports schedules.
            None if (self.service.vport, self.service.fwmark, self.service.persistent_s)
                == (0, 0, 0) =>
            {
                None
            }
            None => self.persistent()?.pick(&flow, now).map(|conn| {
                let dest = self.names.get(&conn.addr()).cloned().unwrap_or_default();
                self.entries.push(Some(Entry { conn, dest, flow }));
                self.entries.len() - 1
            }),
        };
        let dest = at.and_then(|at| Some(self.entries[at].as_ref()?.dest.clone()));
        outcome.compare(input, format!("{:?}", event.pick), format!("{dest:?}"));
        let Some(at) = at else { return Ok(()) };
        self.conns.insert(event.conn, at);
        if tcp {
            self.with_entry(at, input, |persistent, Entry { conn, .. }| {
                match (event.half_open, event.server_refused) {
                    (false, false) => persistent.established(conn),
                    (_, false) => Ok(persistent.activate(conn)?),
                    (_, true) => {
                        persistent.activate(conn)?;
                        Ok(persistent.deactivate(conn)?)
                    }
                }
            })?;
        }
        // One packet, one connection.
        if self.service.ops {
            if let Some(entry) = self.entries[at].take() {
                let released = self.persistent()?.release(entry.conn, now);
                released.map_err(|error| format!("{input}: {error}"))?;
            }
        }
        Ok(())
    }
}
