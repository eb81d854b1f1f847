//! A node with a few pods and clients, and the rules for Services that a test makes up.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use svcplane::endpoints::{Endpoint, EndpointPort, EndpointSet};
use svcplane::kernel::{Conntrack, Nft};
use svcplane::name::ObjectName;
use svcplane::net::{IpFamily, Protocol};
use svcplane::nftables::{self, Config, Layout, Leftover};
use svcplane::plan::{LocalDetector, LocalNode, Mode, Packet, Plan};
use svcplane::service::{ClusterIps, Service, ServicePort};
use tokio::runtime::{self, Runtime};

use super::topology::{Addresses, Topology};
use super::traffic::{Met, Servers, UdpClient, call};

/// What any server here listens on.
pub(crate) const PORT: u16 = 8080;
pub(crate) const NODE: &str = "192.168.0.2";
pub(crate) const CLUSTER_IP: &str = "172.30.0.41";
pub(crate) const CLUSTER_IPV6: &str = "fd00:172:30::41";
pub(crate) const EXTERNAL_IP: &str = "192.168.99.11";

const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// The n-th pod with a server, from 1.
pub(crate) fn pod(n: u8) -> IpAddr {
    IpAddr::from([10, 180, 0, n])
}

pub(crate) fn pod_v6(n: u16) -> IpAddr {
    IpAddr::from([0xfd00, 0x10, 0, 0, 0, 0, 1, n])
}

/// The n-th client outside, from 1 to 60.
pub(crate) fn client(n: u8) -> IpAddr {
    IpAddr::from([203, 0, 113, n])
}

pub(crate) struct Lab {
    pub(crate) topology: Topology,
    pub(crate) config: Config,
    pub(crate) plan: Plan,
    pub(crate) nft: Nft,
    pub(crate) conntrack: Conntrack,
    pub(crate) leftovers: Vec<Leftover>,
    _servers: Servers,
    runtime: Runtime,
}

impl Lab {
    /// Four pods of each family with servers, sixty clients outside and a few pods that are clients. No rules.
    pub(crate) fn new(layout: Layout) -> Self {
        let pods_v6 = (1..=4).map(pod_v6);
        let pods: Vec<IpAddr> = (1..=4).map(pod).chain(pods_v6).collect();
        let clients = ["10.0.0.2", "fd00:10::2"].map(ip);
        let virtual_ips = [CLUSTER_IP, CLUSTER_IPV6, EXTERNAL_IP].map(ip);
        let topology = Topology::new(Addresses {
            node: [NODE, "2001:db8::1"].map(ip).to_vec(),
            pods: pods.iter().copied().chain(clients).collect(),
            world: (1..=60).map(client).chain(virtual_ips).collect(),
            virtual_ips: <_>::default(),
        });
        let mut runtime = runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(2).enable_all().build().expect("a runtime");
        let mut servers = Servers::none();
        {
            let _entered = runtime.enter();
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                for &pod in &pods {
                    servers.start(&topology, protocol, SocketAddr::new(pod, PORT));
                }
                // What is not translated is met there.
                for ip in virtual_ips {
                    servers.start(&topology, protocol, SocketAddr::new(ip, 80));
                }
            }
        }
        let mut node = LocalNode::new("test-node".parse().expect("a name"));
        node.addresses = [NODE, "2001:db8::1"].map(ip).to_vec();
        node.pods = LocalDetector::Cidrs(
            ["10.0.0.0/8", "fd00:10::/64"].map(|net| net.parse().expect("a CIDR")).to_vec(),
        );
        let (mut nft, mut conntrack) = (Nft::new(), Conntrack::new());
        nft.netns = Some(topology.node.name());
        conntrack.netns = Some(topology.node.name());
        let mut config = Config::default();
        config.layout = layout;
        let plan = Plan::empty(node, Mode::Nftables);
        let leftovers = Vec::new();
        Self { topology, config, plan, nft, conntrack, leftovers, _servers: servers, runtime }
    }

    pub(crate) fn plan_of(&self, services: &[(Service, EndpointSet)]) -> Plan {
        let services = services.iter().map(|(service, endpoints)| (service, endpoints));
        Plan::new(self.plan.node(), Mode::Nftables, services)
    }

    /// Loads the rules for Services in the place of all others.
    pub(crate) fn load(&mut self, services: &[(Service, EndpointSet)]) {
        self.plan = self.plan_of(services);
        self.nft.apply(&nftables::compile(&self.plan, &self.config)).expect("a full script");
    }

    /// Leads from the rules that are loaded to those for other Services.
    pub(crate) fn follow(&mut self, services: &[(Service, EndpointSet)]) {
        let plan = self.plan_of(services);
        let delta = nftables::delta(&plan, &Plan::diff(&self.plan, &plan), &self.config);
        self.nft.apply(&delta.script).unwrap_or_else(|error| panic!("{error}\n{}", delta.script));
        self.leftovers.extend(delta.leftovers);
        self.plan = plan;
    }

    pub(crate) fn block<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// Which server a new connection reaches.
    pub(crate) async fn reach(&self, from: IpAddr, to: SocketAddr) -> SocketAddr {
        reach(&self.topology, from, to).await
    }

    /// A UDP client that keeps its port.
    pub(crate) async fn udp(&self, from: IpAddr, to: SocketAddr) -> UdpClient {
        UdpClient::new(&self.topology, from, to).await.expect("a socket")
    }
}

pub(crate) async fn reach(topology: &Topology, from: IpAddr, to: SocketAddr) -> SocketAddr {
    let packet = Packet::new(Protocol::Tcp, from, to);
    server(&call(topology, &packet, PATIENCE).await, &packet)
}

/// Which server a datagram of a client reaches.
pub(crate) async fn reach_udp(client: &UdpClient) -> SocketAddr {
    server(&client.met(PATIENCE).await, &"a datagram")
}

fn server(met: &Met, what: &dyn std::fmt::Display) -> SocketAddr {
    let Met::Server { server, .. } = met else { panic!("{what}: {met}") };
    *server
}

/// A Service with one port of each of some transports, by which it is named, at its cluster IP.
pub(crate) fn service(name: &str, cluster_ips: &[&str], protocols: &[Protocol]) -> Service {
    let mut service = Service::new(ObjectName::new("ns", name).expect("a name"));
    let ips: Vec<IpAddr> = cluster_ips.iter().map(|text| ip(text)).collect();
    service.ip_families = ips.iter().copied().map(IpFamily::of).collect();
    service.cluster_ips = ClusterIps::Assigned(ips);
    for &protocol in protocols {
        let mut port = ServicePort::new(80);
        port.protocol = protocol;
        port.name = Some(protocol.as_lower_str().parse().expect("a label"));
        service.ports.push(port);
    }
    service
}

/// A Service with affinity at every kind of address.
pub(crate) fn sticky(timeout: Duration) -> Service {
    let mut service = service("sticky", &[CLUSTER_IP], &[Protocol::Tcp]);
    service.client_ip_affinity = Some(timeout);
    service.external_ips = vec![ip(EXTERNAL_IP)];
    service.ports[0].node_port = Some(30_080);
    service
}

/// The endpoints of a Service at these pods.
pub(crate) fn at(service: &Service, pods: impl IntoIterator<Item = IpAddr>) -> EndpointSet {
    let port = |port: &ServicePort| {
        let mut resolved = EndpointPort::new(PORT);
        (resolved.name, resolved.protocol) = (port.name.clone(), port.protocol);
        resolved
    };
    let endpoint = |pod: IpAddr| {
        let mut endpoint = Endpoint::new(pod);
        endpoint.ports = service.ports.iter().map(port).collect();
        endpoint.node = Some("test-node".parse().expect("a name"));
        endpoint
    };
    EndpointSet::new(service.name.clone(), pods.into_iter().map(endpoint))
}
