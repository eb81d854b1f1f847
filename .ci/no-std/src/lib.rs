//! The proof that the crate needs no standard library: this one has a panic handler and an allocator of its own, which would be there twice if
//! anything linked std.

#![no_std]

extern crate alloc;

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::net::SocketAddr;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicUsize, Ordering};

use svcplane::affinity::{Affinity, Scope};
use svcplane::backend::{Backend, Flow};
use svcplane::balancer::Balancer;
use svcplane::dns::{Config, RecordType, Zone};
use svcplane::endpoints::{Endpoint, EndpointPort, EndpointSet};
use svcplane::env;
use svcplane::ipam::IpRange;
use svcplane::labels::{Labels, Selector};
use svcplane::plan::{LocalNode, Mode, Packet, Plan};
use svcplane::sched::Algorithm;
use svcplane::service::{ClusterIps, Service, ServicePort};
use svcplane::time::Instant;

/// Hands out memory and takes none back.
struct Bump {
    memory: UnsafeCell<[u8; SIZE]>,
    used: AtomicUsize,
}

const SIZE: usize = 1 << 20;

// SAFETY: no two callers get the same bytes, as `used` only grows.
unsafe impl Sync for Bump {}

// SAFETY: what is handed out is within the memory, aligned, and never handed out again.
unsafe impl GlobalAlloc for Bump {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let base = self.memory.get() as usize;
        let place = |used: usize| (base + used).next_multiple_of(layout.align()) - base;
        let end = |used: usize| place(used).checked_add(layout.size()).filter(|end| *end <= SIZE);
        match self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, end) {
            // SAFETY: up to `end`, which is in the memory.
            Ok(used) => unsafe { self.memory.get().cast::<u8>().add(place(used)) },
            Err(_) => null_mut(),
        }
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static ALLOCATOR: Bump = Bump { memory: UnsafeCell::new([0; SIZE]), used: AtomicUsize::new(0) };

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// A Service with one endpoint, through all that there is without features: 0 if it comes out as it should.
#[unsafe(no_mangle)]
pub extern "C" fn svcplane_no_std() -> u32 {
    u32::from(through().is_none())
}

fn through() -> Option<()> {
    let mut range = IpRange::new("10.96.0.0/28".parse().ok()?, 1).ok()?;
    let mut service = Service::new("default/redis".parse().ok()?);
    service.selector = Labels::from_iter([("app", "redis")]);
    let selector: Selector = "app in (redis, valkey)".parse().ok()?;
    service.cluster_ips = ClusterIps::Assigned(alloc::vec![range.allocate_next().ok()?]);
    service.ports.push(ServicePort::new(6379));
    let mut endpoint = Endpoint::new("10.0.0.7".parse().ok()?);
    endpoint.conditions.ready = true;
    endpoint.ports = [EndpointPort::new(6379)].into();
    let endpoints = EndpointSet::new(service.name.clone(), [endpoint]);

    let node = LocalNode::new("node".parse().ok()?);
    let plan = Plan::new(&node, Mode::Userspace, [(&service, &endpoints)]);
    let client: SocketAddr = "10.0.0.1:40000".parse().ok()?;
    let called = SocketAddr::new(service.cluster_ips.as_slice()[0], 6379);
    let packet = Packet::new(svcplane::net::Protocol::Tcp, client.ip(), called);
    let explained = alloc::format!("{}", plan.explain(&packet));

    let mut zone = Zone::new("cluster.local".parse().ok()?, Config::default());
    zone.upsert(&service, &endpoints);
    let name: svcplane::dns::NameBuf = "redis.default.svc.cluster.local".parse().ok()?;
    let answers = zone.answer(name.name(), RecordType::A, 0).answers().len();

    let now = Instant::ZERO;
    let mut balancer = Balancer::new(Algorithm::MaglevHashing, 7);
    balancer.add(Backend::new("10.0.0.7:6379".parse().ok()?), now);
    let mut table = Affinity::new(10, 7);
    let scope = Scope::new(0, core::time::Duration::from_secs(60));
    let flow = Flow::new(client, called);
    let conn = balancer.with_affinity(&mut table, scope).pick(&flow, now)?;
    balancer.release(conn).ok()?;

    let right = selector.matches(&service.selector)
        && answers == 1
        && env::vars([&service]).len() == 7
        && explained.contains("10.0.0.7")
        && rules(&plan)?;
    right.then_some(())
}

/// And what features add.
fn rules(plan: &Plan) -> Option<bool> {
    let _ = plan;
    #[cfg(feature = "serde")]
    {
        let text = r#"{"metadata": {"namespace": "default", "name": "redis"}, "spec": {}}"#;
        let mirror: svcplane::k8s::Service = serde_json::from_str(text).ok()?;
        if mirror.convert().ok()?.object.name.as_str() != "default/redis" {
            return None;
        }
    }
    #[cfg(feature = "nftables")]
    if svcplane::nftables::compile(plan, &svcplane::nftables::Config::default()).is_empty() {
        return None;
    }
    #[cfg(feature = "iptables")]
    {
        let family = svcplane::net::IpFamily::V4;
        let config = svcplane::iptables::Config::default();
        if svcplane::iptables::compile(plan, family, &config).is_empty() {
            return None;
        }
    }
    Some(true)
}
