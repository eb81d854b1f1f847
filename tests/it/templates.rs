//! The kernel's persistence rule by rule, and under random operations against them written naively.
//!
//! Source of the rules: Linux 6.1.176, `net/netfilter/ipvs/ip_vs_core.c` (`ip_vs_sched_persist`), `ip_vs_conn.c` (`ip_vs_check_template`,
//! `ip_vs_conn_expire`, `ip_vs_bind_dest`, `ip_vs_unbind_dest`) and `ip_vs_ctl.c` (the trash), as observed; the recordings that show them are in
//! `tests/data/ipvs/persist-*.json`.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use proptest::prelude::*;
use svcplane::affinity::{Persistence, Template, TemplateId, Templates, VirtualService};
use svcplane::backend::{Backend, BackendId, Flow};
use svcplane::balancer::{Balancer, Controlled, Persistent, StaleConnection};
use svcplane::net::Protocol;
use svcplane::sched::{Algorithm, Flags};
use svcplane::time::Instant;

use crate::templates_model::{Both, Op, Wanted, dest};

const TCP_80: VirtualService = VirtualService::Address { protocol: Protocol::Tcp, port: 80 };
const TCP_0: VirtualService = VirtualService::Address { protocol: Protocol::Tcp, port: 0 };
const FTP: VirtualService = VirtualService::Address { protocol: Protocol::Tcp, port: 21 };
const UDP_80: VirtualService = VirtualService::Address { protocol: Protocol::Udp, port: 80 };

const A: u8 = 1;
const B: u8 = 2;
const C: u8 = 3;

/// A, B and C, of which `rr` walks C first.
struct Setting {
    balancer: Balancer,
    templates: Templates,
    persistence: Option<Persistence>,
    now: Instant,
}

impl Setting {
    fn new(timeout_s: u64) -> Self {
        let mut balancer = Balancer::with_flags(Algorithm::RoundRobin, Flags::KERNEL, 0);
        for number in [A, B, C] {
            balancer.add(Backend::new(dest(number)), Instant::ZERO);
        }
        let persistence = Persistence::new(TCP_80, Duration::from_secs(timeout_s));
        let templates = Templates::new(100, 1);
        Self { balancer, templates, persistence: Some(persistence), now: Instant::ZERO }
    }

    fn lent(&mut self) -> Persistent<'_> {
        self.balancer.with_templates(&mut self.templates, self.persistence)
    }

    fn options(&mut self) -> &mut Persistence {
        self.persistence.as_mut().expect("it is on")
    }

    fn wait(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    fn connect(&mut self, client: u8) -> Option<Controlled> {
        let now = self.now;
        self.lent().pick(&flow(client), now)
    }

    /// Where a client goes; the connection is held.
    fn hold(&mut self, client: u8) -> (u8, Controlled) {
        let conn = self.connect(client).expect("a backend");
        (number(conn.addr()), conn)
    }

    /// Where a client goes; the connection is over at once.
    fn pick(&mut self, client: u8) -> Option<u8> {
        let conn = self.connect(client)?;
        let addr = conn.addr();
        self.release(conn);
        Some(number(addr))
    }

    fn release(&mut self, conn: Controlled) {
        let now = self.now;
        self.lent().release(conn, now).expect("both are there");
    }

    fn expire(&mut self) {
        let now = self.now;
        self.lent().expire(now);
    }

    fn id(&self, number: u8) -> BackendId {
        self.balancer.find(dest(number)).expect("remembered")
    }

    fn edit(&mut self, number: u8, change: impl FnOnce(Backend) -> Backend) {
        let id = self.id(number);
        self.balancer.edit(id, change).expect("listed");
    }

    fn remove(&mut self, number: u8) {
        let (id, now) = (self.id(number), self.now);
        self.balancer.remove(id, now).expect("listed");
    }

    fn add(&mut self, number: u8) {
        self.balancer.add(Backend::new(dest(number)), self.now);
    }

    fn persistent(&self, number: u8) -> u32 {
        self.balancer.persistent(self.id(number))
    }

    fn overloaded(&self, number: u8) -> bool {
        self.balancer.get(self.id(number)).expect("remembered").overloaded()
    }

    /// The only template that a client has.
    fn template(&self, client: u8) -> Template {
        let (_, template) = self.found(client);
        template
    }

    fn found(&self, client: u8) -> (TemplateId, Template) {
        let key = self.persistence.expect("it is on").key(&flow(client));
        let id = self.templates.find(&key).expect("a template");
        (id, *self.templates.get(id).expect("it was found"))
    }

    /// How long a client's template lasts from now.
    fn rest(&self, client: u8) -> u64 {
        self.template(client).expires().saturating_duration_since(self.now).as_secs()
    }
}

fn number(addr: SocketAddr) -> u8 {
    [A, B, C].into_iter().find(|&number| dest(number) == addr).expect("one of them")
}

fn flow(client: u8) -> Flow {
    Flow::new(([10, 1, 0, client + 1], 40_000).into(), ([10, 255, 0, 1], 80).into())
}

fn parse(client: &str, called: &str) -> Flow {
    Flow::new(client.parse().expect("an address"), called.parse().expect("an address"))
}

/// Recorded: `persist-ipv6-64`, `persist-fwmark`, and, for one address, all others.
#[test]
fn a_template_is_by_protocol_masked_client_address_and_port() {
    let hosts = (Ipv4Addr::BROADCAST, 128);
    let nets = (Ipv4Addr::new(255, 255, 255, 0), 64);
    let odd = (Ipv4Addr::new(255, 0, 0, 255), 1);
    let (one, near, far) = ("192.0.2.7:1", "192.0.2.8:2", "192.0.3.7:3");
    let (six, six_near, six_far) = ("[2001:db8::1]:1", "[2001:db8::2]:2", "[2001:db8:0:1::1]:3");
    let (web, tls, other) = ("10.96.0.1:80", "10.96.0.1:443", "10.96.0.2:80");
    let mark = VirtualService::Mark;
    for (ours, theirs, masks, shared) in [
        // The client's port is not in it.
        ((TCP_80, one, web), (TCP_80, "192.0.2.7:9", web), hosts, true),
        ((TCP_80, one, web), (TCP_80, near, web), hosts, false),
        ((TCP_80, one, web), (TCP_80, near, web), nets, true),
        ((TCP_80, one, web), (TCP_80, far, web), nets, false),
        // A mask is bits, wherever they are.
        ((TCP_80, one, web), (TCP_80, far, web), odd, true),
        ((TCP_80, one, web), (TCP_80, near, web), odd, false),
        ((TCP_80, six, web), (TCP_80, six_near, web), hosts, false),
        ((TCP_80, six, web), (TCP_80, six_near, web), nets, true),
        ((TCP_80, six, web), (TCP_80, six_far, web), nets, false),
        ((TCP_80, six, web), (TCP_80, "[7fff::]:1", web), odd, true),
        ((TCP_80, six, web), (TCP_80, "[8000::]:1", web), odd, false),
        ((TCP_80, one, web), (TCP_80, "[::ffff:192.0.2.7]:1", web), hosts, true),
        ((TCP_80, one, web), (TCP_80, one, other), hosts, false),
        ((TCP_80, one, web), (UDP_80, one, web), hosts, false),
        // All ports of one address, but not other addresses or protocols.
        ((TCP_0, one, web), (TCP_0, one, tls), hosts, true),
        ((TCP_0, one, web), (TCP_0, one, other), hosts, false),
        ((TCP_0, one, web), (TCP_80, one, web), hosts, false),
        // FTP's control and data connections: its virtual port is 0, as that of a service of all ports.
        ((FTP, one, "10.96.0.1:21"), (FTP, one, "10.96.0.1:20"), hosts, true),
        ((FTP, one, "10.96.0.1:21"), (FTP, one, "10.96.0.1:50000"), hosts, true),
        ((FTP, one, "10.96.0.1:21"), (FTP, one, "10.96.0.2:21"), hosts, false),
        ((FTP, one, "10.96.0.1:21"), (TCP_0, one, web), hosts, true),
        ((TCP_0, one, "10.96.0.1:21"), (TCP_0, one, web), hosts, true),
        // A mark stands for addresses, ports and protocols.
        ((mark(5), one, web), (mark(5), one, "10.201.0.1:443"), hosts, true),
        ((mark(5), one, web), (mark(5), near, web), nets, true),
        ((mark(5), one, web), (mark(5), near, web), hosts, false),
        ((mark(5), one, web), (mark(6), one, web), hosts, false),
        ((mark(5), one, "0.0.0.5:0"), (TCP_0, one, "0.0.0.5:0"), hosts, false),
    ] {
        let key = |(service, client, called): (VirtualService, &str, &str)| {
            let mut persistence = Persistence::new(service, Duration::from_secs(1));
            (persistence.netmask, persistence.prefix_len) = masks;
            persistence.key(&parse(client, called))
        };
        assert_eq!(key(ours) == key(theirs), shared, "{ours:?} {theirs:?} {masks:?}");
    }
}

#[test]
fn masks_of_any_length_are_taken() {
    for (len, client) in [(0, "::"), (64, "2001:db8::"), (128, "2001:db8::9"), (255, "2001:db8::9")]
    {
        let mut persistence = Persistence::new(TCP_80, Duration::ZERO);
        persistence.prefix_len = len;
        persistence.netmask = Ipv4Addr::UNSPECIFIED;
        assert_eq!(
            persistence.key(&parse("[2001:db8::9]:1", "[::1]:80")).client.to_string(),
            client
        );
        assert_eq!(
            persistence.key(&parse("192.0.2.1:1", "[::1]:80")).client.to_string(),
            "0.0.0.0"
        );
    }
}

/// Recorded: `persist-rr-udp`.
#[test]
fn a_good_template_is_followed_and_the_scheduler_not_asked() {
    let mut setting = Setting::new(300);
    let picks: Vec<_> = [0, 0, 1, 0, 1, 2, 0].map(|client| setting.pick(client)).into();
    assert_eq!(picks, [C, C, B, C, B, A, C].map(Some));
    assert_eq!([A, B, C].map(|number| setting.persistent(number)), [1, 1, 1]);
    assert_eq!(setting.templates.len(), 3);
}

/// Recorded: `persist-overload`, `persist-weight-zero`.
#[test]
fn overload_and_weight_0_keep_nobody_from_a_template() {
    let mut setting = Setting::new(300);
    setting.edit(C, |c| c.with_thresholds(0, 1));
    let (first, conn) = setting.hold(0);
    assert!(first == C && setting.overloaded(C));
    assert_eq!(setting.pick(0), Some(C));
    setting.edit(C, |c| c.with_weight(0));
    assert_eq!(setting.pick(0), Some(C));
    assert_eq!(setting.persistent(C), 1);
    setting.release(conn);
}

/// Recorded: `persist-expire-quiescent`.
#[test]
fn with_expire_quiescent_weight_0_makes_a_template_bad() {
    let mut setting = Setting::new(300);
    setting.options().expire_quiescent = true;
    assert_eq!(setting.pick(0), Some(C));
    let (old, _) = setting.found(0);
    setting.wait(100);
    setting.edit(C, |c| c.with_weight(0));
    assert_eq!(setting.pick(0), Some(B));
    // It cannot be found any more, but counts.
    assert_eq!((setting.persistent(C), setting.persistent(B)), (1, 1));
    assert!(setting.templates.get(old).is_some_and(|template| !template.is_valid()));
    setting.edit(C, |c| c.with_weight(1));
    assert_eq!(setting.pick(0), Some(B));
    // Its own timer goes on: nothing has restarted it.
    setting.wait(199);
    setting.expire();
    assert_eq!(setting.persistent(C), 1);
    setting.wait(1);
    setting.expire();
    assert_eq!((setting.persistent(C), setting.persistent(B)), (0, 1));
    assert_eq!(setting.templates.get(old), None);
}

/// Recorded: `persist-expire-quiescent`, where all have weight 0 for a while.
#[test]
fn a_bad_template_is_bad_even_if_there_is_no_other_backend() {
    let mut setting = Setting::new(300);
    setting.options().expire_quiescent = true;
    assert_eq!(setting.pick(0), Some(C));
    for number in [A, B, C] {
        setting.edit(number, |backend| backend.with_weight(0));
    }
    assert_eq!(setting.pick(0), None);
    assert_eq!((setting.persistent(C), setting.templates.len()), (1, 1), "nothing was made");
    setting.edit(C, |c| c.with_weight(1));
    setting.edit(B, |b| b.with_weight(1));
    assert_eq!(setting.pick(0), Some(B), "the next in turn, not where it was");
}

#[test]
fn an_invalid_template_that_controls_connections_is_put_off_as_others() {
    let mut setting = Setting::new(10);
    let (_, conn) = setting.hold(0);
    let (old, _) = setting.found(0);
    setting.remove(C);
    assert_eq!(setting.pick(0), Some(B));
    setting.wait(10);
    setting.expire();
    let template = setting.templates.get(old).expect("a connection is there");
    assert_eq!((template.is_valid(), template.expires()), (false, Instant::from_secs(70)));
    setting.release(conn);
    setting.wait(60);
    setting.expire();
    assert_eq!((setting.templates.len(), setting.persistent(C)), (0, 0));
}

/// An edit that does not raise the upper threshold leaves the mark, whatever the counts; what is unbound next takes it off.
#[test]
fn the_end_of_a_template_is_a_look_for_the_end_of_an_overload() {
    let mut setting = Setting::new(10);
    for number in [A, B] {
        setting.edit(number, |backend| backend.with_weight(0));
    }
    assert_eq!(setting.pick(1), Some(C));
    setting.edit(C, |c| c.with_thresholds(1, 2));
    let (_, _held) = setting.hold(0);
    let (_, over) = setting.hold(0);
    setting.release(over);
    setting.edit(C, |c| c.with_thresholds(2, 2));
    assert!(setting.overloaded(C) && setting.persistent(C) == 2);
    setting.wait(9);
    assert_eq!(setting.pick(2), None);
    setting.wait(1);
    // One template ends, the other is put off.
    assert_eq!(setting.pick(2), Some(C), "the scheduler has heard of it");
    assert_eq!(setting.persistent(C), 2);
}

/// A raised upper threshold takes the mark off, though there are too many connections; the next that is bound brings it back. A template's
/// connection does so too, for which reason no pick can tell whether its template did.
#[test]
fn a_new_template_is_a_look_for_an_overload() {
    let mut setting = Setting::new(10);
    setting.edit(C, |c| c.with_thresholds(0, 1));
    let held = [(); 4].map(|()| setting.hold(0));
    setting.edit(C, |c| c.with_thresholds(0, 3));
    assert!(!setting.overloaded(C) && held.len() == 4);
    for number in [A, B] {
        setting.edit(number, |backend| backend.with_weight(0));
    }
    assert_eq!(setting.hold(1).0, C);
    assert!(setting.overloaded(C));
    assert_eq!(setting.pick(2), None, "the scheduler has heard of it");
}

#[test]
fn a_backend_that_came_back_has_its_clients_unless_they_came_meanwhile() {
    let mut setting = Setting::new(300);
    assert_eq!([0, 1].map(|client| setting.pick(client)), [C, B].map(Some));
    setting.remove(C);
    setting.add(C);
    assert_eq!((setting.pick(0), setting.persistent(C)), (Some(C), 1));
    setting.remove(C);
    assert_eq!(setting.pick(0), Some(A));
    setting.add(C);
    assert_eq!(setting.pick(0), Some(A), "moved for good");
    assert_eq!(setting.persistent(C), 1);
}

#[test]
fn a_removed_backend_is_remembered_while_a_template_names_it() {
    let mut setting = Setting::new(3600);
    assert_eq!(setting.pick(0), Some(C));
    let id = setting.id(C);
    setting.remove(C);
    for _ in 0..11 {
        setting.wait(300);
        setting.expire();
        assert_eq!((setting.id(C), setting.persistent(C)), (id, 1));
    }
    setting.add(C);
    assert_eq!(setting.pick(0), Some(C));
    setting.remove(C);
    setting.wait(3600);
    setting.expire();
    assert_eq!(setting.balancer.persistent(id), 0);
    setting.wait(240);
    setting.expire();
    setting.wait(240);
    setting.expire();
    assert!(setting.balancer.find(dest(C)).is_none() && setting.balancer.get(id).is_none());
    assert_eq!(setting.balancer.persistent(id), 0, "a stale id");
}

/// Recorded: `persist-rr-udp`, of 3 s.
#[test]
fn the_timer_is_restarted_by_new_connections_only() {
    let mut setting = Setting::new(300);
    let (_, mut conn) = setting.hold(0);
    setting.wait(299);
    let now = setting.now;
    let mut lent = setting.lent();
    lent.activate(&mut conn).expect("it is there");
    lent.established(&mut conn).expect("it is there");
    lent.deactivate(&mut conn).expect("it is there");
    lent.release(conn, now).expect("it is there");
    assert_eq!(setting.rest(0), 1);
    assert_eq!((setting.pick(0), setting.rest(0)), (Some(C), 300));
    setting.wait(300);
    assert_eq!(setting.pick(0), Some(B), "not a nanosecond longer");
    setting.expire();
    assert_eq!((setting.persistent(C), setting.persistent(B)), (0, 1));
}

#[test]
fn another_timeout_is_for_new_templates_only() {
    let mut setting = Setting::new(300);
    assert_eq!(setting.pick(0), Some(C));
    setting.options().timeout = Duration::from_secs(20);
    setting.wait(1);
    assert_eq!(setting.pick(0), Some(C));
    assert_eq!(setting.pick(1), Some(B));
    assert_eq!((setting.rest(0), setting.rest(1)), (300, 20));
}

/// Figures as measured: with a timeout of 2 s and a connection held, 59 s are left after 2 s; a new connection makes it 60 s.
#[test]
fn a_timer_that_ends_with_connections_there_is_of_60_s_for_good() {
    for (timeout, passed) in [(2, 3), (600, 601)] {
        let mut setting = Setting::new(timeout);
        let (_, conn) = setting.hold(0);
        setting.wait(passed);
        setting.expire();
        assert_eq!(setting.rest(0), 59);
        assert_eq!((setting.pick(0), setting.rest(0)), (Some(C), 60));
        setting.release(conn);
        setting.wait(10);
        assert_eq!((setting.pick(0), setting.rest(0)), (Some(C), 60));
        setting.wait(60);
        assert_eq!(setting.pick(0), Some(B));
        assert_eq!(setting.rest(0), timeout, "a new template");
    }
}

#[test]
fn a_late_call_is_as_those_in_time() {
    let mut late = Setting::new(10);
    let (_, conn) = late.hold(0);
    late.wait(10 + 4 * 60 + 7);
    // The connection was there all the time.
    late.release(conn);
    assert_eq!(late.rest(0), 53);
    late.wait(52);
    assert_eq!((late.pick(0), late.rest(0)), (Some(C), 60));
}

#[test]
fn what_ends_with_a_connection_ends_after_it() {
    let mut setting = Setting::new(10);
    let (_, conn) = setting.hold(0);
    setting.wait(10);
    setting.release(conn);
    setting.expire();
    assert!(setting.templates.is_empty());
}

#[test]
fn switched_off_and_on_again() {
    let mut setting = Setting::new(300);
    let on = setting.persistence;
    let (home, conn) = setting.hold(0);
    setting.persistence = None;
    let (away, other) = setting.hold(0);
    assert_eq!((home, away, other.template()), (C, B, None));
    assert_eq!((setting.persistent(C), setting.persistent(B)), (1, 0));
    setting.wait(299);
    setting.release(other);
    setting.persistence = on;
    assert_eq!((setting.pick(0), setting.rest(0)), (Some(C), 300));
    setting.release(conn);
    setting.persistence = None;
    setting.wait(300);
    setting.expire();
    assert_eq!((setting.templates.len(), setting.persistent(C)), (0, 0));
}

#[test]
fn another_netmask_makes_other_keys() {
    let mut setting = Setting::new(300);
    assert_eq!([0, 1].map(|client| setting.pick(client)), [C, B].map(Some));
    setting.options().netmask = Ipv4Addr::new(255, 255, 0, 0);
    // The two are one client now.
    assert_eq!([0, 1].map(|client| setting.pick(client)), [A, A].map(Some));
    setting.options().netmask = Ipv4Addr::BROADCAST;
    assert_eq!([0, 1].map(|client| setting.pick(client)), [C, B].map(Some));
    assert_eq!(setting.templates.len(), 3);
}

/// Recorded: all of TCP have both states, those of UDP `NONE`.
#[test]
fn a_template_is_assured_once_a_connection_was_established() {
    let mut setting = Setting::new(300);
    let (_, mut conn) = setting.hold(0);
    let mut lent = setting.lent();
    lent.activate(&mut conn).expect("it is there");
    assert!(!setting.template(0).is_assured());
    setting.lent().established(&mut conn).expect("it is there");
    assert!(setting.template(0).is_assured());
    assert_eq!(setting.balancer.get(conn.backend()).map(svcplane::sched::Entry::active), Some(1));
    setting.lent().deactivate(&mut conn).expect("it is there");
    setting.release(conn);
    assert!(setting.template(0).is_assured() && setting.template(0).connections() == 0);
}

/// Recorded: `persist-sh-ops`.
#[test]
fn one_packet_and_persistence() {
    let mut setting = Setting::new(300);
    for _ in 0..3 {
        assert_eq!([0, 1, 2].map(|client| setting.pick(client)), [C, B, A].map(Some));
    }
    for (id, entry) in setting.balancer.iter() {
        assert_eq!((entry.inactive(), setting.balancer.persistent(id)), (0, 1));
    }
    // Both tests for overload run.
    setting.edit(C, |c| c.with_thresholds(0, 1));
    assert_eq!(setting.pick(0), Some(C));
    assert!(!setting.overloaded(C));
}

#[test]
fn suspended_and_tried_backends_lose_their_clients() {
    let mut setting = Setting::new(300);
    assert_eq!(setting.pick(0), Some(C));
    let (id, now) = (setting.id(C), setting.now);
    let conn = setting.lent().pick_except(&flow(0), &[id], now).expect("another");
    assert_eq!(number(conn.addr()), B);
    setting.release(conn);
    assert_eq!(setting.pick(0), Some(B));
    let id = setting.id(B);
    setting.balancer.suspend(id, Instant::from_secs(5)).expect("listed");
    assert_eq!(setting.pick(0), Some(A));
    setting.wait(5);
    assert_eq!(setting.pick(0), Some(A));
}

#[test]
fn a_full_table_drops_what_ends_first_of_those_without_connections() {
    let mut setting = Setting::new(100);
    setting.templates = Templates::new(3, 1);
    assert_eq!(setting.templates.capacity(), 3);
    let (_, held) = setting.hold(0);
    for client in [1, 2, 1] {
        setting.wait(1);
        setting.pick(client).expect("a backend");
    }
    let (id, _) = setting.found(2);
    let old = setting.template(2).backend();
    let before = setting.balancer.persistent(old);
    // 0 ends first but controls a connection; 1 was renewed.
    setting.wait(1);
    let (home, new) = setting.hold(5);
    assert_eq!(setting.templates.get(id), None);
    let same = u32::from(setting.id(home) == old);
    assert_eq!(setting.balancer.persistent(old), before - 1 + same);
    assert_eq!(setting.templates.len(), 3);

    // All of them control connections: a new client has none.
    let (_, third) = setting.hold(1);
    let (_, without) = setting.hold(6);
    assert!(new.template().is_some() && without.template().is_none());
    assert_eq!((setting.templates.len(), setting.found(0).0), (3, held.template().expect("one")));
    for conn in [held, new, third, without] {
        setting.release(conn);
    }
    setting.wait(1000);
    setting.expire();
    assert_eq!([A, B, C].map(|number| setting.persistent(number)), [0, 0, 0]);
}

#[test]
fn what_a_template_made_way_for_is_bound_anew() {
    // The table's only template makes way: its backend is found not overloaded any more, after the pick.
    let mut setting = Setting::new(100);
    setting.templates = Templates::new(1, 1);
    setting.edit(C, |c| c.with_thresholds(1, 2));
    let (_, one) = setting.hold(0);
    let (_, two) = setting.hold(0);
    setting.release(two);
    setting.persistence = None;
    setting.edit(C, |c| c.with_thresholds(2, 2));
    assert!(setting.overloaded(C));
    setting.persistence = Some(Persistence::new(TCP_80, Duration::from_secs(100)));
    setting.release(one);
    assert_eq!((setting.pick(1), setting.persistent(C), setting.persistent(B)), (Some(B), 0, 1));
}

#[test]
fn handles_of_another_table_or_balancer_are_errors() {
    let (mut ours, mut theirs) = (Setting::new(100), Setting::new(100));
    theirs.balancer = Balancer::new(Algorithm::RoundRobin, 0);
    theirs.balancer.add(Backend::new(([10, 9, 9, 9], 9).into()), Instant::ZERO);
    let (_, mut conn) = ours.hold(0);
    let id = conn.template().expect("one");
    assert_eq!(theirs.templates.get(id), None);
    assert!(matches!(theirs.lent().established(&mut conn), Err(StaleConnection::Backend(_))));

    // The table was thrown away: the balancer counts the connection no more all the same.
    ours.templates = Templates::new(100, 1);
    let now = ours.now;
    let stale = ours.lent().established(&mut conn);
    assert!(matches!(stale, Err(StaleConnection::Template(stale)) if stale.id == id), "{stale:?}");
    // A template of the other table that happens to have the same handle controls no connection.
    assert_eq!((ours.pick(1), ours.found(1).0), (Some(B), id));
    let stale = ours.lent().established(&mut conn);
    assert!(matches!(stale, Err(StaleConnection::Template(_))) && !ours.template(1).is_assured());
    let stale = ours.lent().release(conn, now).expect_err("another table");
    assert_eq!(
        stale.to_string(),
        format!(
            "stale template id {id:?}: expected one of this table that controls the connection"
        )
    );
    let entry = ours.balancer.get(ours.id(C)).expect("listed");
    assert_eq!((entry.active(), entry.inactive()), (0, 0));

    // A place of a template that is gone has a new one, by another handle.
    assert!(ours.pick(0).is_some());
    let (old, _) = ours.found(0);
    ours.wait(100);
    ours.expire();
    assert!(ours.pick(0).is_some());
    assert!(ours.found(0).0 != old && ours.templates.get(old).is_none());

    // A balancer that was thrown away: the table gives the template back.
    let (_, conn) = ours.hold(0);
    ours.balancer = theirs.balancer;
    let stale = ours.lent().release(conn, now).expect_err("another balancer");
    assert!(matches!(stale, StaleConnection::Backend(_)), "{stale}");
    assert!(ours.templates.iter().all(|(_, template)| template.connections() == 0));
    ours.wait(1000);
    ours.expire();
    assert!(ours.templates.is_empty());
    let client = ours.connect(0).expect("the only one there is");
    assert_eq!(client.addr().port(), 9);
}

#[test]
fn no_call_does_the_work_of_many() {
    let mut setting = Setting::new(10);
    setting.templates = Templates::new(5_000, 1);
    let client = |n: u16| {
        let [high, low] = n.to_be_bytes();
        parse(&format!("10.2.{high}.{low}:1"), "10.96.0.1:80")
    };
    for n in 0..4_000 {
        let conn = setting.lent().pick(&client(n), Instant::ZERO).expect("a backend");
        setting.lent().release(conn, Instant::ZERO).expect("it is there");
    }
    setting.wait(10);
    let due = setting.templates.len();
    let turn = setting.pick(0);
    let after = setting.templates.len();
    assert!(due == 4_000 && (due - 100..due).contains(&after), "{after} of {due}");
    // One whose timer has ended is not followed, though others wait before it.
    let now = setting.now;
    let flow = client(3_999);
    let conn = setting.lent().pick(&flow, now).expect("a backend");
    assert_eq!(Some(number(conn.addr())), turn.map(|turn| if turn == A { C } else { turn - 1 }));
    assert_eq!(setting.lent().next_expiry(), Some(now), "there is more to do");
    let calls = (0..100).take_while(|_| {
        setting.expire();
        setting.lent().next_expiry() == Some(now)
    });
    assert_eq!(calls.count(), 3);
    assert_eq!(setting.templates.len(), 2);
    assert_eq!([A, B, C].map(|number| setting.persistent(number)).iter().sum::<u32>(), 2);
    setting.release(conn);
}

#[test]
fn the_ends_of_time() {
    let far = Instant::from_nanos(u64::MAX - 1);
    for timeout in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
        for now in [Instant::ZERO, far, Instant::MAX] {
            let mut setting = Setting::new(0);
            setting.options().timeout = timeout;
            setting.now = now;
            let (home, conn) = setting.hold(0);
            let (_, other) = setting.hold(0);
            setting.expire();
            setting.release(conn);
            assert_eq!(home, C);
            setting.now = Instant::MAX;
            setting.expire();
            setting.release(other);
            setting.expire();
            // What ends at the end of time does not end.
            let never = now == Instant::MAX || timeout == Duration::MAX || now == far;
            assert!(setting.lent().next_expiry().is_none_or(|end| never && end < Instant::MAX));
            setting.now = Instant::ZERO;
            assert!(setting.pick(0).is_some(), "backwards");
        }
    }
    let mut setting = Setting::new(u64::MAX);
    assert_eq!(setting.pick(0), Some(C));
    setting.now = Instant::MAX;
    assert_eq!((setting.pick(0), setting.lent().next_expiry()), (Some(C), None), "for ever");
    // A timer of no time ends with its moment, not within it.
    let mut setting = Setting::new(0);
    assert_eq!(setting.pick(0), Some(C));
    assert_eq!(setting.pick(0), Some(B));
    assert_eq!(Templates::new(0, 0).capacity(), 1);
    let most = usize::try_from(u32::MAX - 1).expect("32 bits");
    assert_eq!(Templates::new(usize::MAX, 0).capacity(), most);
}

#[test]
fn the_earlier_of_two_ends_is_next() {
    let mut setting = Setting::new(300);
    assert_eq!(setting.lent().next_expiry(), None);
    let conn = setting.connect(0);
    assert_eq!(setting.lent().next_expiry(), Some(Instant::from_secs(300)));
    setting.remove(A);
    assert_eq!(setting.lent().next_expiry(), Some(Instant::from_secs(120)), "the balancer's");
    assert!(conn.is_some());
}

#[test]
fn clients_and_keys_are_not_shown() {
    let mut setting = Setting::new(300);
    assert!(setting.pick(0).is_some());
    assert_eq!(format!("{:?}", setting.templates), "Templates { len: 1, capacity: 100, .. }");
}

fn wanted() -> impl Strategy<Value = Wanted> {
    (0_u8..5, 0_u32..3, 0_u32..5, 0_u32..5).prop_map(|(number, weight, a, b)| {
        let (lower, upper) = if b == 0 { (0, 0) } else { (a.min(b), b) };
        Wanted { number, weight, lower, upper }
    })
}

fn op() -> impl Strategy<Value = Op> {
    let services =
        [TCP_80, TCP_80, UDP_80, TCP_0, FTP, VirtualService::Mark(1), VirtualService::Mark(2)];
    let millis = prop_oneof![0_u32..3_000, 0_u32..200_000, Just(60_000)];
    let timeout = prop::sample::select(&[1_000, 2_000, 60_000, 61_000, 300_000][..]);
    let masks = [[255; 4], [255, 255, 255, 0], [255, 255, 0, 0], [255, 0, 0, 255], [0; 4]];
    let prefix = prop::sample::select(&[128, 126, 64, 63, 1, 0, 200][..]);
    let tried = prop_oneof![6 => Just(Vec::new()), 1 => prop::collection::vec(0_u8..5, 1..4)];
    let client = prop_oneof![3 => 0_u8..4, 1 => 0_u8..32];
    let port = prop::sample::select(&[80, 80, 80, 21, 20, 443, 0][..]);
    let options = (timeout, prop::sample::select(masks.to_vec()), prefix)
        .prop_map(|(timeout, mask, prefix)| (timeout, Ipv4Addr::from(mask), prefix));
    prop_oneof![
        6 => wanted().prop_map(Op::Add),
        3 => (0_u8..5).prop_map(Op::Remove),
        1 => (0_u8..5, 0_u32..100_000).prop_map(|(number, millis)| Op::Suspend(number, millis)),
        2 => prop::sample::select(services.to_vec()).prop_map(Op::Service),
        2 => prop::option::weighted(0.8, options).prop_map(Op::Persist),
        1 => any::<bool>().prop_map(Op::Quiescent),
        30 => (client, 0_u8..2, port, tried).prop_map(|(c, a, p, t)| Op::Pick(c, a, p, t)),
        4 => any::<usize>().prop_map(Op::Activate),
        2 => any::<usize>().prop_map(Op::Deactivate),
        4 => any::<usize>().prop_map(Op::Establish),
        14 => any::<usize>().prop_map(Op::Release),
        12 => millis.prop_map(Op::Wait),
        6 => Just(Op::Expire),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_the_rules_as_they_are_worded(
        capacity in prop_oneof![1_usize..6, Just(60)],
        first in prop::collection::vec(wanted(), 1..5),
        ops in prop::collection::vec(op(), 1..200),
    ) {
        let mut both = Both::new(capacity);
        for wanted in first {
            both.step(&Op::Add(wanted));
        }
        for op in &ops {
            both.step(op);
        }
    }
}
