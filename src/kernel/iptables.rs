//! `iptables-restore`, in whichever variant the machine uses.

use std::fmt;
use std::format;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::string::{String, ToString};
use std::time::Duration;
use std::vec;
use std::vec::Vec;

use super::netns::inside;
use super::tool::Tool;
use super::{KernelError, NetnsName};
use crate::iptables::{self, Config};
use crate::net::IpFamily;
use crate::plan::Plan;

/// The tools of iptables, by which rules come to the kernel.
///
/// ```no_run
/// use svcplane::iptables::Config;
/// use svcplane::kernel::Iptables;
/// # use svcplane::plan::{LocalNode, Mode, Plan};
/// # let plan = Plan::empty(LocalNode::new("node-1".parse()?), Mode::Iptables);
///
/// let (iptables, config) = (Iptables::detect(None)?, Config::default());
/// println!("iptables {}", iptables.supported()?);
/// iptables.replace(&plan, &config)?;
/// iptables.remove(&config)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Each table of each family is committed at once; one of them may fail when others are done. Others who change the same tables at
/// the same time are waited for, by the tools' own lock.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Iptables {
    /// Which tools. Rules of one variant do not see those of the other, and both apply.
    pub variant: Variant,
    /// The families that there are rules for. Defaults to both.
    pub families: Vec<IpFamily>,
    /// How long others are waited for, in whole seconds. Defaults to 5 s.
    pub wait: Duration,
    /// The network namespace whose kernel tables are meant, entered by `nsenter`. Defaults to `None`, that of this process.
    pub netns: Option<NetnsName>,
}

/// Of iptables there are two, over different parts of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Variant {
    /// `iptables-restore`, whichever that is.
    System,
    /// `iptables-nft-restore`, over `nf_tables`.
    Nft,
    /// `iptables-legacy-restore`, over `x_tables`.
    Legacy,
}

impl Variant {
    fn tool(self, family: IpFamily, what: &str) -> PathBuf {
        let family = match family {
            IpFamily::V4 => "iptables",
            IpFamily::V6 => "ip6tables",
        };
        let variant = match self {
            Self::System => "",
            Self::Nft => "-nft",
            Self::Legacy => "-legacy",
        };
        format!("{family}{variant}{what}").into()
    }
}

impl Iptables {
    /// The oldest version that knows all options that are used.
    pub const OLDEST: IptablesVersion =
        IptablesVersion { major: 1, minor: 6, patch: 2, nft: false };

    /// A variant, in both families, for the network namespace of this process.
    pub fn new(variant: Variant) -> Self {
        let families = vec![IpFamily::V4, IpFamily::V6];
        Self { variant, families, wait: Duration::from_secs(5), netns: None }
    }

    /// The variant that is in use in a network namespace, by what kubelet has left as a hint (a chain `KUBE-IPTABLES-HINT` or
    /// `KUBE-KUBELET-CANARY` in the table `mangle`), or else that with more rules, or else that which `iptables` is, or else one
    /// that works. A family in which a chain cannot be made (and deleted again) is left out.
    ///
    /// # Errors
    ///
    /// If no variant can be run, or works in either family.
    ///
    /// Source: `iptables-wrappers` of Kubernetes' SIG Network.
    pub fn detect(netns: Option<&NetnsName>) -> Result<Self, KernelError> {
        let mut best: Option<(bool, usize, Variant)> = None;
        for variant in [Variant::Nft, Variant::Legacy] {
            let tools = Self { netns: netns.cloned(), ..Self::new(variant) };
            let (mut hint, mut rules) = (false, 0);
            for family in [IpFamily::V4, IpFamily::V6] {
                // A variant that is not there has no rules.
                let _ = tools.save(family, |line| {
                    rules += usize::from(line.starts_with("-A "));
                    let chain = line.strip_prefix(':').and_then(|line| line.split(' ').next());
                    hint |= matches!(chain, Some("KUBE-IPTABLES-HINT" | "KUBE-KUBELET-CANARY"));
                });
            }
            let found = (hint, rules, variant);
            if (hint || rules > 0)
                && best.is_none_or(|(hint, rules, _)| (found.0, found.1) > (hint, rules))
            {
                best = Some(found);
            }
        }
        let variants = match best {
            Some((.., variant)) => vec![variant],
            None => vec![Variant::System, Variant::Nft, Variant::Legacy],
        };
        let mut failure = None;
        for variant in variants {
            let mut tools = Self { netns: netns.cloned(), ..Self::new(variant) };
            let mut works = Vec::new();
            for family in [IpFamily::V4, IpFamily::V6] {
                match tools.apply(family, PROBE) {
                    Ok(()) => works.push(family),
                    Err(error) => _ = failure.get_or_insert(error),
                }
            }
            if !works.is_empty() {
                tools.families = works;
                return Ok(tools);
            }
        }
        Err(failure.unwrap_or_else(|| KernelError::Start {
            tool: "iptables-save".to_string(),
            error: io::Error::from(io::ErrorKind::NotFound),
        }))
    }

    /// The version of the program. Needs no privilege.
    ///
    /// # Errors
    ///
    /// If it cannot be run, or names no version.
    pub fn version(&self) -> Result<IptablesVersion, KernelError> {
        let path = self.variant.tool(IpFamily::V4, "");
        let mut said = String::new();
        self.tool(&path).succeed(&["--version"], "", |line| said += line)?;
        IptablesVersion::parse(&said)
            .ok_or_else(|| KernelError::Unreadable { tool: self.tool(&path).name(), line: said })
    }

    /// Whether the program can carry out what the compiler writes: its version, and that it takes a ruleset with all that there is
    /// to one. Nothing is changed; whether the kernel has every match is seen when rules are loaded.
    ///
    /// # Errors
    ///
    /// [`KernelError::TooOld`]; [`KernelError::Refused`] if the program does not know something or this process may not.
    pub fn supported(&self) -> Result<IptablesVersion, KernelError> {
        let (found, needed) = (self.version()?, Self::OLDEST);
        if found < needed {
            let tool = self.variant.tool(IpFamily::V4, "").display().to_string();
            let (found, needed) = (found.to_string(), needed.to_string());
            return Err(KernelError::TooOld { tool, found, needed });
        }
        if let Some(plan) = super::specimen(crate::plan::Mode::Iptables) {
            for &family in &self.families {
                let input = iptables::compile(&plan, family, &Config::default());
                self.restore(family, &["--test"], &input)?;
            }
        }
        Ok(found)
    }

    /// Puts the rules for a plan in the place of whatever is there under the configuration's prefix, and rules that lead there in
    /// front of the built-in chains; sets the sysctl `route_localnet` if node ports at loopback addresses need it (it is never
    /// taken back: others may need it). How many bytes of input that took.
    ///
    /// # Errors
    ///
    /// [`KernelError::Refused`] with the line that the tool complains of, or if it cannot be run, or the sysctl be set.
    pub fn replace(&self, plan: &Plan, config: &Config) -> Result<usize, KernelError> {
        if self.families.contains(&IpFamily::V4) && iptables::needs_route_localnet(plan) {
            self.route_localnet()?;
        }
        self.settle(config, |family, saved| iptables::replace(plan, family, config, saved))
    }

    /// Puts the rules that go with IPVS in the place of whatever is there under the configuration's prefix,
    /// [`iptables::beside_ipvs`]. How many bytes of input that took. The sets that they go by have to be there.
    ///
    /// # Errors
    ///
    /// As [`replace`](Self::replace).
    pub fn beside_ipvs(&self, plan: &Plan, config: &Config) -> Result<usize, KernelError> {
        self.settle(config, |family, saved| iptables::beside_ipvs(plan, family, config, saved))
    }

    /// Loads the input for one family, [`iptables::delta`] for one. An empty one does nothing.
    ///
    /// # Errors
    ///
    /// As [`replace`](Self::replace).
    pub fn apply(&self, family: IpFamily, input: &str) -> Result<(), KernelError> {
        if input.is_empty() || !self.families.contains(&family) {
            return Ok(());
        }
        self.restore(family, &[], input)
    }

    /// Deletes all chains under the configuration's prefix, and all rules that lead to them.
    ///
    /// # Errors
    ///
    /// As [`replace`](Self::replace).
    pub fn remove(&self, config: &Config) -> Result<(), KernelError> {
        self.settle(config, |_, saved| iptables::remove(config, saved)).map(|_| ())
    }

    /// How many clients of each endpoint the kernel remembers for session affinity: `ip_list_tot` of the module `xt_recent`, which
    /// is 100 unless the module was loaded with another number. `None` if it is not loaded yet:
    /// `modprobe xt_recent ip_list_tot=10000` does that.
    pub fn remembered_clients() -> Option<u32> {
        let text = fs::read_to_string("/sys/module/xt_recent/parameters/ip_list_tot").ok()?;
        text.trim().parse().ok()
    }

    fn settle(
        &self,
        config: &Config,
        input: impl Fn(IpFamily, &str) -> String,
    ) -> Result<usize, KernelError> {
        let mut bytes = 0;
        for &family in &self.families {
            let mut saved = String::new();
            self.save(family, |line| {
                // Of some hundred thousand lines, few say what there is besides rules in our chains and in others'.
                let own = line.strip_prefix("-A ").and_then(|rule| rule.split(' ').next());
                let own = own.is_some_and(|chain| config.prefix.names(chain));
                if line.starts_with([':', '*']) || (!own && line.contains(config.prefix.as_str())) {
                    saved += line;
                    saved.push('\n');
                }
            })?;
            let input = input(family, &saved);
            bytes += input.len();
            self.apply(family, &input)?;
        }
        Ok(bytes)
    }

    fn save(&self, family: IpFamily, line: impl FnMut(&str)) -> Result<(), KernelError> {
        self.tool(&self.variant.tool(family, "-save")).succeed(&[], "", line)
    }

    fn restore(&self, family: IpFamily, more: &[&str], input: &str) -> Result<(), KernelError> {
        let wait = format!("--wait={}", self.wait.as_secs());
        let args: Vec<&str> =
            ["--noflush", &wait].into_iter().chain(more.iter().copied()).collect();
        self.tool(&self.variant.tool(family, "-restore")).succeed(&args, input, |_| ())
    }

    fn route_localnet(&self) -> Result<(), KernelError> {
        let path = "/proc/sys/net/ipv4/conf/all/route_localnet";
        let written = inside(self.netns.as_ref(), || fs::write(path, "1"))?;
        written.map_err(|error| KernelError::Parameter { path: path.to_string(), error })
    }

    fn tool<'a>(&'a self, path: &'a Path) -> Tool<'a> {
        Tool { path, netns: self.netns.as_ref() }
    }
}

/// A kernel without the families of `nf_tables` reads as empty, and refuses this only.
const PROBE: &str = "*nat\n:SVCP-PROBE - [0:0]\n-X SVCP-PROBE\nCOMMIT\n";

/// The version of iptables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct IptablesVersion {
    /// Of 1.8.9 the 1.
    pub major: u32,
    /// Of 1.8.9 the 8.
    pub minor: u32,
    /// Of 1.8.9 the 9.
    pub patch: u32,
    /// Whether it works over `nf_tables`.
    pub nft: bool,
}

impl IptablesVersion {
    /// Reads `iptables v1.8.9 (nf_tables)`; before 1.8 nothing is in brackets.
    fn parse(said: &str) -> Option<Self> {
        let mut words = said.split_whitespace();
        let word = words.find_map(|word| word.strip_prefix('v'))?;
        let mut numbers = word.split('.').map(|number| number.parse().ok());
        let (major, minor) = (numbers.next()??, numbers.next()??);
        let patch = numbers.next().unwrap_or(Some(0))?;
        Some(Self { major, minor, patch, nft: words.next() == Some("(nf_tables)") })
    }
}

impl fmt::Display for IptablesVersion {
    /// `1.8.9 (nf_tables)`, `1.8.9 (legacy)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let variant = if self.nft { "nf_tables" } else { "legacy" };
        write!(f, "{}.{}.{} ({variant})", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        let version = |text| IptablesVersion::parse(text).map(|version| version.to_string());
        assert_eq!(version("iptables v1.8.9 (nf_tables)").as_deref(), Some("1.8.9 (nf_tables)"));
        assert_eq!(version("ip6tables v1.6.2").as_deref(), Some("1.6.2 (legacy)"));
        assert_eq!(version("nftables 1.0.6"), None);
    }
}
