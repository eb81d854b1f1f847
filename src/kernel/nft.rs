//! `nft`, and what it says of the kernel.

use std::borrow::ToOwned;
use std::fmt;
use std::path::PathBuf;
use std::string::{String, ToString};

use super::tool::Tool;
use super::{KernelError, NetnsName};
use crate::nftables::{self, Config};
use crate::plan::{Mode, Plan};

/// The tool `nft`, by which scripts come to the kernel.
///
/// ```no_run
/// use svcplane::kernel::Nft;
/// use svcplane::nftables::{self, Config};
///
/// let mut nft = Nft::new();
/// nft.netns = Some("blue".parse()?); // as `ip netns add blue` made it
/// if nft.is_loaded(&Config::default())? {
///     nft.apply(&nftables::remove(&Config::default()))?;
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Nft {
    /// The program. Defaults to `nft`, found as the environment's `PATH` says.
    pub path: PathBuf,
    /// The network namespace whose kernel tables are meant, entered by `nsenter`. Defaults to `None`, that of this process.
    pub netns: Option<NetnsName>,
}

impl Default for Nft {
    fn default() -> Self {
        Self { path: "nft".into(), netns: None }
    }
}

impl Nft {
    /// The oldest version that reads what the compiler writes.
    pub const OLDEST: NftVersion = NftVersion { major: 1, minor: 0, patch: 6 };

    /// The `nft` of this machine, for the network namespace of this process.
    pub fn new() -> Self {
        Self::default()
    }

    /// Loads a script, as one transaction: if it fails, nothing has changed. An empty one does nothing.
    ///
    /// # Errors
    ///
    /// [`KernelError::Refused`] with the lines that `nft` complains of, or if it cannot be run.
    pub fn apply(&self, script: &str) -> Result<(), KernelError> {
        if script.is_empty() {
            return Ok(());
        }
        self.tool().succeed(&["-f", "-"], script, |_| ())
    }

    /// Puts the rules for a plan in the place of whatever is in the configuration's tables. How many bytes of script that took.
    ///
    /// # Errors
    ///
    /// As [`apply`](Self::apply).
    pub fn replace(&self, plan: &Plan, config: &Config) -> Result<usize, KernelError> {
        let script = nftables::compile(plan, config);
        self.apply(&script).map(|()| script.len())
    }

    /// Whether a script could be loaded now. The kernel is asked as well, and nothing is changed.
    ///
    /// # Errors
    ///
    /// As [`apply`](Self::apply).
    pub fn check(&self, script: &str) -> Result<(), KernelError> {
        self.tool().succeed(&["-c", "-f", "-"], script, |_| ())
    }

    /// The version of the program. Needs no privilege.
    ///
    /// # Errors
    ///
    /// If it cannot be run, or names no version.
    pub fn version(&self) -> Result<NftVersion, KernelError> {
        let mut said = String::new();
        self.tool().succeed(&["--version"], "", |line| {
            if said.is_empty() {
                line.clone_into(&mut said);
            }
        })?;
        NftVersion::parse(&said)
            .ok_or_else(|| KernelError::Unreadable { tool: self.tool().name(), line: said })
    }

    /// Whether the program and the kernel can carry out what the compiler writes: the program's version, and a dry run of a ruleset
    /// with all that there is to one, under another name than anybody's.
    ///
    /// # Errors
    ///
    /// [`KernelError::TooOld`]; [`KernelError::Refused`] if the kernel does not know something or this process may not.
    pub fn supported(&self) -> Result<NftVersion, KernelError> {
        let (found, needed) = (self.version()?, Self::OLDEST);
        if found < needed {
            let (tool, needed) = (self.tool().name(), needed.to_string());
            return Err(KernelError::TooOld { tool, found: found.to_string(), needed });
        }
        if let Some(plan) = super::specimen(Mode::Nftables) {
            let Ok(table) = "svcplane-specimen".parse() else { return Ok(found) };
            let config = Config { table, ..Config::default() };
            self.check(&nftables::compile(&plan, &config))?;
        }
        Ok(found)
    }

    /// Whether there are tables of a configuration's name, in both families.
    ///
    /// # Errors
    ///
    /// If the tool cannot be run or refuses.
    pub fn is_loaded(&self, config: &Config) -> Result<bool, KernelError> {
        let mut found = [false; 2];
        self.tool().succeed(&["list", "tables"], "", |line| {
            let mut words = line.split_whitespace();
            let family = match (words.next(), words.next()) {
                (Some("table"), Some("ip")) => 0,
                (Some("table"), Some("ip6")) => 1,
                _ => return,
            };
            found[family] |= words.next() == Some(config.table.as_str());
        })?;
        Ok(found == [true; 2])
    }

    fn tool(&self) -> Tool<'_> {
        Tool { path: &self.path, netns: self.netns.as_ref() }
    }
}

/// The version of `nft`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct NftVersion {
    /// Of 1.0.6 the 1.
    pub major: u32,
    /// Of 1.0.6 the 0.
    pub minor: u32,
    /// Of 1.0.6 the 6.
    pub patch: u32,
}

impl NftVersion {
    /// Reads `nftables v1.0.6 (Lester Gooch #5)`.
    fn parse(said: &str) -> Option<Self> {
        let word = said.strip_prefix("nftables v")?.split_whitespace().next()?;
        let mut numbers = word.split('.').map(|number| number.parse().ok());
        let (major, minor) = (numbers.next()??, numbers.next()??);
        let patch = numbers.next().unwrap_or(Some(0))?;
        Some(Self { major, minor, patch })
    }
}

impl fmt::Display for NftVersion {
    /// `1.0.6`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        let version = |text| NftVersion::parse(text).map(|version| std::format!("{version}"));
        assert_eq!(version("nftables v1.0.6 (Lester Gooch #5)").as_deref(), Some("1.0.6"));
        assert_eq!(version("nftables v1.1 (Commodore)").as_deref(), Some("1.1.0"));
        assert_eq!(version("iptables v1.8.9 (nf_tables)"), None);
        let newer = NftVersion { major: 1, minor: 1, patch: 0 };
        assert!(newer > Nft::OLDEST);
    }

    #[test]
    fn the_specimen_has_everything() {
        let plan = super::super::specimen(Mode::Nftables).expect("all of it parses");
        let script = nftables::compile(&plan, &Config::default());
        let ranges = "203.0.113.1 . tcp . 53 . 203.0.113.128/25";
        for part in ["tcp . 53", "udp . 30053", "sctp", "pins-", "2001:db8::2", ranges] {
            assert!(script.contains(part), "{part}: {script}");
        }
    }
}
