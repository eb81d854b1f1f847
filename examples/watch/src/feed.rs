//! What is made of what watches say: no I/O, no clock.

use std::collections::{HashMap, VecDeque};
use std::fmt;

use kube::core::ObjectMeta;
use kube::runtime::watcher::Event as Said;
use svcplane::catalog::{Catalog, Changes, Event, Key, Kind, Object};
use svcplane::field::FieldError;
use svcplane::k8s;
use svcplane::name::ObjectName;
use svcplane::node::Node;
use svcplane::plan::{LocalDetector, LocalNode};

use crate::source::{Heard, Interruption};
use crate::stored::{Mirror, Stored};

/// How many deleted objects of a kind are remembered, so that what is said late of them is known to be late.
const GRAVES: usize = 1000;

/// Something that one of the three watches says.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it is looked at at once, and most are slices")]
pub enum Input {
    /// Of a Service.
    Service(Heard<k8s::Service>),
    /// Of an EndpointSlice.
    EndpointSlice(Heard<k8s::EndpointSlice>),
    /// Of a node.
    Node(Heard<k8s::Node>),
}

/// What somebody who looks after the node may want to know.
#[derive(Debug)]
#[non_exhaustive]
pub enum Notice {
    /// A watch was interrupted; it goes on by itself.
    Interrupted(Interruption),
    /// All objects of a kind are known, again or for the first time.
    Listed {
        /// The kind.
        kind: Kind,
        /// How many there are.
        objects: usize,
    },
    /// An object is passed over, as it cannot be understood.
    PassedOver {
        /// Its kind, namespace and name, as far as it has them.
        object: String,
        /// Why.
        cause: String,
        /// Whether what was known of it stays in force.
        kept: bool,
    },
    /// Parts of an object are left out, as they cannot be understood.
    LeftOut {
        /// Its kind, namespace and name.
        object: String,
        /// Which, and why.
        warnings: Vec<FieldError>,
    },
    /// Something is said late: later things are known already.
    Late {
        /// Its kind, namespace and name.
        object: String,
        /// The version that comes late.
        version: u64,
        /// The version that is known.
        known: u64,
    },
    /// The node that this is has no Node object: nothing is known of its addresses, or what was known stays in force.
    NoNode(String),
}

/// A catalog, what waits to be carried out, and what has to be known to feed it.
#[derive(Debug)]
pub struct Feed {
    catalog: Catalog,
    /// The node as it was given: what a Node does not say stays as it is here.
    settings: LocalNode,
    services: Seen,
    slices: Seen,
    nodes: Seen,
    waiting: Changes,
    handed_on: bool,
}

/// What is known of the objects of a kind.
#[derive(Debug, Default)]
struct Seen {
    known: HashMap<Key, Known>,
    /// The deleted ones among them, the latest last.
    graves: VecDeque<(Key, Option<u64>)>,
    listing: Listing,
    listed: bool,
}

/// A list that is not at its end yet.
#[derive(Debug, Default)]
struct Listing {
    known: HashMap<Key, Known>,
    objects: Vec<Object>,
    /// Those of which what is known stays in force.
    kept: Vec<Key>,
}

#[derive(Debug, Default)]
struct Known {
    uid: Option<String>,
    /// The resource version, if it is a number.
    version: Option<u64>,
    /// Whether it is in the catalog.
    stands: bool,
    /// What was told of it last, so that it is not told again and again.
    told: Option<String>,
}

/// What there is to be done for an object.
enum Outcome {
    Take(Object),
    /// It stays as it was, or is passed over.
    Pass {
        kept: bool,
    },
}

trait Kept: Mirror {
    const OF: Kind;
    fn key(metadata: &ObjectMeta) -> Result<Key, String>;
    fn object(&self) -> Result<(Object, Vec<FieldError>), FieldError>;
}

impl Kept for k8s::Service {
    const OF: Kind = Kind::Service;

    fn key(metadata: &ObjectMeta) -> Result<Key, String> {
        namespaced(metadata).map(Key::Service)
    }

    fn object(&self) -> Result<(Object, Vec<FieldError>), FieldError> {
        self.convert().map(|converted| (converted.object.into(), converted.warnings))
    }
}

impl Kept for k8s::EndpointSlice {
    const OF: Kind = Kind::EndpointSlice;

    fn key(metadata: &ObjectMeta) -> Result<Key, String> {
        namespaced(metadata).map(Key::EndpointSlice)
    }

    fn object(&self) -> Result<(Object, Vec<FieldError>), FieldError> {
        self.convert().map(|converted| (converted.object.into(), converted.warnings))
    }
}

impl Kept for k8s::Node {
    const OF: Kind = Kind::Node;

    fn key(metadata: &ObjectMeta) -> Result<Key, String> {
        let name = metadata.name.as_deref().unwrap_or_default();
        name.parse().map(Key::Node).map_err(|error| format!("metadata.name: {error}"))
    }

    fn object(&self) -> Result<(Object, Vec<FieldError>), FieldError> {
        self.convert().map(|converted| (converted.object.into(), converted.warnings))
    }
}

impl Feed {
    /// Feeds a catalog, an empty one. What a Node object says of its [node](svcplane::plan::Plan::node) is put into it; all else of it is kept: settings, other
    /// addresses, and how pods' traffic is told if that is said.
    #[must_use]
    pub fn new(catalog: Catalog) -> Self {
        let settings = catalog.plan().node().clone();
        Self {
            catalog,
            settings,
            services: Seen::default(),
            slices: Seen::default(),
            nodes: Seen::default(),
            waiting: Changes::default(),
            handed_on: false,
        }
    }

    /// Takes what was said, all of it at once, and says what is worth a notice.
    pub fn take<I>(&mut self, inputs: I, mut notice: impl FnMut(Notice))
    where
        I: IntoIterator<Item = Input>,
    {
        let mut events = Vec::new();
        for input in inputs {
            match input {
                Input::Service(heard) => self.hear(heard, &mut events, &mut notice),
                Input::EndpointSlice(heard) => self.hear(heard, &mut events, &mut notice),
                Input::Node(heard) => self.hear(heard, &mut events, &mut notice),
            }
        }
        self.apply(events, &mut notice);
    }

    /// What is to be carried out since this was last asked; `None` if it is nothing. The first time it is all there is, and comes
    /// when Services, EndpointSlices and the node have been listed.
    pub fn changes(&mut self) -> Option<Changes> {
        if !(self.services.listed && self.slices.listed && self.nodes.listed) {
            return None;
        }
        if self.handed_on && self.waiting.is_empty() {
            return None;
        }
        self.handed_on = true;
        Some(std::mem::take(&mut self.waiting))
    }

    /// What is known.
    #[must_use]
    pub const fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    fn hear<T: Kept>(
        &mut self,
        heard: Heard<T>,
        events: &mut Vec<Event>,
        notice: &mut impl FnMut(Notice),
    ) {
        let seen = match T::OF {
            Kind::Service => &mut self.services,
            Kind::EndpointSlice => &mut self.slices,
            _ => &mut self.nodes,
        };
        match heard {
            Err(interruption) => notice(Notice::Interrupted(interruption)),
            Ok(Said::Init) => seen.listing = Listing::default(),
            Ok(Said::InitApply(stored)) => seen.list(&stored, notice),
            Ok(Said::InitDone) => {
                seen.listed = true;
                seen.graves.clear();
                let Listing { known, objects, kept } = std::mem::take(&mut seen.listing);
                seen.known = known;
                // What was said before comes before the list.
                self.apply(std::mem::take(events), notice);
                self.resync(T::OF, objects, &kept, notice);
            }
            Ok(Said::Apply(stored)) => events.extend(seen.upsert(&stored, notice)),
            Ok(Said::Delete(stored)) => events.extend(seen.delete(&stored, notice)),
        }
    }

    fn resync(
        &mut self,
        kind: Kind,
        mut objects: Vec<Object>,
        kept: &[Key],
        notice: &mut impl FnMut(Notice),
    ) {
        notice(Notice::Listed { kind, objects: objects.len() + kept.len() });
        if kind == Kind::Node {
            let own = Key::Node(self.settings.name.clone());
            if !kept.contains(&own) && objects.iter().all(|object| object.key() != own) {
                notice(Notice::NoNode(self.settings.name.to_string()));
            }
            self.apply(objects.into_iter().map(Event::Upsert).collect(), notice);
            return;
        }
        if !kept.is_empty() {
            // They are rare.
            let stay = self.catalog.snapshot().into_iter();
            objects.extend(stay.filter(|object| kept.contains(&object.key())));
        }
        let changes = self.catalog.resync(kind, objects);
        self.waiting.merge(changes);
    }

    fn apply(&mut self, events: Vec<Event>, notice: &mut impl FnMut(Notice)) {
        let mut node = None;
        let mut rest = Vec::with_capacity(events.len());
        for event in events {
            match event {
                Event::Upsert(Object::Node(latest)) if latest.name == self.settings.name => {
                    node = Some(latest);
                }
                // What was known of it stays in force, as its pods do until they are stopped.
                Event::Delete(Key::Node(name)) if name == self.settings.name => {
                    notice(Notice::NoNode(name.to_string()));
                }
                Event::Upsert(Object::Node(_)) | Event::Delete(Key::Node(_)) => {}
                event => rest.push(event),
            }
        }
        if let Some(node) = node {
            let changes = self.catalog.set_node(local(&self.settings, &node));
            self.waiting.merge(changes);
        }
        let changes = self.catalog.apply_all(rest);
        self.waiting.merge(changes);
    }
}

impl Seen {
    /// An object of a list.
    fn list<T: Kept>(&mut self, stored: &Stored<T>, notice: &mut impl FnMut(Notice)) {
        let Some(key) = key(stored, notice) else { return };
        let (known, outcome) = look(stored, &key, self.known.get(&key), notice);
        match outcome {
            Outcome::Take(object) => self.listing.objects.push(object),
            Outcome::Pass { kept: true } => self.listing.kept.push(key.clone()),
            Outcome::Pass { kept: false } => {}
        }
        self.listing.known.insert(key, known);
    }

    /// An object as it is from now on.
    fn upsert<T: Kept>(
        &mut self,
        stored: &Stored<T>,
        notice: &mut impl FnMut(Notice),
    ) -> Option<Event> {
        let key = key(stored, notice)?;
        if self.is_late(stored, &key, notice) {
            return None;
        }
        let earlier = self.known.get(&key);
        let stood = earlier.is_some_and(|earlier| earlier.stands);
        let (known, outcome) = look(stored, &key, earlier, notice);
        self.known.insert(key.clone(), known);
        match outcome {
            Outcome::Take(object) => Some(object.into()),
            // Another of the same name has taken its place.
            Outcome::Pass { kept: false } if stood => Some(key.into()),
            Outcome::Pass { .. } => None,
        }
    }

    /// An object that is no more.
    fn delete<T: Kept>(
        &mut self,
        stored: &Stored<T>,
        notice: &mut impl FnMut(Notice),
    ) -> Option<Event> {
        let key = key(stored, notice)?;
        if self.is_late(stored, &key, notice) {
            return None;
        }
        let (uid, version) = (stored.metadata.uid.clone(), version(&stored.metadata));
        self.known.insert(key.clone(), Known { uid, version, ..Known::default() });
        self.graves.push_back((key.clone(), version));
        if self.graves.len() > GRAVES
            && let Some((oldest, version)) = self.graves.pop_front()
            && self.known.get(&oldest).is_some_and(|it| !it.stands && it.version == version)
        {
            self.known.remove(&oldest);
        }
        Some(key.into())
    }

    /// Whether something later is known. Versions that are numbers are ordered among all objects of a kind, whatever their uid.
    fn is_late<T: Kept>(
        &self,
        stored: &Stored<T>,
        key: &Key,
        notice: &mut impl FnMut(Notice),
    ) -> bool {
        let known = self.known.get(key).and_then(|known| known.version);
        match (version(&stored.metadata), known) {
            (Some(version), Some(known)) if version < known => {
                notice(Notice::Late { object: called(stored), version, known });
                true
            }
            _ => false,
        }
    }
}

/// What an object comes to, if something is known of it already.
fn look<T: Kept>(
    stored: &Stored<T>,
    key: &Key,
    earlier: Option<&Known>,
    notice: &mut impl FnMut(Notice),
) -> (Known, Outcome) {
    let metadata = &stored.metadata;
    let is_told = |told: &str| earlier.and_then(|earlier| earlier.told.as_deref()) == Some(told);
    let understood = match &stored.object {
        Ok(object) => object.object().map_err(|error| error.to_string()),
        Err(error) => Err(error.clone()),
    };
    let mut known =
        Known { uid: metadata.uid.clone(), version: version(metadata), ..Known::default() };
    let outcome = match understood {
        Ok((object, warnings)) => {
            debug_assert_eq!(object.key(), *key);
            known.stands = true;
            if !warnings.is_empty() {
                let told = texts(&warnings).join("; ");
                if !is_told(&told) {
                    notice(Notice::LeftOut { object: called(stored), warnings });
                }
                known.told = Some(told);
            }
            Outcome::Take(object)
        }
        Err(cause) => {
            known.stands =
                earlier.is_some_and(|earlier| earlier.stands && earlier.uid == metadata.uid);
            let kept = known.stands;
            if !is_told(&cause) {
                let (object, cause) = (called(stored), cause.clone());
                notice(Notice::PassedOver { object, cause, kept });
            }
            known.told = Some(cause);
            Outcome::Pass { kept }
        }
    };
    (known, outcome)
}

fn key<T: Kept>(stored: &Stored<T>, notice: &mut impl FnMut(Notice)) -> Option<Key> {
    let passed_over =
        |cause| notice(Notice::PassedOver { object: called(stored), cause, kept: false });
    T::key(&stored.metadata).map_err(passed_over).ok()
}

fn called<T: Mirror>(stored: &Stored<T>) -> String {
    let ObjectMeta { name, namespace, .. } = &stored.metadata;
    let name = name.as_deref().unwrap_or("without a name");
    match namespace {
        Some(namespace) => format!("{} {namespace}/{name}", T::KIND),
        None => format!("{} {name}", T::KIND),
    }
}

fn texts(warnings: &[FieldError]) -> Vec<String> {
    warnings.iter().map(FieldError::to_string).collect()
}

fn namespaced(metadata: &ObjectMeta) -> Result<ObjectName, String> {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    ObjectName::new(&text(&metadata.namespace), &text(&metadata.name))
        .map_err(|error| format!("metadata: {error}"))
}

fn version(metadata: &ObjectMeta) -> Option<u64> {
    metadata.resource_version.as_ref()?.parse().ok()
}

/// A node by its settings and its object: zone and addresses are the object's, and so are the CIDRs by which its pods are told, unless the
/// settings say how they are.
fn local(settings: &LocalNode, node: &Node) -> LocalNode {
    let said = LocalNode::of(node);
    let mut local = settings.clone();
    local.zone = said.zone.or(local.zone);
    if !said.addresses.is_empty() {
        local.addresses = said.addresses;
    }
    if local.pods == LocalDetector::None {
        local.pods = said.pods;
    }
    local
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interrupted(interruption) => interruption.fmt(f),
            Self::Listed { kind, objects } => write!(f, "listed: {objects} of kind {kind:?}"),
            Self::PassedOver { object, cause, kept } => {
                let what = if *kept { "the last good state stays" } else { "passed over" };
                write!(f, "{object}: {what}: {cause}")
            }
            Self::LeftOut { object, warnings } => {
                write!(f, "{object}: left out: {}", texts(warnings).join("; "))
            }
            Self::Late { object, version, known } => {
                write!(f, "{object}: version {version} comes after {known}: passed over")
            }
            Self::NoNode(name) => {
                write!(f, "no Node {name}: its addresses and zone stay as they are known")
            }
        }
    }
}
