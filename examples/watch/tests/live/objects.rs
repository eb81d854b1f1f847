//! Objects as an API server of Kubernetes 1.34 writes them.

use serde_json::{Value, json};

fn metadata(name: &str) -> Value {
    json!({
        "name": name, "namespace": "default", "creationTimestamp": "2025-11-03T09:14:22Z",
        "managedFields": [{
            "manager": "kube-controller-manager", "operation": "Update", "apiVersion": "v1",
            "time": "2025-11-03T09:14:22Z", "fieldsType": "FieldsV1",
            "fieldsV1": {"f:metadata": {"f:labels": {".": {}, "f:app": {}}}}
        }]
    })
}

pub(crate) fn service(name: &str, ip: &str) -> Value {
    json!({
        "kind": "Service", "apiVersion": "v1", "metadata": metadata(name),
        "spec": {
            "ports": [
                {"name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080, "nodePort": 30000 + name.len()}
            ],
            "selector": {"app": name}, "clusterIP": ip, "clusterIPs": [ip], "type": "NodePort",
            "sessionAffinity": "None", "externalTrafficPolicy": "Cluster", "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack", "internalTrafficPolicy": "Cluster"
        },
        "status": {"loadBalancer": {}}
    })
}

/// An address in 10.1.N.0/24 is on node-N, in zone a.
pub(crate) fn slice(name: &str, service: &str, addresses: &[&str]) -> Value {
    let endpoints = addresses.iter().map(|address| {
        let node = format!("node-{}", address.split('.').nth(2).unwrap());
        let pod = format!("{service}-7d4b9c6f5-{}", address.rsplit('.').next().unwrap());
        json!({
            "addresses": [address],
            "conditions": {"ready": true, "serving": true, "terminating": false},
            "targetRef": {"kind": "Pod", "namespace": "default", "name": pod, "uid": "a0d1"},
            "nodeName": node, "zone": "a"
        })
    });
    let endpoints: Vec<Value> = endpoints.collect();
    let mut metadata = metadata(name);
    metadata["generateName"] = json!(format!("{service}-"));
    metadata["generation"] = json!(3);
    metadata["labels"] = json!({
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
        "kubernetes.io/service-name": service
    });
    metadata["ownerReferences"] = json!([{
        "apiVersion": "v1", "kind": "Service", "name": service, "uid": "b7e2",
        "controller": true, "blockOwnerDeletion": true
    }]);
    json!({
        "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1", "metadata": metadata,
        "addressType": "IPv4", "endpoints": endpoints,
        "ports": [{"name": "http", "protocol": "TCP", "port": 8080}]
    })
}

pub(crate) fn node(name: &str, zone: &str, address: &str, pods: &str) -> Value {
    let mut metadata = metadata(name);
    metadata.as_object_mut().unwrap().remove("namespace");
    metadata["labels"] =
        json!({"kubernetes.io/hostname": name, "topology.kubernetes.io/zone": zone});
    json!({
        "kind": "Node", "apiVersion": "v1", "metadata": metadata,
        "spec": {"podCIDR": pods, "podCIDRs": [pods], "providerID": "kind://docker/kind/node-1"},
        "status": {
            "capacity": {"cpu": "4", "memory": "16297508Ki", "pods": "110"},
            "allocatable": {"cpu": "4", "memory": "16297508Ki", "pods": "110"},
            "conditions": [{
                "type": "Ready", "status": "True", "reason": "KubeletReady",
                "lastHeartbeatTime": "2025-11-03T09:14:22Z",
                "lastTransitionTime": "2025-11-03T09:14:22Z"
            }],
            "addresses": [
                {"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}
            ],
            "nodeInfo": {"kernelVersion": "6.1.0", "operatingSystem": "linux"}
        }
    })
}
