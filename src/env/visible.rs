//! Which Services a pod is told of, and what it is told.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;
use alloc::vec::Vec;
use core::fmt;
use core::hash::BuildHasherDefault;

use hashbrown::HashMap;
use siphasher::sip::SipHasher13;

use super::{Budget, Var, announced, push};
use crate::name::ObjectName;
use crate::service::Service;

/// The Service that every pod is told of: the API server's.
const MASTER: (&str, &str) = ("default", "kubernetes");

type NameHasher = BuildHasherDefault<SipHasher13>;

/// The Services that a pod of a namespace is told of, by name: `default/kubernetes` always, the others of its own namespace if it
/// has service links (`enableServiceLinks`, which defaults to true). Those without a cluster IP or without ports are passed over.
/// A Service `kubernetes` of the pod's own namespace stands in the place of the API server's, if there are links.
///
/// A kubelet starts no pod, but for static ones, before it has heard of the Services that there are.
pub fn visible<'a, I>(namespace: &str, service_links: bool, services: I) -> Vec<&'a Service>
where
    I: IntoIterator<Item = &'a Service>,
{
    let mut seen: BTreeMap<&str, &Service> = BTreeMap::new();
    for service in services {
        let (in_namespace, name) = (service.name.namespace(), service.name.name());
        if announced(service).is_none() {
            continue;
        }
        if (in_namespace, name) == MASTER {
            seen.entry(name).or_insert(service);
        } else if in_namespace == namespace && service_links {
            seen.insert(name, service);
        }
    }
    seen.into_values().collect()
}

/// All that a pod's containers are told of Services.
///
/// ```
/// # use svcplane::env::Environment;
/// # use svcplane::name::ObjectName;
/// # use svcplane::service::{ClusterIps, Service, ServicePort};
/// # let service = |name| -> Result<Service, Box<dyn std::error::Error>> {
/// #     let mut service = Service::new(ObjectName::new("default", name)?);
/// #     service.cluster_ips = ClusterIps::Assigned(vec!["10.0.0.11".parse()?]);
/// #     service.ports = vec![ServicePort::new(80)];
/// #     Ok(service)
/// # };
/// // Two ordinary names, and one variable that both Services have: FOO_SERVICE_PORT.
/// let (foo, foo_service) = (service("foo")?, service("foo-service")?);
/// let environment = Environment::new("default", true, [&foo, &foo_service]);
/// assert_eq!(
///     environment.collisions()[0].to_string(),
///     "FOO_SERVICE_PORT is default/foo's, not default/foo-service's"
/// );
/// assert!(environment.budget().fits());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    vars: Vec<Var>,
    collisions: Vec<Collision>,
}

impl Environment {
    /// What a pod of a namespace, with or without service links, is told of the [visible] Services among these.
    ///
    /// Of two Services that claim one variable the first by name has it, and the other is listed in the
    /// [`collisions`](Self::collisions).
    ///
    /// `DIFFERENCE`: with the kubelet it is either, by chance.
    pub fn new<'a, I>(namespace: &str, service_links: bool, services: I) -> Self
    where
        I: IntoIterator<Item = &'a Service>,
    {
        let visible = visible(namespace, service_links, services);
        let (mut all, mut owners) = (Vec::new(), Vec::new());
        for service in visible {
            push(service, &mut all);
            owners.resize(all.len(), service);
        }
        let mut first: HashMap<&str, usize, NameHasher> =
            HashMap::with_capacity_and_hasher(all.len(), NameHasher::default());
        let (mut lost, mut collisions) = (Vec::new(), Vec::new());
        for (at, var) in all.iter().enumerate() {
            let kept = *first.entry(var.name()).or_insert(at);
            if kept == at {
                continue;
            }
            lost.push(at);
            let (kept, lost): (&Service, &Service) = (owners[kept], owners[at]);
            if kept.name != lost.name {
                collisions.push(Collision {
                    variable: var.name().into(),
                    kept: kept.name.clone(),
                    lost: lost.name.clone(),
                });
            }
        }
        drop(first);
        let mut lost = lost.into_iter().peekable();
        let mut at = 0;
        all.retain(|_| {
            at += 1;
            lost.next_if_eq(&(at - 1)).is_none()
        });
        collisions.sort_unstable();
        Self { vars: all, collisions }
    }

    /// The variables, by Service and within one as [`vars`](super::vars) has them; no name twice.
    pub fn vars(&self) -> &[Var] {
        &self.vars
    }

    /// Which Services lost a variable to others, by variable.
    pub fn collisions(&self) -> &[Collision] {
        &self.collisions
    }

    /// How much of what the kernel lets a program be started with is used up.
    pub fn budget(&self) -> Budget {
        Budget::of(self.vars.iter().map(Var::as_str))
    }

    /// The environment of a container: first its own variables (a later one of a name counts), then those of Services that
    /// it does not set itself.
    pub fn behind<I: IntoIterator<Item = Var>>(&self, own: I) -> Vec<Var> {
        let mut vars: Vec<Var> = Vec::new();
        let mut places: BTreeMap<Box<str>, usize> = BTreeMap::new();
        for var in own {
            match places.entry(var.name().into()) {
                Entry::Occupied(place) => vars[*place.get()] = var,
                Entry::Vacant(vacant) => {
                    vacant.insert(vars.len());
                    vars.push(var);
                }
            }
        }
        vars.extend(self.vars.iter().filter(|var| !places.contains_key(var.name())).cloned());
        vars
    }
}

/// A variable that two Services claim.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Collision {
    /// The variable's name.
    pub variable: Box<str>,
    /// The Service whose value it has.
    pub kept: ObjectName,
    /// The Service whose value it does not have.
    pub lost: ObjectName,
}

impl fmt::Display for Collision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}'s, not {}'s", self.variable, self.kept, self.lost)
    }
}
