//! A node's view of itself as JSON or YAML: what a plan has to know besides the cluster's objects.

use std::net::IpAddr;

use serde::Deserialize;
use svcplane::ipnet::IpNet;
use svcplane::name::NodeName;
use svcplane::net::parse_cidr_strict;
use svcplane::plan::{LocalDetector, LocalNode, NodePortAddresses};

/// `{"name": …, "zone": …, "addresses": […], "localAddresses": […], "serviceCIDRs": […], "localDetector": {"clusterCIDRs": […]},
/// "masqueradeAll": …, "nodePortAddresses": […], "localhostNodePorts": …, "serviceProxyName": …}`; all but the name may be absent.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct NodeFile {
    name: String,
    #[serde(default)]
    zone: Option<String>,
    #[serde(default)]
    addresses: Vec<IpAddr>,
    #[serde(default)]
    local_addresses: Vec<IpAddr>,
    #[serde(default, rename = "serviceCIDRs")]
    service_cidrs: Vec<String>,
    #[serde(default)]
    local_detector: Option<Detector>,
    #[serde(default)]
    masquerade_all: bool,
    #[serde(default)]
    node_port_addresses: Option<Vec<String>>,
    #[serde(default = "yes")]
    localhost_node_ports: bool,
    #[serde(default)]
    service_proxy_name: Option<String>,
}

/// One of these.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct Detector {
    #[serde(rename = "clusterCIDRs")]
    cidrs: Option<Vec<String>>,
    bridge: Option<String>,
    interface_prefix: Option<String>,
}

const fn yes() -> bool {
    true
}

impl NodeFile {
    pub(crate) fn local_node(self) -> Result<LocalNode, String> {
        let name: NodeName = self.name.parse().map_err(|error| of("name", &self.name, &error))?;
        let mut node = LocalNode::new(name);
        node.zone = self.zone.map(Into::into);
        node.addresses = self.addresses;
        node.local_addresses = self.local_addresses;
        node.service_cidrs = cidrs("serviceCIDRs", &self.service_cidrs)?;
        node.masquerade_all = self.masquerade_all;
        node.localhost_node_ports = self.localhost_node_ports;
        node.proxy_name = self.service_proxy_name.map(Into::into);
        let interface =
            |text: String| text.parse().map_err(|error| of("localDetector", &text, &error));
        node.pods = match self.local_detector {
            None => LocalDetector::None,
            Some(Detector { cidrs: Some(texts), bridge: None, interface_prefix: None }) => {
                LocalDetector::Cidrs(cidrs("clusterCIDRs", &texts)?)
            }
            Some(Detector { cidrs: None, bridge: Some(name), interface_prefix: None }) => {
                LocalDetector::Bridge(interface(name)?)
            }
            Some(Detector { cidrs: None, bridge: None, interface_prefix: Some(name) }) => {
                LocalDetector::InterfacePrefix(interface(name)?)
            }
            Some(_) => {
                let what = "expected one of clusterCIDRs, bridge and interfacePrefix";
                return Err(format!("node: localDetector: {what}"));
            }
        };
        node.node_port_addresses = match self.node_port_addresses.as_deref() {
            None => NodePortAddresses::ModeDefault,
            Some([primary]) if primary == "primary" => NodePortAddresses::Primary,
            Some(texts) => NodePortAddresses::In(cidrs("nodePortAddresses", texts)?),
        };
        Ok(node)
    }
}

fn of(what: &str, text: &str, error: &dyn std::fmt::Display) -> String {
    format!("node: {what}: {text:?}: {error}")
}

fn cidrs(what: &str, texts: &[String]) -> Result<Vec<IpNet>, String> {
    let parse = |text: &String| parse_cidr_strict(text).map_err(|error| of(what, text, &error));
    texts.iter().map(parse).collect()
}
