//! Persistence templates: which backend the kernel's IPVS keeps a client with, and for how long.
//!
//! A template is made by a client's first connection. Those that come after it go where the template says, while its timer runs;
//! each one starts the timer anew. The template *controls* the connections that were made through it: while one of them is there,
//! the template stays.
//!
//! The table belongs to the caller, who lends it to the balancer whose backends it names
//! ([`Balancer::with_templates`](crate::balancer::Balancer::with_templates)). It can be read at any time; only the balancer, which
//! counts templates, changes it.
//!
//! Source: Linux IPVS, 6.1. `DIFFERENCE`: the kernel's timer wheel lets long timers end up to an eighth late; these end on time.
//! Its table takes all that memory holds; this one is [bounded](Templates::new).
//!
//! Every call is O(log n), but for the growth of the table. A template takes some 150 bytes.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::fmt;
use core::hash::{BuildHasher, Hash};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;

use hashbrown::HashTable;
use siphasher::sip::SipHasher13;
use thiserror::Error;

use crate::backend::{BackendId, Flow};
use crate::net::Protocol;
use crate::time::Instant;

/// What is to be persistent: the options of a service that the kernel makes its templates by.
///
/// ```
/// use std::time::Duration;
/// use svcplane::affinity::{Persistence, VirtualService};
/// use svcplane::backend::Flow;
/// use svcplane::net::Protocol;
///
/// // ipvsadm -A -t 10.96.0.10:80 -p 360 -M 255.255.255.0
/// let web = VirtualService::Address { protocol: Protocol::Tcp, port: 80 };
/// let mut persistence = Persistence::new(web, Duration::from_secs(360));
/// persistence.netmask = "255.255.255.0".parse()?;
///
/// let flow = Flow::new("192.0.2.7:40000".parse()?, "10.96.0.10:80".parse()?);
/// assert_eq!(persistence.key(&flow).client.to_string(), "192.0.2.0");
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Persistence {
    /// What clients call.
    pub service: VirtualService,
    /// How long a template lasts from its last new connection; the kernel takes whole seconds. Another one matters to templates
    /// made from then on: those that are there keep theirs.
    pub timeout: Duration,
    /// IPv4 clients that agree in these bits share a template. Defaults to 255.255.255.255.
    pub netmask: Ipv4Addr,
    /// IPv6 clients that agree in so many leading bits share a template; more than 128 is as 128. The kernel refuses 0, by which
    /// all clients share one. Defaults to 128.
    pub prefix_len: u8,
    /// The kernel's `expire_quiescent_template`: a template whose backend has weight 0 is not heeded. Defaults to false: clients go
    /// on to a backend that drains.
    pub expire_quiescent: bool,
}

/// What clients call, as far as templates tell it apart.
#[expect(clippy::exhaustive_enums, reason = "the kernel has these two")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VirtualService {
    /// A service of a protocol and port, at whatever address the flow calls.
    Address {
        /// Its protocol.
        protocol: Protocol,
        /// Its port. 0 is a service of all ports, where a client has one template for all of them. So it has for 21, FTP, whose
        /// data connections come to other ports.
        port: u16,
    },
    /// What a firewall has marked so: a client has one template for all addresses, ports and protocols.
    Mark(u32),
}

/// What the connections that share a template have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct TemplateKey {
    /// The protocol; `None` with a mark.
    pub protocol: Option<Protocol>,
    /// The client's address, masked.
    pub client: IpAddr,
    /// The address or the mark that was called.
    pub destination: VirtualAddress,
    /// The port that was called, 0 for all.
    pub port: u16,
}

/// The address that clients call, or the mark that stands for it.
#[expect(clippy::exhaustive_enums, reason = "the kernel has these two")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VirtualAddress {
    /// An address.
    Ip(IpAddr),
    /// A firewall's mark.
    Mark(u32),
}

const FTP: u16 = 21;

impl Persistence {
    /// Persistence of single clients.
    pub const fn new(service: VirtualService, timeout: Duration) -> Self {
        let netmask = Ipv4Addr::BROADCAST;
        Self { service, timeout, netmask, prefix_len: 128, expire_quiescent: false }
    }

    /// The key of the template that a flow shares. An IPv4-mapped address is its IPv4 address.
    pub fn key(&self, flow: &Flow) -> TemplateKey {
        let client = match flow.client.ip().to_canonical() {
            IpAddr::V4(ip) => IpAddr::V4(ip & self.netmask),
            IpAddr::V6(ip) => {
                let host = u128::MAX.checked_shr(self.prefix_len.into()).unwrap_or(0);
                IpAddr::V6(ip & Ipv6Addr::from_bits(!host))
            }
        };
        let called = flow.destination;
        match self.service {
            VirtualService::Address { protocol, port } => TemplateKey {
                protocol: Some(protocol),
                client,
                destination: VirtualAddress::Ip(called.ip().to_canonical()),
                port: if called.port() == port && port != FTP { port } else { 0 },
            },
            VirtualService::Mark(mark) => {
                let destination = VirtualAddress::Mark(mark);
                TemplateKey { protocol: None, client, destination, port: 0 }
            }
        }
    }
}

/// A template: where a client's connections go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Template {
    key: TemplateKey,
    backend: BackendId,
    timeout: Duration,
    expires: Instant,
    connections: u32,
    valid: bool,
    assured: bool,
}

impl Template {
    /// Which connections it is for.
    pub const fn key(&self) -> TemplateKey {
        self.key
    }

    /// Where they go.
    pub const fn backend(&self) -> BackendId {
        self.backend
    }

    /// What its timer is set to by each new connection: what the service had when it was made, or 60 s once its timer has ended
    /// with connections there.
    pub const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// When its timer ends; [`Instant::MAX`] is never.
    pub const fn expires(&self) -> Instant {
        self.expires
    }

    /// How many connections it controls: those made through it that are still there.
    pub const fn connections(&self) -> u32 {
        self.connections
    }

    /// Whether a new connection can find it. One that was found to lead nowhere cannot be found any more, even if its backend comes
    /// back, but counts until its timer ends.
    pub const fn is_valid(&self) -> bool {
        self.valid
    }

    /// The kernel's state: `ASSURED` once a connection through it was established, else `NONE`. It decides nothing here; the kernel
    /// drops those that are not assured sooner when it runs out of memory.
    pub const fn is_assured(&self) -> bool {
        self.assured
    }

    const fn is_due(&self, now: Instant) -> bool {
        self.expires.as_nanos() <= now.as_nanos() && self.expires.as_nanos() < u64::MAX
    }
}

/// A handle on a template of one table, good until the template is gone. After that it is an error value, never another template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TemplateId {
    index: u32,
    generation: u32,
}

/// The id belongs to no template of this table that controls a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("stale template id {id:?}: expected one of this table that controls the connection")]
#[non_exhaustive]
pub struct StaleTemplate {
    /// The id that was given.
    pub id: TemplateId,
}

/// A bounded table of the templates of one balancer.
#[derive(Clone)]
pub struct Templates {
    capacity: usize,
    keys: (u64, u64),
    /// The slots of the valid ones.
    index: HashTable<u32>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Those that control connections, by the end of their timers, which put them off.
    busy: BTreeSet<(Instant, u32)>,
    /// The rest, by the end of their timers, which end them.
    idle: BTreeSet<(Instant, u32)>,
}

#[derive(Clone)]
struct Slot {
    generation: u32,
    template: Option<Template>,
}

/// What a template gets when its timer ends with connections there.
const PUT_OFF: Duration = Duration::from_secs(60);

impl Templates {
    /// An empty table for at most `capacity` templates (at least 1, at most 2³²−2), with a hash keyed by `seed`, which should be
    /// secret.
    ///
    /// When it is full, the template whose timer ends first of those that control no connection makes room; if there is none, new
    /// clients' connections are made without a template.
    pub fn new(capacity: usize, seed: u64) -> Self {
        Self {
            capacity: capacity.clamp(1, u32::MAX as usize - 1),
            keys: (seed, !seed),
            index: HashTable::new(),
            slots: Vec::new(),
            free: Vec::new(),
            busy: BTreeSet::new(),
            idle: BTreeSet::new(),
        }
    }

    /// The valid template with a key, if there is one. Its timer may have ended and this not have been noticed, if no call was
    /// given the time.
    pub fn find(&self, key: &TemplateKey) -> Option<TemplateId> {
        let same = |&at: &u32| self.at(at).is_some_and(|template| template.key == *key);
        self.index.find(self.hash(key), same).map(|&at| self.id(at))
    }

    /// A template; `None` once it is gone.
    pub fn get(&self, id: TemplateId) -> Option<&Template> {
        self.at(self.index(id)?)
    }

    /// All templates with their handles, those that are not valid included, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (TemplateId, &Template)> {
        let slots = (0..).zip(&self.slots);
        slots.filter_map(|(at, slot)| Some((self.id(at), slot.template.as_ref()?)))
    }

    /// How many templates there are, those that are not valid included.
    pub fn len(&self) -> usize {
        self.busy.len() + self.idle.len()
    }

    /// Whether there is no template.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The greatest number of templates.
    pub const fn capacity(&self) -> usize {
        self.capacity
    }

    /// When the next timer ends.
    pub fn next_expiry(&self) -> Option<Instant> {
        let ends = [self.busy.first(), self.idle.first()].into_iter().flatten();
        ends.map(|&(end, _)| end).min().filter(|&end| end < Instant::MAX)
    }

    /// Makes a template, of which there is none with the key. There has to be [room](Self::make_room).
    pub(crate) fn insert(
        &mut self,
        key: TemplateKey,
        backend: BackendId,
        timeout: Duration,
        now: Instant,
    ) -> TemplateId {
        let expires = now + timeout;
        let made = Template {
            key,
            backend,
            timeout,
            expires,
            connections: 0,
            valid: true,
            assured: false,
        };
        let at = if let Some(at) = self.free.pop() {
            self.slots[at as usize].template = Some(made);
            at
        } else {
            // Fits: the capacity is less than that.
            let at = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
            self.slots.push(Slot { generation: 0, template: Some(made) });
            at
        };
        let (keyed, slots) = (Keyed(self.keys), &self.slots);
        let hash = |at: &u32| slots[*at as usize].template.map_or(0, |one| keyed.hash_one(one.key));
        self.index.insert_unique(keyed.hash_one(key), at, hash);
        self.idle.insert((expires, at));
        self.id(at)
    }

    /// Drops a template if the table is full; its backend if so. False if none can be dropped.
    pub(crate) fn make_room(&mut self) -> (bool, Option<BackendId>) {
        if self.len() < self.capacity {
            return (true, None);
        }
        let dropped = self.idle.first().copied().and_then(|(_, at)| self.drop_template(at));
        (dropped.is_some(), dropped)
    }

    /// One more connection through a template; its timer starts anew.
    pub(crate) fn control(&mut self, id: TemplateId, now: Instant) {
        self.change(id, |template| {
            template.connections = template.connections.saturating_add(1);
            template.expires = now + template.timeout;
        });
    }

    /// A connection through a template is over.
    pub(crate) fn uncontrol(&mut self, id: TemplateId) -> Result<(), StaleTemplate> {
        let controls = self.get(id).is_some_and(|template| template.connections > 0);
        self.change(id, |template| template.connections = template.connections.saturating_sub(1));
        if controls { Ok(()) } else { Err(StaleTemplate { id }) }
    }

    /// A connection through a template was established.
    pub(crate) fn assure(&mut self, id: TemplateId) -> Result<(), StaleTemplate> {
        let template = self.index(id).and_then(|at| self.slots[at as usize].template.as_mut());
        let controls = template.filter(|template| template.connections > 0);
        controls.ok_or(StaleTemplate { id })?.assured = true;
        Ok(())
    }

    /// No new connection finds the template from now on.
    pub(crate) fn invalidate(&mut self, id: TemplateId) {
        if let Some(at) = self.index(id) {
            self.unindex(at);
            if let Some(template) = &mut self.slots[at as usize].template {
                template.valid = false;
            }
        }
    }

    /// A template whose timer has ended.
    pub(crate) fn first_due(&self, now: Instant) -> Option<TemplateId> {
        let due = |&&(end, _): &&(Instant, u32)| end <= now && end < Instant::MAX;
        let first = self.idle.first().filter(due).or_else(|| self.busy.first().filter(due));
        first.map(|&(_, at)| self.id(at))
    }

    /// If the template's timer has ended, puts it off, or else drops it: then its backend.
    pub(crate) fn run_timer(&mut self, id: TemplateId, now: Instant) -> Option<BackendId> {
        let template = self.get(id).filter(|template| template.is_due(now))?;
        if template.connections == 0 {
            return self.drop_template(id.index);
        }
        // As often as it would have been put off by now.
        let late = now.saturating_duration_since(template.expires).as_nanos();
        let times = u32::try_from(late / PUT_OFF.as_nanos() + 1).unwrap_or(u32::MAX);
        self.change(id, |template| {
            template.timeout = PUT_OFF;
            template.expires += PUT_OFF.saturating_mul(times);
        });
        None
    }

    fn change(&mut self, id: TemplateId, change: impl FnOnce(&mut Template)) {
        let Some(at) = self.index(id) else { return };
        let Some(template) = &mut self.slots[at as usize].template else { return };
        let timers = |template: &Template| template.connections > 0;
        let (was_busy, was) = (timers(template), template.expires);
        change(template);
        let (is_busy, is) = (timers(template), template.expires);
        if (was_busy, was) != (is_busy, is) {
            self.timers(was_busy).remove(&(was, at));
            self.timers(is_busy).insert((is, at));
        }
    }

    const fn timers(&mut self, busy: bool) -> &mut BTreeSet<(Instant, u32)> {
        if busy { &mut self.busy } else { &mut self.idle }
    }

    fn drop_template(&mut self, at: u32) -> Option<BackendId> {
        self.unindex(at);
        let slot = self.slots.get_mut(at as usize)?;
        let template = slot.template.take()?;
        // A slot whose generations are used up is retired, so that no id ever comes round again.
        if let Some(next) = slot.generation.checked_add(1) {
            slot.generation = next;
            if next < u32::MAX {
                self.free.push(at);
            }
        }
        self.timers(template.connections > 0).remove(&(template.expires, at));
        Some(template.backend)
    }

    fn unindex(&mut self, at: u32) {
        let Some(key) = self.at(at).filter(|template| template.valid).map(Template::key) else {
            return;
        };
        if let Ok(found) = self.index.find_entry(self.hash(&key), |&other| other == at) {
            found.remove();
        }
    }

    fn at(&self, at: u32) -> Option<&Template> {
        self.slots.get(at as usize)?.template.as_ref()
    }

    /// The slot of a template that is there.
    fn index(&self, id: TemplateId) -> Option<u32> {
        let slot = self.slots.get(id.index as usize)?;
        (slot.generation == id.generation && slot.template.is_some()).then_some(id.index)
    }

    fn id(&self, index: u32) -> TemplateId {
        let generation = self.slots.get(index as usize).map_or(u32::MAX, |slot| slot.generation);
        TemplateId { index, generation }
    }

    fn hash(&self, key: &TemplateKey) -> u64 {
        Keyed(self.keys).hash_one(key)
    }
}

impl fmt::Debug for Templates {
    /// Neither the clients nor the hash's key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Templates")
            .field("len", &self.len())
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}

struct Keyed((u64, u64));

impl BuildHasher for Keyed {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.0.0, self.0.1)
    }
}
