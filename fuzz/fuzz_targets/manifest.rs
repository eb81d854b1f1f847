//! Any bytes as a manifest in JSON, through all three steps and back: no panic, and the way back is the identity.

#![no_main]

use libfuzzer_sys::fuzz_target;
use svcplane::endpoints::EndpointSet;
use svcplane::k8s::{self, Object};
use svcplane::node::Nodes;
use svcplane::plan::{LocalNode, Plan};
use svcplane::pod::Pod;
use svcplane::service::Service;

fuzz_target!(|bytes: &[u8]| {
    let Ok(object) = serde_json::from_slice::<Object>(bytes) else { return };
    let (mut services, mut pods) = (Vec::new(), Vec::new());
    steps(object, &mut services, &mut pods);
    let node = LocalNode::new("node".parse().expect("a legal name"));
    let sets: Vec<EndpointSet> = services
        .iter()
        .map(|service| EndpointSet::resolve(service, &pods, &Nodes::default()))
        .collect();
    let plan = Plan::new(&node, services.iter().zip(&sets));
    let back = Plan::new(&node, services.iter().rev().zip(sets.iter().rev()));
    let _ = (plan.conflicts().len(), back.conflicts().len());
});

fn steps(object: Object, services: &mut Vec<Service>, pods: &mut Vec<Pod>) {
    match object {
        Object::Service(mut mirror) => {
            mirror.set_defaults();
            let _ = mirror.validate();
            if let Ok(converted) = mirror.convert() {
                let again = k8s::Service::from(&converted.object).convert().expect("a legal name");
                assert_eq!(again.object, converted.object);
                services.push(converted.object);
            }
        }
        Object::Pod(mut mirror) => {
            mirror.set_defaults();
            let _ = mirror.validate();
            if let Ok(converted) = mirror.convert() {
                let again = k8s::Pod::from(&converted.object).convert().expect("a legal name");
                assert_eq!(again.object, converted.object);
                pods.push(converted.object);
            }
        }
        Object::Node(mirror) => {
            let _ = mirror.validate();
            let _ = mirror.convert();
        }
        Object::Endpoints(mut mirror) => {
            mirror.set_defaults();
            let _ = mirror.validate();
            let _ = mirror.convert();
        }
        Object::EndpointSlice(mut mirror) => {
            mirror.set_defaults();
            let _ = mirror.validate();
        }
        Object::List(list) => {
            for object in list.items {
                steps(object, services, pods);
            }
        }
        _ => {}
    }
}
