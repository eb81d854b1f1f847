//! What comes in.

use alloc::boxed::Box;

use crate::endpoints::{EndpointSlice, Endpoints};
use crate::name::{NodeName, ObjectName};
use crate::node::Node;
use crate::pod::Pod;
use crate::service::Service;

/// Something has happened to an object. One comes of an [`Object`], of what that is made from, and of a [`Key`].
#[expect(clippy::exhaustive_enums, reason = "watches know no more")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// There is an object, new or as it is from now on.
    Upsert(Object),
    /// An object is no more. One that was never heard of is no mistake.
    Delete(Key),
}

/// An object.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// A Service.
    Service(Box<Service>),
    /// An EndpointSlice.
    EndpointSlice(Box<EndpointSlice>),
    /// The older Endpoints.
    Endpoints(Box<Endpoints>),
    /// A pod.
    Pod(Box<Pod>),
    /// A node.
    Node(Box<Node>),
}

/// Which object.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// A Service.
    Service(ObjectName),
    /// An EndpointSlice.
    EndpointSlice(ObjectName),
    /// The older Endpoints.
    Endpoints(ObjectName),
    /// A pod.
    Pod(ObjectName),
    /// A node.
    Node(NodeName),
}

/// What kind of object.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Services.
    Service,
    /// EndpointSlices.
    EndpointSlice,
    /// The older Endpoints.
    Endpoints,
    /// Pods.
    Pod,
    /// Nodes.
    Node,
}

impl Kind {
    /// Every kind.
    pub const ALL: &[Self] =
        &[Self::Service, Self::EndpointSlice, Self::Endpoints, Self::Pod, Self::Node];
}

impl Object {
    /// What it is known by.
    pub fn key(&self) -> Key {
        match self {
            Self::Service(service) => Key::Service(service.name.clone()),
            Self::EndpointSlice(slice) => Key::EndpointSlice(slice.name.clone()),
            Self::Endpoints(endpoints) => Key::Endpoints(endpoints.name.clone()),
            Self::Pod(pod) => Key::Pod(pod.name.clone()),
            Self::Node(node) => Key::Node(node.name.clone()),
        }
    }
}

impl Key {
    /// What kind of object has it.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Service(_) => Kind::Service,
            Self::EndpointSlice(_) => Kind::EndpointSlice,
            Self::Endpoints(_) => Kind::Endpoints,
            Self::Pod(_) => Kind::Pod,
            Self::Node(_) => Kind::Node,
        }
    }
}

macro_rules! comes_of {
    ($($object:ident),*) => {$(
        impl From<$object> for Object {
            fn from(object: $object) -> Self {
                Self::$object(Box::new(object))
            }
        }

        impl From<$object> for Event {
            fn from(object: $object) -> Self {
                Self::Upsert(object.into())
            }
        }
    )*};
}

comes_of!(Service, EndpointSlice, Endpoints, Pod, Node);

impl From<Object> for Event {
    fn from(object: Object) -> Self {
        Self::Upsert(object)
    }
}

impl From<Key> for Event {
    fn from(key: Key) -> Self {
        Self::Delete(key)
    }
}
