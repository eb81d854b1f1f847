//! Objects as the API server stores them, read as the mirrors of `svcplane::k8s`.
//!
//! A mirror is no `kube` resource, and neither of the two can be implemented for the other from here: a newtype is. It reads the few
//! fields of the metadata that a watch needs by itself, so that an object that is not of the expected form is one bad object with a
//! name, and not the end of a list of ten thousand good ones, as it would be with the types of `k8s-openapi`.

use std::borrow::Cow;
use std::fmt::Debug;

use kube::Resource;
use kube::core::{ClusterResourceScope, NamespaceResourceScope, ObjectMeta};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use svcplane::k8s;

/// An object of the API server.
#[derive(Clone, Debug)]
pub struct Stored<T> {
    /// Its name, namespace, uid and resource version; nothing else is kept.
    pub metadata: ObjectMeta,
    /// The object, or what is not of the expected form.
    pub object: Result<T, String>,
}

/// A kind of object that can be watched.
pub trait Mirror: Clone + Debug + DeserializeOwned + Send + Sync + 'static {
    /// Whether its objects are in namespaces.
    type Scope;
    /// Its API group; empty for the core one.
    const GROUP: &'static str;
    /// Its name.
    const KIND: &'static str;
    /// Its name in paths.
    const PLURAL: &'static str;
}

macro_rules! mirrors {
    ($($kind:ident: $group:literal $plural:literal $scope:ident;)*) => {$(
        impl Mirror for k8s::$kind {
            type Scope = $scope;
            const GROUP: &'static str = $group;
            const KIND: &'static str = stringify!($kind);
            const PLURAL: &'static str = $plural;
        }
    )*};
}

mirrors! {
    Service: "" "services" NamespaceResourceScope;
    EndpointSlice: "discovery.k8s.io" "endpointslices" NamespaceResourceScope;
    Node: "" "nodes" ClusterResourceScope;
}

impl<T: Mirror> Resource for Stored<T> {
    type DynamicType = ();
    type Scope = T::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        T::KIND.into()
    }

    fn group((): &()) -> Cow<'_, str> {
        T::GROUP.into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        T::PLURAL.into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl<'de, T: Mirror> Deserialize<'de> for Stored<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let field = |name: &str| value["metadata"][name].as_str().map(str::to_owned);
        let metadata = ObjectMeta {
            name: field("name"),
            namespace: field("namespace"),
            uid: field("uid"),
            resource_version: field("resourceVersion"),
            ..ObjectMeta::default()
        };
        let object = serde_path_to_error::deserialize(&value).map_err(|error| error.to_string());
        Ok(Self { metadata, object })
    }
}
