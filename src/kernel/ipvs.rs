//! IPVS in this machine's kernel, over netlink.

use std::boxed::Box;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use std::vec::Vec;

use thiserror::Error;

use super::netlink::Socket;
use super::netns::inside;
use super::{KernelError, NetnsName};
use crate::ipvs::{
    Actual, Command, CommandError, Daemon, ExchangeError, ListedReal, ListedVirtual, Reply,
    SchedulerName, Timeouts, Version, VirtualKey, VirtualServer,
};
use crate::sched::Algorithm;

/// The kernel's IPVS, in one network namespace.
///
/// ```no_run
/// use std::time::Duration;
/// use svcplane::ipvs::{Command, Forwarding, RealServer, VirtualKey, VirtualServer};
/// use svcplane::kernel::Ipvs;
///
/// let mut ipvs = Ipvs::open(Duration::from_secs(5))?;
/// if !ipvs.has_scheduler("mh".parse()?)? {
///     return Err("no module ip_vs_mh".into());
/// }
/// let key = VirtualKey::tcp("10.96.0.10:80".parse()?);
/// ipvs.apply(&[
///     Command::AddVirtual(VirtualServer::new(key, "mh".parse()?)),
///     Command::AddReal(key, RealServer::new("10.1.0.1:8080".parse()?, Forwarding::Masquerade)),
/// ])?;
/// for (key, listed) in ipvs.state()?.servers() {
///     println!("{key}: {} real servers", listed.reals.len());
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// All calls need the capability `CAP_NET_ADMIN` in the namespace, those that only read included. They wait for the kernel, which
/// carries a command out before it answers and answers one at a time.
///
/// **Others.** Whoever has the capability may change the same virtual servers. A list of many is read in pieces; what is added or deleted
/// meanwhile, it has or has not, and may make it miss another one.
///
/// The value is good until the module `ip_vs` is unloaded.
#[derive(Debug)]
pub struct Ipvs {
    socket: Socket,
    family_id: u16,
}

impl Ipvs {
    /// The IPVS of the network namespace of the calling thread. The kernel loads its module if it has one and may.
    ///
    /// An answer is waited for so long, 1 ms to 1 min; what is outside counts as the nearest. It does not bound how long the kernel
    /// takes to carry a command out.
    ///
    /// # Errors
    ///
    /// [`KernelError::Netlink`] if there can be no socket. [`KernelError::Ipvs`] with [`CommandError::NoFamily`] if the kernel has
    /// no IPVS.
    pub fn open(timeout: Duration) -> Result<Self, KernelError> {
        let mut socket = Socket::open(timeout).map_err(KernelError::Netlink)?;
        let command = Command::ResolveFamily;
        let replies = socket.execute(&command, 0);
        let replies = replies.map_err(|error| failure(0, command, error))?;
        let family = |reply: &Reply| match reply {
            Reply::Family(id) => Some(*id),
            _ => None,
        };
        let family_id = replies.iter().find_map(family);
        let family_id = family_id.ok_or_else(|| failure(0, command, IpvsError::Unanswered))?;
        Ok(Self { socket, family_id })
    }

    /// The IPVS of a named network namespace, which a thread of its own enters for this; that needs the capability `CAP_SYS_ADMIN`.
    /// All calls are about that namespace then, on whichever thread.
    ///
    /// # Errors
    ///
    /// [`KernelError::Netns`] if the namespace cannot be entered, or as [`open`](Self::open).
    pub fn open_in(netns: &NetnsName, timeout: Duration) -> Result<Self, KernelError> {
        Self::open_at(Some(netns), timeout)
    }

    pub(super) fn open_at(
        netns: Option<&NetnsName>,
        timeout: Duration,
    ) -> Result<Self, KernelError> {
        inside(netns, || Self::open(timeout))?
    }

    /// Tells or asks the kernel one thing. The answers to a question that can have none or one, too, are a list.
    ///
    /// What only asks is asked up to four times if messages were lost.
    ///
    /// # Errors
    ///
    /// [`KernelError::Ipvs`]. If the kernel has refused, nothing is done. After another error it may have carried the command out.
    pub fn execute(&mut self, command: Command) -> Result<Vec<Reply>, KernelError> {
        self.try_execute(&command).map_err(|error| failure(0, command, error))
    }

    /// Tells the kernel several things, one after the other, until it refuses one.
    ///
    /// # Errors
    ///
    /// [`KernelError::Ipvs`], which has the command and its index: those before it are carried out, those behind it are not.
    pub fn apply(&mut self, commands: &[Command]) -> Result<(), KernelError> {
        for (index, command) in commands.iter().enumerate() {
            self.try_execute(command).map_err(|error| failure(index, *command, error))?;
        }
        Ok(())
    }

    /// The version of the kernel's IPVS.
    ///
    /// # Errors
    ///
    /// [`KernelError::Ipvs`].
    pub fn version(&mut self) -> Result<Version, KernelError> {
        self.ask_one(Command::ReadVersion, |reply| match reply {
            Reply::Version(version) => Some(version),
            _ => None,
        })
    }

    /// All virtual servers with their real servers. What this crate has no value for, such as a virtual server of another protocol,
    /// is left out.
    ///
    /// # Errors
    ///
    /// [`KernelError::Ipvs`].
    pub fn state(&mut self) -> Result<Actual, KernelError> {
        let mut actual = Actual::default();
        for listed in self.virtual_servers()? {
            let real = self.real_servers(listed.server.key())?;
            actual.insert(listed.server, real);
        }
        Ok(actual)
    }

    /// All virtual servers, in the order of their keys. What this crate has no value for is left out.
    ///
    /// # Errors
    ///
    /// [`KernelError::Ipvs`].
    pub fn virtual_servers(&mut self) -> Result<Vec<ListedVirtual>, KernelError> {
        let listed =
            self.execute(Command::ListVirtual)?.into_iter().filter_map(|reply| match reply {
                Reply::Virtual(listed) => Some((listed.server.key(), listed)),
                _ => None,
            });
        // One may come twice, if another one is added meanwhile.
        let listed: BTreeMap<VirtualKey, ListedVirtual> = listed.collect();
        Ok(listed.into_values().collect())
    }

    /// The real servers of a virtual server, in the kernel's order: the one added last comes first. There are none of one that does
    /// not exist. What this crate has no value for is left out.
    ///
    /// # Errors
    ///
    /// [`KernelError::Ipvs`].
    pub fn real_servers(&mut self, key: VirtualKey) -> Result<Vec<ListedReal>, KernelError> {
        let listed =
            self.execute(Command::ListReal(key))?.into_iter().filter_map(|reply| match reply {
                Reply::Real(listed) => Some(listed),
                _ => None,
            });
        Ok(listed.collect())
    }

    /// A virtual server as the kernel has it; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`KernelError::Ipvs`].
    pub fn find(&mut self, key: VirtualKey) -> Result<Option<ListedVirtual>, KernelError> {
        let found = self.ask_one(Command::FindVirtual(key), |reply| match reply {
            Reply::Virtual(listed) => Some(listed),
            _ => None,
        });
        match found {
            Err(error) if matches!(error.refusal(), Some(CommandError::NoVirtual(_))) => Ok(None),
            found => found.map(Some),
        }
    }

    /// Deletes all virtual servers, whoever made them.
    ///
    /// # Errors
    ///
    /// [`KernelError::Ipvs`].
    pub fn flush(&mut self) -> Result<(), KernelError> {
        self.apply(&[Command::Flush])
    }

    /// For how long connections are remembered.
    ///
    /// # Errors
    ///
    /// [`KernelError::Ipvs`].
    pub fn timeouts(&mut self) -> Result<Timeouts, KernelError> {
        self.ask_one(Command::ReadTimeouts, |reply| match reply {
            Reply::Timeouts(timeouts) => Some(timeouts),
            _ => None,
        })
    }

    /// Sets for how long connections are remembered. What is `None` stays.
    ///
    /// # Errors
    ///
    /// [`KernelError::Ipvs`], with [`CommandError::Invalid`] for one that is too long.
    pub fn set_timeouts(&mut self, timeouts: Timeouts) -> Result<(), KernelError> {
        self.apply(&[Command::SetTimeouts(timeouts)])
    }

    /// The daemons that run.
    ///
    /// # Errors
    ///
    /// [`KernelError::Ipvs`].
    pub fn daemons(&mut self) -> Result<Vec<Daemon>, KernelError> {
        let listed =
            self.execute(Command::ListDaemons)?.into_iter().filter_map(|reply| match reply {
                Reply::Daemon(daemon) => Some(daemon),
                _ => None,
            });
        Ok(listed.collect())
    }

    /// What the kernel can do: which of the schedulers that [`Algorithm`] has, by [`has_scheduler`](Self::has_scheduler). It loads
    /// their modules.
    ///
    /// # Errors
    ///
    /// [`KernelError::Ipvs`].
    pub fn supported(&mut self) -> Result<IpvsSupport, KernelError> {
        let version = self.version()?;
        let known = Algorithm::ALL.iter().filter_map(|&one| SchedulerName::try_from(one).ok());
        let mut schedulers = Vec::new();
        for scheduler in known {
            if self.has_scheduler(scheduler)? {
                schedulers.push(scheduler);
            }
        }
        Ok(IpvsSupport { version, schedulers })
    }

    /// Whether the kernel has a scheduler: one that a virtual server has, it has. Otherwise one is made with it, at 198.51.100.0:20000,
    /// an address of documentation that nobody calls, looked at, and deleted; as kube-proxy does. The kernel loads the module
    /// `ip_vs_NAME` for it.
    ///
    /// # Errors
    ///
    /// [`KernelError::Ipvs`].
    pub fn has_scheduler(&mut self, scheduler: SchedulerName) -> Result<bool, KernelError> {
        if self.virtual_servers()?.iter().any(|listed| listed.server.scheduler == scheduler) {
            return Ok(true);
        }
        let key = VirtualKey::tcp(SocketAddr::new(IpAddr::V4(PROBED), 20_000));
        let add = Command::AddVirtual(VirtualServer::new(key, scheduler));
        let mut added = self.apply(&[add]);
        let exists =
            |error: &KernelError| matches!(error.refusal(), Some(CommandError::VirtualExists(_)));
        // Somebody was ended while looking for another scheduler.
        if added.as_ref().is_err_and(exists) {
            added = self.apply(&[Command::DeleteVirtual(key), add]);
        }
        match added {
            Err(error)
                if matches!(error.refusal(), Some(CommandError::UnknownScheduler { .. })) =>
            {
                return Ok(false);
            }
            added => added?,
        }
        let found = self.find(key);
        self.apply(&[Command::DeleteVirtual(key)])?;
        Ok(found?.is_some_and(|listed| listed.server.scheduler == scheduler))
    }

    fn try_execute(&mut self, command: &Command) -> Result<Vec<Reply>, IpvsError> {
        self.socket.execute(command, self.family_id)
    }

    fn ask_one<T>(
        &mut self,
        command: Command,
        mut take: impl FnMut(Reply) -> Option<T>,
    ) -> Result<T, KernelError> {
        let replies = self.execute(command)?;
        let answer = replies.into_iter().find_map(&mut take);
        answer.ok_or_else(|| failure(0, command, IpvsError::Unanswered))
    }
}

const PROBED: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 0);

fn failure(index: usize, command: Command, error: IpvsError) -> KernelError {
    KernelError::Ipvs(Box::new(IpvsFailure { index, command, error }))
}

/// What a kernel's IPVS can do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IpvsSupport {
    /// Its version.
    pub version: Version,
    /// The schedulers that it has, of those that [`Algorithm`] has and in that order.
    pub schedulers: Vec<SchedulerName>,
}

/// A command that IPVS has not carried out, or to which no answer came.
#[derive(Debug)]
#[non_exhaustive]
pub struct IpvsFailure {
    /// Its index among the commands that were given together; 0 for one alone.
    pub index: usize,
    /// The command.
    pub command: Command,
    /// Why.
    pub error: IpvsError,
}

impl fmt::Display for IpvsFailure {
    /// The command as the arguments of `ipvsadm`, and why.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { index, command, error } = self;
        write!(f, "ipvs command {index}, {command}: {error}")
    }
}

/// Why a command for IPVS has failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum IpvsError {
    /// The kernel has refused it, or its answer was not whole.
    #[error(transparent)]
    Answer(#[from] ExchangeError),
    /// No answer came in time. If one comes later, no other command takes it for its own.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// The kernel did not refuse, and did not say what was asked for.
    #[error("the answer does not have what was asked for")]
    Unanswered,
    /// The socket has failed.
    #[error("cannot talk to the kernel over netlink: {0}")]
    Socket(#[source] io::Error),
}
