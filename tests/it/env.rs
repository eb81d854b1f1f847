//! What containers are told of Services by their environment.

use proptest::prelude::*;
use proptest::sample::select;
use svcplane::env::{self, Budget, EXEC_LIMIT, Environment, STRING_LIMIT, Var};
use svcplane::name::ObjectName;
use svcplane::net::Protocol;
use svcplane::service::{ClusterIps, Service, ServicePort};

/// A Service: `namespace/name`, the cluster IP (`None` and empty as in the API), the ports as `name:number/PROTOCOL`.
fn service(name: &str, ip: &str, ports: &[&str]) -> Service {
    let mut service = Service::new(name.parse().expect("a name"));
    service.cluster_ips = match ip {
        "None" => ClusterIps::Headless,
        "" => ClusterIps::Unassigned,
        ips => {
            ClusterIps::Assigned(ips.split(' ').map(|ip| ip.parse().expect("an address")).collect())
        }
    };
    let port = |text: &&str| {
        let (name, rest) = text.split_once(':').expect("a name and a number");
        let (number, protocol) = rest.split_once('/').expect("a number and a protocol");
        let mut port = ServicePort::new(number.parse().expect("a number"));
        port.name = (!name.is_empty()).then(|| name.parse().expect("a label"));
        port.protocol = protocol.parse().expect("a protocol");
        port
    };
    service.ports = ports.iter().map(port).collect();
    service
}

fn texts(vars: &[Var]) -> Vec<&str> {
    vars.iter().map(Var::as_str).collect()
}

/// Kubernetes `pkg/kubelet/envvars/envvars_test.go`, `TestFromServices`, the whole table. `DIFFERENCE`: IPv6 is in canonical form.
#[test]
fn of_services() {
    let services = [
        service("ns/foo-bar", "1.2.3.4", &[":8080/TCP"]),
        service("ns/abc-123", "5.6.7.8", &["u-d-p:8081/UDP", "t-c-p:8081/TCP"]),
        service("ns/q-u-u-x", "9.8.7.6", &[":8082/TCP", "8083:8083/TCP"]),
        service("ns/svrc-clusterip-none", "None", &[":8082/TCP"]),
        service("ns/svrc-clusterip-empty", "", &[":8082/TCP"]),
        service("ns/super-ipv6", "2001:DB8::", &["u-d-p:8084/UDP", "t-c-p:8084/TCP"]),
        service("ns/sctp-1", "1.2.3.4", &[":777/SCTP"]),
    ];
    let expected = "\
        FOO_BAR_SERVICE_HOST=1.2.3.4
        FOO_BAR_SERVICE_PORT=8080
        FOO_BAR_PORT=tcp://1.2.3.4:8080
        FOO_BAR_PORT_8080_TCP=tcp://1.2.3.4:8080
        FOO_BAR_PORT_8080_TCP_PROTO=tcp
        FOO_BAR_PORT_8080_TCP_PORT=8080
        FOO_BAR_PORT_8080_TCP_ADDR=1.2.3.4
        ABC_123_SERVICE_HOST=5.6.7.8
        ABC_123_SERVICE_PORT=8081
        ABC_123_SERVICE_PORT_U_D_P=8081
        ABC_123_SERVICE_PORT_T_C_P=8081
        ABC_123_PORT=udp://5.6.7.8:8081
        ABC_123_PORT_8081_UDP=udp://5.6.7.8:8081
        ABC_123_PORT_8081_UDP_PROTO=udp
        ABC_123_PORT_8081_UDP_PORT=8081
        ABC_123_PORT_8081_UDP_ADDR=5.6.7.8
        ABC_123_PORT_8081_TCP=tcp://5.6.7.8:8081
        ABC_123_PORT_8081_TCP_PROTO=tcp
        ABC_123_PORT_8081_TCP_PORT=8081
        ABC_123_PORT_8081_TCP_ADDR=5.6.7.8
        Q_U_U_X_SERVICE_HOST=9.8.7.6
        Q_U_U_X_SERVICE_PORT=8082
        Q_U_U_X_SERVICE_PORT_8083=8083
        Q_U_U_X_PORT=tcp://9.8.7.6:8082
        Q_U_U_X_PORT_8082_TCP=tcp://9.8.7.6:8082
        Q_U_U_X_PORT_8082_TCP_PROTO=tcp
        Q_U_U_X_PORT_8082_TCP_PORT=8082
        Q_U_U_X_PORT_8082_TCP_ADDR=9.8.7.6
        Q_U_U_X_PORT_8083_TCP=tcp://9.8.7.6:8083
        Q_U_U_X_PORT_8083_TCP_PROTO=tcp
        Q_U_U_X_PORT_8083_TCP_PORT=8083
        Q_U_U_X_PORT_8083_TCP_ADDR=9.8.7.6
        SUPER_IPV6_SERVICE_HOST=2001:db8::
        SUPER_IPV6_SERVICE_PORT=8084
        SUPER_IPV6_SERVICE_PORT_U_D_P=8084
        SUPER_IPV6_SERVICE_PORT_T_C_P=8084
        SUPER_IPV6_PORT=udp://[2001:db8::]:8084
        SUPER_IPV6_PORT_8084_UDP=udp://[2001:db8::]:8084
        SUPER_IPV6_PORT_8084_UDP_PROTO=udp
        SUPER_IPV6_PORT_8084_UDP_PORT=8084
        SUPER_IPV6_PORT_8084_UDP_ADDR=2001:db8::
        SUPER_IPV6_PORT_8084_TCP=tcp://[2001:db8::]:8084
        SUPER_IPV6_PORT_8084_TCP_PROTO=tcp
        SUPER_IPV6_PORT_8084_TCP_PORT=8084
        SUPER_IPV6_PORT_8084_TCP_ADDR=2001:db8::
        SCTP_1_SERVICE_HOST=1.2.3.4
        SCTP_1_SERVICE_PORT=777
        SCTP_1_PORT=sctp://1.2.3.4:777
        SCTP_1_PORT_777_SCTP=sctp://1.2.3.4:777
        SCTP_1_PORT_777_SCTP_PROTO=sctp
        SCTP_1_PORT_777_SCTP_PORT=777
        SCTP_1_PORT_777_SCTP_ADDR=1.2.3.4";
    let vars = env::vars(&services);
    assert_eq!(texts(&vars), expected.lines().map(str::trim).collect::<Vec<_>>());
    for var in &vars {
        assert_eq!(format!("{}={}", var.name(), var.value()), var.as_str());
        assert!(!var.name().contains('='));
    }
}

#[test]
fn the_first_address_alone_and_at_least_one_port() {
    let dual = service("ns/dual", "10::3 10.0.0.3", &[":80/TCP"]);
    let vars = env::vars([&dual]);
    assert_eq!(vars[0].as_str(), "DUAL_SERVICE_HOST=10::3");
    assert!(vars.iter().all(|var| !var.as_str().contains("10.0.0.3")));
    assert_eq!(env::vars([&service("ns/portless", "10.0.0.3", &[])]), []);
}

/// Kubernetes `pkg/kubelet/kubelet_pods_test.go`, `TestMakeEnvironmentVariables`: its Services.
fn cluster() -> Vec<Service> {
    vec![
        service("default/kubernetes", "1.2.3.1", &[":8081/TCP"]),
        service("test1/test", "1.2.3.3", &[":8083/TCP"]),
        service("test2/kubernetes", "1.2.3.4", &[":8084/TCP"]),
        service("test2/test", "1.2.3.5", &[":8085/TCP"]),
        service("test2/test", "None", &[":8085/TCP"]),
        service("test2/test", "", &[":8085/TCP"]),
        service("default/not-special", "1.2.3.8", &[":8088/TCP"]),
        service("default/not-special", "None", &[":8088/TCP"]),
        service("default/not-special", "", &[":8088/TCP"]),
    ]
}

/// The same, its rows. A kubelet without a list of Services is one of no Services here, and when to start a pod is the kubelet's
/// business.
/// The Services of `pkg/kubelet/kubelet_pods_test.go`, `TestMakeEnvironmentVariables`.
#[test]
fn what_a_pod_sees() {
    let kubernetes = ("KUBERNETES", "1.2.3.1", 8081);
    for (namespace, links, expected) in [
        ("test1", false, vec![kubernetes]),
        ("test1", true, vec![kubernetes, ("TEST", "1.2.3.3", 8083)]),
        ("test2", false, vec![kubernetes]),
        ("test2", true, vec![("KUBERNETES", "1.2.3.4", 8084), ("TEST", "1.2.3.5", 8085)]),
        ("default", false, vec![kubernetes]),
        ("default", true, vec![kubernetes, ("NOT_SPECIAL", "1.2.3.8", 8088)]),
        ("other", true, vec![kubernetes]),
    ] {
        let mut services = cluster();
        for _ in 0..2 {
            let environment = Environment::new(namespace, links, &services);
            let expected: Vec<String> = expected
                .iter()
                .flat_map(|(name, ip, port)| {
                    [
                        format!("{name}_SERVICE_HOST={ip}"),
                        format!("{name}_SERVICE_PORT={port}"),
                        format!("{name}_PORT=tcp://{ip}:{port}"),
                        format!("{name}_PORT_{port}_TCP=tcp://{ip}:{port}"),
                        format!("{name}_PORT_{port}_TCP_PROTO=tcp"),
                        format!("{name}_PORT_{port}_TCP_PORT={port}"),
                        format!("{name}_PORT_{port}_TCP_ADDR={ip}"),
                    ]
                })
                .collect();
            assert_eq!(texts(environment.vars()), expected, "{namespace}, {links}");
            assert_eq!(environment.collisions(), []);
            services.reverse();
        }
    }
    assert_eq!(Environment::new("test1", true, []), Environment::default());
}

/// The same test: what a container sets itself is kept, and not there twice.
#[test]
fn a_containers_own_variables_come_first() {
    let services = cluster();
    let environment = Environment::new("test2", true, &services);
    let own = [("FOO", "BAR"), ("TEST_SERVICE_HOST", "1.2.3.3"), ("FOO", "BAZ"), ("EMPTY", "")];
    let vars = environment.behind(own.map(|(name, value)| Var::new(name, value)));
    assert_eq!(texts(&vars[..3]), ["FOO=BAZ", "TEST_SERVICE_HOST=1.2.3.3", "EMPTY="]);
    let rest: Vec<&Var> = environment.vars().iter().collect();
    let rest = rest.into_iter().filter(|var| var.name() != "TEST_SERVICE_HOST");
    assert!(vars[3..].iter().eq(rest));
    assert_eq!(vars.len(), 3 + 13);
}

#[test]
fn a_variable_of_two_services_is_the_firsts() {
    let foo = service("ns/foo", "10.0.0.1", &[":80/TCP", "x:81/TCP"]);
    let foo_service = service("ns/foo-service", "10.0.0.2", &[":90/TCP"]);
    for services in [[&foo, &foo_service], [&foo_service, &foo]] {
        let environment = Environment::new("ns", true, services);
        let [collision] = environment.collisions() else {
            panic!("{:?}", environment.collisions());
        };
        assert_eq!(collision.to_string(), "FOO_SERVICE_PORT is ns/foo's, not ns/foo-service's");
        let all = env::vars([&foo, &foo_service]);
        let kept: Vec<&str> = texts(&all)
            .into_iter()
            .filter(|v| *v != "FOO_SERVICE_PORT=tcp://10.0.0.2:90")
            .collect();
        assert_eq!(texts(environment.vars()), kept);
        assert_eq!(kept.len(), all.len() - 1);
    }
}

/// As Linux counts it: each string with its zero byte and a pointer of 8 bytes.
#[test]
fn the_budget_of_exec() {
    assert_eq!(Budget::of([]).bytes, 0);
    let budget = Budget::of(["A=1", "LONGER=12"]);
    assert_eq!((budget.vars, budget.bytes, budget.longest), (2, 4 + 8 + 10 + 8, 10));
    assert_eq!(budget.to_string(), "2 variables, 30 bytes of 2097152");
    assert!(budget.fits() && budget.fits_within(30) && !budget.fits_within(29));

    let long = "x".repeat(STRING_LIMIT - 1);
    assert!(Budget::of([&*long]).fits());
    assert!(!Budget::of([&*format!("{long}x")]).fits());
    let many = EXEC_LIMIT / (STRING_LIMIT / 2 + 8);
    let half = &long[..STRING_LIMIT / 2 - 1];
    assert!(Budget::of(vec![half; many]).fits());
    let over = Budget::of(vec![half; many + 1]);
    assert!(!over.fits() && over.to_string().ends_with("(argument list too long)"));

    // Where it bites: some thousands of Services in one namespace.
    let services = |count: u32| -> Vec<Service> {
        let service = |n: u32| service(&format!("ns/service-{n}"), "10.0.0.1", &[":80/TCP"]);
        (0..count).map(service).collect()
    };
    assert!(Environment::new("ns", true, &services(4_000)).budget().fits());
    assert!(!Environment::new("ns", true, &services(8_000)).budget().fits());
    assert!(Environment::new("other", true, &services(8_000)).budget().fits());
}

/// The rule itself, name by name.
fn naive(service: &Service) -> Vec<String> {
    let ClusterIps::Assigned(ips) = &service.cluster_ips else { return Vec::new() };
    let ip = ips[0];
    let upper = |name: &str| name.replace('-', "_").to_uppercase();
    let p = upper(service.name.name());
    let host = if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() };
    let mut vars = vec![
        format!("{p}_SERVICE_HOST={ip}"),
        format!("{p}_SERVICE_PORT={}", service.ports[0].port),
    ];
    let named = service.ports.iter().filter_map(|port| Some((port.name.as_ref()?, port.port)));
    vars.extend(
        named.map(|(name, port)| format!("{p}_SERVICE_PORT_{}={port}", upper(name.as_str()))),
    );
    for (i, port) in service.ports.iter().enumerate() {
        let (proto, number) = (port.protocol.as_str().to_lowercase(), port.port);
        let url = format!("{proto}://{host}:{number}");
        if i == 0 {
            vars.push(format!("{p}_PORT={url}"));
        }
        let link = format!("{p}_PORT_{number}_{}", port.protocol);
        vars.push(format!("{link}={url}"));
        for (what, value) in
            [("PROTO", proto), ("PORT", number.to_string()), ("ADDR", ip.to_string())]
        {
            vars.push(format!("{link}_{what}={value}"));
        }
    }
    vars
}

fn services() -> impl Strategy<Value = Vec<Service>> {
    let ip = select(&["None", "", "10.0.0.1", "10.0.0.2 fd00::2", "fd00::1 10.0.0.3"][..]);
    let name = select(&["a", "a-service", "a-port", "a-port-80", "b", "kubernetes", "1-a"][..]);
    let namespace = select(&["default", "x"][..]);
    let protocol = select(&[Protocol::Tcp, Protocol::Udp, Protocol::Sctp][..]);
    let port = (select(&["", "a", "host", "port-80", "80"][..]), 79_u16..82, protocol);
    let ports = prop::collection::vec(port, 1..4);
    let one = (namespace, name, ip, ports).prop_map(|(namespace, name, ip, ports)| {
        let ports: Vec<String> = ports.iter().map(|(n, p, t)| format!("{n}:{p}/{t}")).collect();
        let ports: Vec<&str> = ports.iter().map(|port| &**port).collect();
        service(&format!("{namespace}/{name}"), ip, &ports)
    });
    let unique = |mut services: Vec<Service>| {
        services.sort_by(|a, b| a.name.cmp(&b.name));
        services.dedup_by(|a, b| a.name == b.name);
        services
    };
    prop::collection::vec(one, 0..8).prop_map(unique).prop_shuffle()
}

proptest! {
    #[test]
    fn as_the_naive_rule(services in services(), links in any::<bool>(), own in any::<bool>()) {
        for service in &services {
            let vars = env::vars([service]);
            prop_assert_eq!(texts(&vars), naive(service));
        }
        let namespace = if own { "x" } else { "default" };
        let environment = Environment::new(namespace, links, &services);

        // Who is seen, by a scan over all pairs.
        let real = |s: &&Service| matches!(s.cluster_ips, ClusterIps::Assigned(_));
        let master: ObjectName = "default/kubernetes".parse().expect("a name");
        let mut seen: Vec<&Service> = services.iter().filter(real).filter(|service| {
            let here = links && service.name.namespace() == namespace;
            let stands_in = |s: &Service| links && s.name.namespace() == namespace && s.name != master
                && s.name.name() == "kubernetes";
            if service.name == master {
                !services.iter().filter(real).any(stands_in)
            } else {
                here
            }
        }).collect();
        seen.sort_by_key(|service| service.name.name());
        let all: Vec<(String, &ObjectName)> =
            seen.iter().flat_map(|s| naive(s).into_iter().map(|var| (var, &s.name))).collect();
        let name = |var: &str| var.split('=').next().expect("a name").to_owned();
        let mut kept: Vec<(String, &ObjectName)> = Vec::new();
        let mut collisions = Vec::new();
        for (var, owner) in &all {
            match kept.iter().find(|(earlier, _)| name(earlier) == name(var)) {
                Some((_, first)) if first == owner => {}
                Some((_, first)) => collisions.push(format!("{} is {first}'s, not {owner}'s", name(var))),
                None => kept.push((var.clone(), owner)),
            }
        }
        collisions.sort();
        let mut told: Vec<String> = environment.collisions().iter().map(ToString::to_string).collect();
        told.sort();
        prop_assert_eq!(told, collisions);
        prop_assert_eq!(texts(environment.vars()), kept.iter().map(|(var, _)| &**var).collect::<Vec<_>>());
    }
}
