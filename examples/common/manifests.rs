//! Manifests from files, folders and standard input, as domain objects; or every mistake in them.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::de::DeserializeOwned;
use serde_json::Value;
use svcplane::endpoints::{EndpointSlice, Endpoints, SERVICE_NAME_LABEL};
use svcplane::field::FieldError;
use svcplane::k8s::{self, Converted};
use svcplane::node::Node;
use svcplane::pod::Pod;
use svcplane::service::Service;

/// Where manifests come from.
pub(crate) struct Sources {
    paths: Vec<PathBuf>,
    /// Standard input can be read once; a reload reads the same text again.
    stdin: Option<String>,
    /// Readings for which file descriptors were missing: the files may be as they were seen, and have not been read.
    starved: Cell<u64>,
}

/// What tells one state of the files from another.
pub(crate) type Fingerprint = Vec<(PathBuf, Option<SystemTime>, u64)>;

/// The objects of all manifests.
#[derive(Default)]
pub(crate) struct Manifests {
    pub(crate) services: Vec<Located<Service>>,
    pub(crate) pods: Vec<Located<Pod>>,
    pub(crate) nodes: Vec<Located<Node>>,
    pub(crate) endpoints: Vec<Located<Endpoints>>,
    pub(crate) slices: Vec<Located<EndpointSlice>>,
    /// What was passed over, and why that may matter.
    pub(crate) warnings: Vec<String>,
}

/// An object, and where it was written.
pub(crate) struct Located<T> {
    pub(crate) origin: Origin,
    pub(crate) object: T,
}

/// File, document and object: the beginning of every message about it.
#[derive(Clone)]
pub(crate) struct Origin {
    file: String,
    /// Which document of the file, from 1, and the line where it begins.
    document: usize,
    line: usize,
    object: String,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: document {} (line {})", self.file, self.document, self.line)?;
        if !self.object.is_empty() {
            write!(f, ": {}", self.object)?;
        }
        Ok(())
    }
}

impl Sources {
    pub(crate) fn new(paths: Vec<PathBuf>) -> Result<Self, String> {
        let mut stdin = None;
        if paths.iter().any(|path| path.as_os_str() == "-") {
            let mut text = String::new();
            io::stdin()
                .read_to_string(&mut text)
                .map_err(|error| format!("standard input: {error}"))?;
            stdin = Some(text);
        }
        Ok(Self { paths, stdin, starved: Cell::new(0) })
    }

    /// Reads everything. All mistakes are reported, not only the first.
    pub(crate) fn read(&self) -> Result<Manifests, Vec<String>> {
        let mut reader = Reader::default();
        for path in &self.paths {
            if path.as_os_str() == "-" {
                reader.text("standard input", self.stdin.as_deref().unwrap_or(""));
                continue;
            }
            match files(path) {
                Ok(files) => files.iter().for_each(|file| reader.file(file)),
                Err(error) => reader.unread(path, &error),
            }
        }
        if reader.starved {
            self.starved.set(self.starved.get() + 1);
        }
        if reader.errors.is_empty() { Ok(reader.manifests) } else { Err(reader.errors) }
    }

    /// The files as they are now. A file that cannot be looked at counts as well, and so does each reading that file descriptors were
    /// missing for: it has to be done again.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        let of = |path: PathBuf| {
            let metadata = std::fs::metadata(&path).ok();
            let modified = metadata.as_ref().and_then(|m| m.modified().ok());
            (path, modified, metadata.map_or(0, |m| m.len()))
        };
        let listed = self.paths.iter().filter(|path| path.as_os_str() != "-");
        let files = listed.flat_map(|path| files(path).unwrap_or_else(|_| vec![path.clone()]));
        files.map(of).chain([(PathBuf::new(), None, self.starved.get())]).collect()
    }

    /// Whether file descriptors were missing for a reading since.
    pub(crate) fn starved_since(&self, seen: &Fingerprint) -> bool {
        seen.last().is_some_and(|(_, _, starved)| *starved != self.starved.get())
    }
}

/// A file, or the manifests of a folder by name (not those of folders in it).
fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = std::fs::read_dir(path)?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let extension = path.extension().and_then(|extension| extension.to_str());
            matches!(extension, Some("yaml" | "yml" | "json")) && path.is_file()
        })
        .collect();
    files.sort();
    if files.is_empty() {
        return Err(io::Error::other("expected .yaml, .yml or .json files in this folder"));
    }
    Ok(files)
}

struct Document<'a> {
    text: &'a str,
    /// The line that its text begins on, from 1, and the first that is neither blank nor a comment.
    line: usize,
    content: usize,
}

/// The documents of a file; what is blank or comment only is none.
fn documents(text: &str) -> Vec<Document<'_>> {
    let mut documents = Vec::new();
    let (mut begin, mut line, mut content) = (0, 1, None);
    let mut at = 0;
    for (i, text_line) in text.split_inclusive('\n').enumerate() {
        if is_marker(text_line) {
            documents.extend(content.map(|content| Document {
                text: &text[begin..at],
                line,
                content,
            }));
            // Directives belong to the document after them.
            if content.is_some() || !text[begin..at].starts_with('%') {
                (begin, line) = (at, i + 1);
            }
            content = None;
        }
        let inner = if is_marker(text_line) { &text_line[3..] } else { text_line }.trim_start();
        if !inner.is_empty() && !inner.starts_with('#') && !text_line.starts_with('%') {
            content.get_or_insert(i + 1);
        }
        at += text_line.len();
    }
    documents.extend(content.map(|content| Document { text: &text[begin..], line, content }));
    documents
}

/// Three dashes at the beginning of a line begin a document, wherever they stand.
fn is_marker(line: &str) -> bool {
    line.strip_prefix("---").is_some_and(|rest| rest.trim_start() != rest || rest.is_empty())
}

#[derive(Default)]
struct Reader {
    manifests: Manifests,
    errors: Vec<String>,
    /// File descriptors were missing.
    starved: bool,
    /// Where each object was seen first, by kind and name.
    seen: BTreeMap<String, Origin>,
}

impl Reader {
    fn file(&mut self, path: &Path) {
        match std::fs::read_to_string(path) {
            Ok(text) => self.text(&path.display().to_string(), &text),
            Err(error) => self.unread(path, &error),
        }
    }

    fn unread(&mut self, path: &Path, error: &io::Error) {
        // EMFILE and ENFILE.
        self.starved |= matches!(error.raw_os_error(), Some(24 | 23));
        self.errors.push(format!("{}: {error}", path.display()));
    }

    /// YAML, of which JSON is a part; any number of documents. A document that is no YAML spoils no other.
    fn text(&mut self, file: &str, text: &str) {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (i, document) in documents(text).into_iter().enumerate() {
            let file = file.to_owned();
            let mut origin =
                Origin { file, document: i + 1, line: document.content, object: String::new() };
            let value =
                serde_norway::from_str(document.text).and_then(|mut value: serde_norway::Value| {
                    value.apply_merge()?;
                    Ok(value)
                });
            match value.map(serde_json::to_value) {
                Ok(Ok(Value::Null)) => {}
                Ok(Ok(value)) => self.object(&origin, value, None),
                Ok(Err(error)) => self.errors.push(format!("{origin}: not an object: {error}")),
                Err(error) => {
                    let mut why = error.to_string();
                    if let Some(at) = error.location() {
                        origin.line = document.line - 1 + at.line();
                        // The parser counts the document's lines, not the file's.
                        why.truncate(why.find(" at line ").unwrap_or(why.len()));
                        why = format!("{why}, column {}", at.column());
                    }
                    self.errors.push(format!("{origin}: not YAML: {why}"));
                }
            }
        }
    }

    /// One object, or the objects of a list. Those of a typed list need not say what they are.
    fn object(&mut self, origin: &Origin, mut value: Value, implied: Option<(&str, &str)>) {
        if !value.is_object() {
            self.errors.push(format!("{origin}: expected an object with apiVersion and kind"));
            return;
        }
        let text = |field: &str| value.get(field).and_then(Value::as_str).map(str::to_owned);
        let (api_version, kind) = match (text("apiVersion"), text("kind"), implied) {
            (Some(api_version), Some(kind), _) => (api_version, kind),
            (None, None, Some((api_version, kind))) => (api_version.to_owned(), kind.to_owned()),
            (api_version, _, _) => {
                let field = if api_version.is_none() { "apiVersion" } else { "kind" };
                self.errors.push(format!("{origin}: {field}: required value: expected a string"));
                return;
            }
        };
        if let Some(item_kind) = kind.strip_suffix("List") {
            let implied = (!item_kind.is_empty()).then_some((api_version.as_str(), item_kind));
            match value.get_mut("items").map(Value::take) {
                None | Some(Value::Null) => {}
                Some(Value::Array(items)) => {
                    for (i, item) in items.into_iter().enumerate() {
                        let object = format!("{kind} items[{i}]");
                        self.object(&Origin { object, ..origin.clone() }, item, implied);
                    }
                }
                Some(_) => self.errors.push(format!("{origin}: items: expected a list")),
            }
            return;
        }
        let meta = |field: &str| value["metadata"][field].as_str().unwrap_or("").to_owned();
        let (mut namespace, name) = (meta("namespace"), meta("name"));
        if kind == "Node" {
            namespace.clear();
        } else if namespace.is_empty() {
            "default".clone_into(&mut namespace);
        }
        let slash = if namespace.is_empty() { "" } else { "/" };
        let object = format!("{kind} {namespace}{slash}{name}");
        let origin = Origin { object: object.clone(), ..origin.clone() };
        self.known_object(&origin, &api_version, &kind, &namespace, value);
        if !name.is_empty() {
            if let Some(first) = self.seen.get(&object) {
                self.errors.push(format!("{origin}: metadata.name: duplicate of {first}"));
            } else {
                self.seen.insert(object, origin);
            }
        }
    }

    fn known_object(
        &mut self,
        origin: &Origin,
        api_version: &str,
        kind: &str,
        namespace: &str,
        value: Value,
    ) {
        let all = &mut self.manifests;
        match (api_version, kind) {
            ("v1", "Service") => {
                let read = read(value, &mut self.errors, origin, |mirror: &mut k8s::Service| {
                    namespace.clone_into(&mut mirror.metadata.namespace);
                    mirror.set_defaults();
                    mirror.validate()
                });
                let converted = read.map(|mirror| mirror.convert());
                keep(&mut all.services, &mut all.warnings, &mut self.errors, origin, converted);
            }
            ("v1", "Pod") => {
                let read = read(value, &mut self.errors, origin, |mirror: &mut k8s::Pod| {
                    namespace.clone_into(&mut mirror.metadata.namespace);
                    mirror.set_defaults();
                    mirror.validate()
                });
                let converted = read.map(|mirror| mirror.convert());
                keep(&mut all.pods, &mut all.warnings, &mut self.errors, origin, converted);
            }
            ("v1", "Endpoints") => {
                let read = read(value, &mut self.errors, origin, |mirror: &mut k8s::Endpoints| {
                    namespace.clone_into(&mut mirror.metadata.namespace);
                    mirror.set_defaults();
                    mirror.validate()
                });
                let converted = read.map(|mirror| mirror.convert());
                keep(&mut all.endpoints, &mut all.warnings, &mut self.errors, origin, converted);
            }
            ("discovery.k8s.io/v1", "EndpointSlice") => {
                let read = read(value, &mut self.errors, origin, |mirror: &mut k8s::EndpointSlice| {
                    namespace.clone_into(&mut mirror.metadata.namespace);
                    mirror.set_defaults();
                    mirror.validate()
                });
                match read {
                    Some(mirror) if !mirror.metadata.labels.contains_key(SERVICE_NAME_LABEL) => {
                        let why = format!("no label {SERVICE_NAME_LABEL} says which Service it is of");
                        all.warnings.push(format!("{origin}: passed over: {why}"));
                    }
                    read => {
                        let converted = read.map(|mirror| mirror.convert());
                        keep(&mut all.slices, &mut all.warnings, &mut self.errors, origin, converted);
                    }
                }
            }
            ("v1", "Node") => {
                let read =
                    read(value, &mut self.errors, origin, |mirror: &mut k8s::Node| mirror.validate());
                let converted = read.map(|mirror| mirror.convert());
                keep(&mut all.nodes, &mut all.warnings, &mut self.errors, origin, converted);
            }
            ("v1", kind) if !OTHER_CORE_KINDS.contains(&kind) => self.errors.push(format!(
                "{origin}: kind: unsupported value {kind:?}: expected Service, Pod, Endpoints, Node, List \
                 or another kind of apiVersion v1"
            )),
            _ => all.warnings.push(format!("{origin}: passed over: {api_version} {kind} is not used")),
        }
    }
}

/// Kinds of the core group that a folder of manifests may hold and that do not matter here.
const OTHER_CORE_KINDS: &[&str] = &[
    "ConfigMap",
    "Event",
    "LimitRange",
    "Namespace",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "PodTemplate",
    "ReplicationController",
    "ResourceQuota",
    "Secret",
    "ServiceAccount",
];

/// Reads a mirror and checks it. Values of a wrong type are reported one by one and taken as absent, so that
/// the rest can be checked as well.
fn read<T: DeserializeOwned>(
    mut value: Value,
    errors: &mut Vec<String>,
    origin: &Origin,
    check: impl FnOnce(&mut T) -> Vec<FieldError>,
) -> Option<T> {
    const MOST: usize = 100;
    let mut mistyped = Vec::new();
    let mut mirror: T = loop {
        match serde_path_to_error::deserialize(&value) {
            Ok(mirror) => break mirror,
            Err(error) => {
                let path = error.path().to_string();
                let what = error.inner().to_string().replace("expected i32", "expected an integer");
                errors.push(format!("{origin}: {path}: {what}"));
                if mistyped.len() == MOST || !forget(&mut value, error.path()) {
                    return None;
                }
                mistyped.push(path);
            }
        }
    };
    let mistakes = check(&mut mirror);
    // What is missing only because it was of a wrong type is reported already.
    let reported = |error: &FieldError| mistyped.iter().any(|path| error.path().starts_with(path));
    let mistakes: Vec<_> = mistakes.iter().filter(|error| !reported(error)).collect();
    errors.extend(mistakes.iter().map(|error| format!("{origin}: {error}")));
    (mistakes.is_empty() && mistyped.is_empty()).then_some(mirror)
}

/// Makes a value absent; one that is absent already is taken out with its key. False if nothing was done.
fn forget(value: &mut Value, path: &serde_path_to_error::Path) -> bool {
    use serde_path_to_error::Segment;
    let mut at = value;
    let mut segments = path.iter().peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        let next = match segment {
            Segment::Map { key } => {
                if last && at.get(key.as_str()).is_some_and(Value::is_null) {
                    return at.as_object_mut().is_some_and(|map| map.remove(key).is_some());
                }
                at.get_mut(key.as_str())
            }
            Segment::Seq { index } => at.get_mut(*index),
            _ => None,
        };
        let Some(next) = next else { return false };
        at = next;
    }
    !std::mem::replace(at, Value::Null).is_null()
}

fn keep<T>(
    list: &mut Vec<Located<T>>,
    warnings: &mut Vec<String>,
    errors: &mut Vec<String>,
    origin: &Origin,
    converted: Option<Result<Converted<T>, FieldError>>,
) {
    match converted {
        Some(Ok(converted)) => {
            warnings
                .extend(converted.warnings.iter().map(|warning| format!("{origin}: {warning}")));
            list.push(Located { origin: origin.clone(), object: converted.object });
        }
        Some(Err(error)) => errors.push(format!("{origin}: {error}")),
        None => {}
    }
}
