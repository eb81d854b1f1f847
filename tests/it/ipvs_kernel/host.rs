//! What the machine has and is set to.

use std::collections::BTreeSet;
use std::net::{IpAddr, TcpListener};

use svcplane::ipvs::{Command, Forwarding, RealServer, SchedulerName, VirtualKey, VirtualServer};
use svcplane::kernel::{DummyInterface, Ipvs, KernelError, Parameters};

use super::{LONG, ready};

#[test]
fn all_schedulers_are_found() {
    let Some((netns, mut ipvs)) = ready("schedulers") else { return };
    let supported = ipvs.supported().expect("IPVS");
    assert_eq!(supported.version.to_string(), "1.2.1");
    let names: Vec<&str> = supported.schedulers.iter().map(SchedulerName::as_str).collect();
    assert_eq!(names, ["rr", "wrr", "lc", "wlc", "sh", "dh", "mh", "sed", "nq"]);
    let name = |name: &str| name.parse::<SchedulerName>().expect("a name");
    assert!(!ipvs.has_scheduler(name("nobodys")).expect("an answer"));
    assert!(ipvs.virtual_servers().expect("a list").is_empty(), "nothing is left of the probes");

    // What another process that was killed while it looked has left.
    let probe = VirtualKey::tcp("198.51.100.0:20000".parse().expect("an address"));
    ipvs.apply(&[Command::AddVirtual(VirtualServer::new(probe, name("rr")))]).expect("a server");
    assert!(ipvs.has_scheduler(name("rr")).expect("an answer"));
    assert!(ipvs.find(probe).expect("an answer").is_some(), "it is there, so nothing is probed");
    assert!(ipvs.has_scheduler(name("mh")).expect("an answer"));
    assert_eq!(ipvs.find(probe).expect("an answer"), None);

    // The namespace of a thread that is in it is the one that is opened.
    let web = VirtualKey::tcp("192.0.2.1:80".parse().expect("an address"));
    ipvs.apply(&[Command::AddVirtual(VirtualServer::new(web, name("rr")))]).expect("a server");
    let mut inside = netns.run(|| Ipvs::open(LONG)).expect("IPVS");
    assert!(inside.find(web).expect("an answer").is_some());
    if let Ok(mut outside) = Ipvs::open(LONG) {
        assert_eq!(outside.find(web).expect("an answer"), None);
    }
    ipvs.flush().expect("flushed");
    assert_eq!(inside.state().expect("a list").servers().len(), 0);
    let nowhere = Ipvs::open_in(&"svcplane-no-such".parse().expect("a name"), LONG);
    assert!(matches!(nowhere, Err(KernelError::Netns { .. })));
}

#[test]
fn an_interface_holds_addresses() {
    let Some((netns, mut ipvs)) = ready("dummy") else { return };
    let mut interface = DummyInterface::new(DummyInterface::NAME.parse().expect("a name"));
    interface.netns = Some(netns.name());
    assert!(!interface.exists().expect("an answer"));
    assert!(matches!(interface.addresses(), Err(KernelError::Refused(_))));
    interface.delete().expect("nothing to be done");
    for _ in 0..2 {
        interface.create().expect("an interface");
    }
    assert!(interface.exists().expect("an answer"));
    assert_eq!(interface.addresses().expect("addresses"), BTreeSet::new());
    let all: Vec<IpAddr> = ["10.96.0.10", "10.96.0.11", "fd00:10:96::10", "fd00:10:96::11"]
        .map(|text| text.parse().expect("an address"))
        .to_vec();
    interface.add(all[..3].iter().copied()).expect("added");
    interface.add(all.iter().copied()).expect("those that it has stay");
    assert_eq!(interface.addresses().expect("addresses"), all.iter().copied().collect());

    // They are the machine's own: what calls them comes to IPVS.
    let listener = netns.run(|| TcpListener::bind("127.0.0.1:0")).expect("a listener");
    let real = RealServer::new(listener.local_addr().expect("bound"), Forwarding::Masquerade);
    for &ip in &all[..2] {
        let key = VirtualKey::tcp((ip, 80).into());
        let server = VirtualServer::new(key, "rr".parse().expect("a name"));
        ipvs.apply(&[Command::AddVirtual(server), Command::AddReal(key, real)]).expect("a server");
        netns.run(|| std::net::TcpStream::connect((ip, 80))).expect("connected");
        let _ = listener.accept().expect("accepted");
    }

    let missing: IpAddr = "10.96.0.99".parse().expect("an address");
    interface
        .remove([missing, all[0], "fd00::99".parse().expect("an address"), all[3]])
        .expect("removed");
    let left: BTreeSet<IpAddr> = all[1..3].iter().copied().collect();
    assert_eq!(interface.addresses().expect("addresses"), left);
    interface.delete().expect("deleted");
    assert!(!interface.exists().expect("an answer"));

    // An interface of the name that is none of these.
    netns.configure("link add svcp-ipvs0 type bridge\n", "");
    assert!(matches!(interface.create(), Err(KernelError::Refused(_))));
    interface.delete().expect("it is not ours");
    assert_eq!(interface.addresses().expect("it is there"), BTreeSet::new());
}

#[test]
fn parameters_are_set_once() {
    let Some((netns, _ipvs)) = ready("parameters") else { return };
    let mut parameters = Parameters::default();
    parameters.netns = Some(netns.name());
    parameters.strict_arp = true;
    let changes = parameters.set().expect("set");
    let said: Vec<String> =
        changes.iter().map(|one| format!("{} {} {}", one.path, one.before, one.after)).collect();
    // Linux 5.9 and later: `conn_reuse_mode` stays.
    assert_eq!(
        said,
        [
            "/proc/sys/net/ipv4/vs/conntrack 0 1",
            "/proc/sys/net/ipv4/vs/expire_nodest_conn 0 1",
            "/proc/sys/net/ipv4/vs/expire_quiescent_template 0 1",
            "/proc/sys/net/ipv4/ip_forward 0 1",
            "/proc/sys/net/ipv4/conf/all/arp_ignore 0 1",
            "/proc/sys/net/ipv4/conf/all/arp_announce 0 2",
        ]
    );
    assert_eq!(parameters.set().expect("set"), []);
}
