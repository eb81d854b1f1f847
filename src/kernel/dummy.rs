//! The interface that holds the addresses of virtual servers.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::IpAddr;
use std::path::PathBuf;
use std::string::{String, ToString};

use super::tool::{Ended, Tool};
use super::{KernelError, NetnsName};
use crate::net::{InterfaceName, IpFamily};

/// A dummy interface, by which this machine takes the addresses of virtual servers for its own: IPVS sees only what is for the
/// machine itself.
///
/// ```no_run
/// use svcplane::kernel::DummyInterface;
///
/// let interface = DummyInterface::new(DummyInterface::NAME.parse()?);
/// interface.create()?;
/// interface.add(["10.96.0.10".parse()?, "fd00:10:96::10".parse()?])?;
/// println!("{:?}", interface.addresses()?);
/// interface.delete()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// It stays down, which addresses do not mind, so that there is no route but to the addresses themselves, and no link-local
/// address.
///
/// `DIFFERENCE`: IPv6 addresses are deprecated ones, as the kernel calls it: it takes none of them for the source of what it sends
/// elsewhere.
///
/// Source: kube-proxy, whose interface is `kube-ipvs0`. Two programs that keep one interface would delete each other's addresses.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DummyInterface {
    /// Its name.
    pub name: InterfaceName,
    /// The program. Defaults to `ip`, found as the environment's `PATH` says.
    pub path: PathBuf,
    /// The network namespace that it is in, entered by `nsenter`. Defaults to `None`, that of this process.
    pub netns: Option<NetnsName>,
}

impl DummyInterface {
    /// A name that nobody else's has: `svcp-ipvs0`.
    pub const NAME: &'static str = "svcp-ipvs0";

    /// An interface of a name, in the network namespace of this process.
    pub fn new(name: InterfaceName) -> Self {
        Self { name, path: "ip".into(), netns: None }
    }

    /// Makes it, if it is not there.
    ///
    /// # Errors
    ///
    /// If the tool cannot be run, or refuses: if the kernel has no such interfaces, or there is one of the name that is of another
    /// kind.
    pub fn create(&self) -> Result<(), KernelError> {
        let name = self.name.as_str();
        let ended = self.tool().run(&["link", "add", "dev", name, "type", "dummy"], "", |_| ())?;
        if ended.status.success() || (ended.stderr.contains("File exists") && self.exists()?) {
            return Ok(());
        }
        Err(self.tool().refusal(ended, ""))
    }

    /// Whether it is there. An interface of the name that is of another kind is not it.
    ///
    /// # Errors
    ///
    /// If the tool cannot be run or refuses.
    pub fn exists(&self) -> Result<bool, KernelError> {
        let mut found = false;
        let name = self.name.as_str();
        self.tool().succeed(&["-o", "link", "show", "type", "dummy"], "", |line| {
            // `5: svcp-ipvs0: <BROADCAST,NOARP> mtu 1500 …`, with `@` and another interface behind some names.
            let named = line.split_whitespace().nth(1).unwrap_or_default();
            let named = named.trim_end_matches(':');
            found |= named == name || named.rsplit_once('@').is_some_and(|(one, _)| one == name);
        })?;
        Ok(found)
    }

    /// Deletes it with its addresses, if it is there.
    ///
    /// # Errors
    ///
    /// If the tool cannot be run or refuses.
    pub fn delete(&self) -> Result<(), KernelError> {
        if !self.exists()? {
            return Ok(());
        }
        self.tool().succeed(&["link", "delete", "dev", self.name.as_str()], "", |_| ())
    }

    /// Its addresses.
    ///
    /// # Errors
    ///
    /// If the tool cannot be run, or refuses because there is no such interface.
    pub fn addresses(&self) -> Result<BTreeSet<IpAddr>, KernelError> {
        let mut addresses = BTreeSet::new();
        let mut unreadable = None;
        let args = ["-o", "address", "show", "dev", self.name.as_str()];
        self.tool().succeed(&args, "", |line| match parse(line) {
            Some(address) => _ = addresses.insert(address),
            None if line.trim().is_empty() => {}
            None => _ = unreadable.get_or_insert_with(|| line.to_string()),
        })?;
        match unreadable {
            Some(line) => Err(KernelError::Unreadable { tool: self.tool().name(), line }),
            None => Ok(addresses),
        }
    }

    /// Adds addresses, each as a network of its own. Those that it has stay.
    ///
    /// # Errors
    ///
    /// If the tool cannot be run or refuses. Those before the one that is refused are added.
    pub fn add(&self, addresses: impl IntoIterator<Item = IpAddr>) -> Result<(), KernelError> {
        let script = self.script("replace", addresses);
        if script.is_empty() {
            return Ok(());
        }
        self.tool().succeed(&["-batch", "-"], &script, |_| ())
    }

    /// Removes addresses. Those that it does not have do not matter.
    ///
    /// # Errors
    ///
    /// If the tool cannot be run, or refuses for another reason. All others are removed.
    pub fn remove(&self, addresses: impl IntoIterator<Item = IpAddr>) -> Result<(), KernelError> {
        let script = self.script("delete", addresses);
        if script.is_empty() {
            return Ok(());
        }
        let ended = self.tool().run(&["-force", "-batch", "-"], &script, |_| ())?;
        if ended.status.success() || only_missing(&ended) {
            return Ok(());
        }
        Err(self.tool().refusal(ended, &script))
    }

    fn script(&self, verb: &str, addresses: impl IntoIterator<Item = IpAddr>) -> String {
        let mut script = String::new();
        for address in addresses {
            // Of IPv6, the kernel would take one for the source of what it sends elsewhere, masqueraded packets among it.
            let (length, more) = match IpFamily::of(address) {
                IpFamily::V4 => (32, ""),
                IpFamily::V6 if verb == "replace" => (128, " preferred_lft 0"),
                IpFamily::V6 => (128, ""),
            };
            let _ = writeln!(script, "address {verb} {address}/{length} dev {}{more}", self.name);
        }
        script
    }

    fn tool(&self) -> Tool<'_> {
        Tool { path: &self.path, netns: self.netns.as_ref() }
    }
}

/// Reads `5: svcp-ipvs0    inet 10.96.0.10/32 scope global svcp-ipvs0\       valid_lft forever preferred_lft forever`.
fn parse(line: &str) -> Option<IpAddr> {
    let mut words = line.split_whitespace().skip_while(|word| !matches!(*word, "inet" | "inet6"));
    let address = words.nth(1)?;
    address.split('/').next()?.parse().ok()
}

/// Whether all that was complained of is that an address is not there.
fn only_missing(ended: &Ended) -> bool {
    let lines = || ended.stderr.lines().map(str::trim).filter(|line| !line.is_empty());
    let missing = |line: &str| {
        line.contains("Cannot assign requested address")
            || line.ends_with("ddress not found.")
            || line.ends_with("ddress not found")
    };
    lines().next().is_some()
        && lines().all(|line| missing(line) || line.starts_with("Command failed -:"))
}
