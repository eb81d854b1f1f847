//! Any mirrored object, by its `apiVersion` and `kind`.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::{EndpointSlice, Endpoints, Node, Pod, Service};

/// An object of one of the mirrored kinds, or of another.
///
/// Reads typed lists (`ServiceList`, …) as a [`List`]; an object of another group with a mirrored kind's name
/// (a Knative `Service`) is [`Other`](Self::Other).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "wire::Tagged", into = "wire::Tagged"))]
pub enum Object {
    /// v1 `Service`
    Service(Box<Service>),
    /// v1 `Pod`
    Pod(Box<Pod>),
    /// v1 `Endpoints`
    Endpoints(Endpoints),
    /// discovery.k8s.io/v1 `EndpointSlice`
    EndpointSlice(EndpointSlice),
    /// v1 `Node`
    Node(Box<Node>),
    /// v1 `List`
    List(List),
    /// An object that is not mirrored; nothing of it is kept.
    Other,
}

/// Objects of any kinds in one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default))]
pub struct List {
    /// The objects.
    #[cfg_attr(feature = "serde", serde(deserialize_with = "super::mirror::null_is_default"))]
    pub items: Vec<Object>,
}

#[cfg(feature = "serde")]
mod wire {
    use alloc::boxed::Box;
    use alloc::string::{String, ToString};
    use alloc::vec::Vec;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{EndpointSlice, Endpoints, List, Node, Object, Pod, Service};

    #[derive(Serialize, Deserialize)]
    #[serde(tag = "kind")]
    pub(super) enum Tagged {
        Service(Versioned<Service>),
        Pod(Versioned<Pod>),
        Endpoints(Versioned<Endpoints>),
        EndpointSlice(Versioned<EndpointSlice>),
        Node(Versioned<Node>),
        List(Versioned<List>),
        ServiceList(Versioned<Items<Service>>),
        PodList(Versioned<Items<Pod>>),
        EndpointsList(Versioned<Items<Endpoints>>),
        EndpointSliceList(Versioned<Items<EndpointSlice>>),
        NodeList(Versioned<Items<Node>>),
        #[serde(other)]
        Other,
    }

    #[derive(Serialize, Deserialize)]
    pub(super) struct Versioned<T> {
        #[serde(rename = "apiVersion", default)]
        api_version: String,
        #[serde(flatten, bound(deserialize = "T: Deserialize<'de>"))]
        object: Body<T>,
    }

    /// An object, or why it is none: which matters only if it is of the expected group.
    struct Body<T>(Result<T, String>);

    impl<'de, T: Deserialize<'de>> Deserialize<'de> for Body<T> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            Ok(Self(T::deserialize(deserializer).map_err(|error| error.to_string())))
        }
    }

    impl<T: Serialize> Serialize for Body<T> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            match &self.0 {
                Ok(object) => object.serialize(serializer),
                Err(error) => Err(serde::ser::Error::custom(error)),
            }
        }
    }

    #[derive(Serialize, Deserialize)]
    pub(super) struct Items<T> {
        items: Option<Vec<T>>,
    }

    const CORE: &str = "v1";
    const DISCOVERY: &str = "discovery.k8s.io/v1";

    impl<T> Versioned<T> {
        fn new(api_version: &str, object: T) -> Self {
            Self { api_version: api_version.into(), object: Body(Ok(object)) }
        }

        fn of(self, api_version: &str, wrap: impl FnOnce(T) -> Object) -> Result<Object, String> {
            if self.api_version == api_version {
                self.object.0.map(wrap)
            } else {
                Ok(Object::Other)
            }
        }
    }

    impl<T> Versioned<Items<T>> {
        fn list(self, api_version: &str, wrap: impl FnMut(T) -> Object) -> Result<Object, String> {
            self.of(api_version, |list| {
                let items = list.items.into_iter().flatten().map(wrap).collect();
                Object::List(List { items })
            })
        }
    }

    impl TryFrom<Tagged> for Object {
        type Error = String;

        fn try_from(tagged: Tagged) -> Result<Self, String> {
            match tagged {
                Tagged::Service(object) => object.of(CORE, |o| Self::Service(Box::new(o))),
                Tagged::Pod(object) => object.of(CORE, |o| Self::Pod(Box::new(o))),
                Tagged::Endpoints(object) => object.of(CORE, Self::Endpoints),
                Tagged::EndpointSlice(object) => object.of(DISCOVERY, Self::EndpointSlice),
                Tagged::Node(object) => object.of(CORE, |o| Self::Node(Box::new(o))),
                Tagged::List(list) => list.of(CORE, Self::List),
                Tagged::ServiceList(list) => list.list(CORE, |o| Self::Service(Box::new(o))),
                Tagged::PodList(list) => list.list(CORE, |o| Self::Pod(Box::new(o))),
                Tagged::EndpointsList(list) => list.list(CORE, Self::Endpoints),
                Tagged::EndpointSliceList(list) => list.list(DISCOVERY, Self::EndpointSlice),
                Tagged::NodeList(list) => list.list(CORE, |o| Self::Node(Box::new(o))),
                Tagged::Other => Ok(Self::Other),
            }
        }
    }

    impl From<Object> for Tagged {
        fn from(object: Object) -> Self {
            match object {
                Object::Service(object) => Self::Service(Versioned::new(CORE, *object)),
                Object::Pod(object) => Self::Pod(Versioned::new(CORE, *object)),
                Object::Endpoints(object) => Self::Endpoints(Versioned::new(CORE, object)),
                Object::EndpointSlice(object) => {
                    Self::EndpointSlice(Versioned::new(DISCOVERY, object))
                }
                Object::Node(object) => Self::Node(Versioned::new(CORE, *object)),
                Object::List(list) => Self::List(Versioned::new(CORE, list)),
                Object::Other => Self::Other,
            }
        }
    }
}
