//! Why the kernel refuses.

use core::fmt;

use thiserror::Error;

use crate::ipvs::{
    Command, DaemonRole, EngineName, RealKey, SchedulerName, VirtualKey, VirtualServer,
};
use crate::net::InterfaceName;

/// The kernel has refused a command, of which then nothing is done.
///
/// One number of `errno.h` has different meanings in answer to different commands. The numbers are those of all machines but MIPS,
/// Alpha, SPARC and PA-RISC, where what [`UnsupportedFamily`](Self::UnsupportedFamily) and [`Unsupported`](Self::Unsupported) stand
/// for is [`Other`](Self::Other).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CommandError {
    /// `EPERM`: the program may not. Reading needs the capability, too.
    #[error("not permitted: expected the capability CAP_NET_ADMIN")]
    NotPermitted,
    /// `ENOENT`, unless it is one of those below: the kernel has no IPVS, or its module `ip_vs` is not loaded; or it was loaded
    /// anew, and the family has another number.
    #[error("the kernel has no family IPVS: expected the module ip_vs to be loaded")]
    NoFamily,
    /// `EEXIST`: it is there already, with whatever content.
    #[error("there is a virtual server {0} already")]
    VirtualExists(VirtualKey),
    /// `ESRCH`: there is none to be edited or deleted, or for its real server to belong to.
    #[error("there is no virtual server {0}")]
    NoVirtual(VirtualKey),
    /// `ENOENT`: the kernel has no such scheduler, or no such persistence engine.
    #[error("the kernel has no scheduler {scheduler}{}", OrEngine(*engine))]
    UnknownScheduler {
        /// The scheduler that was asked for.
        scheduler: SchedulerName,
        /// The persistence engine that was asked for, which may be the one that it does not have.
        engine: Option<EngineName>,
    },
    /// `EEXIST`: it is there already, with whatever content.
    #[error("there is a real server {1} of {0} already")]
    RealExists(VirtualKey, RealKey),
    /// `ENOENT`: there is none to be edited or deleted.
    #[error("there is no real server {1} of {0}")]
    NoReal(VirtualKey, RealKey),
    /// `EEXIST`: there is one of each.
    #[error("the {0} daemon runs already")]
    DaemonRuns(DaemonRole),
    /// `ESRCH`: there is none to be stopped.
    #[error("no {0} daemon runs")]
    NoDaemon(DaemonRole),
    /// `ENODEV`: the daemon was to use an interface that does not exist.
    #[error("there is no interface {0}")]
    NoInterface(InterfaceName),
    /// `EINVAL`: an address that cannot be a real server's, a real server of the other family without tunnel, a timeout that is too
    /// long, or what this crate cannot say.
    #[error("the kernel takes the command for invalid")]
    Invalid,
    /// `ERANGE`: a weight or a threshold, of those that this crate cannot say.
    #[error("the kernel takes a number for too great")]
    OutOfRange,
    /// `EAFNOSUPPORT`: the kernel was built without IPv6.
    #[error("the kernel's IPVS does not have the address family")]
    UnsupportedFamily,
    /// `EOPNOTSUPP`: the kernel is too old for the command.
    #[error("the kernel's IPVS does not have the command")]
    Unsupported,
    /// Anything else, by its number in `errno.h`: 12, `ENOMEM`, for one.
    #[error("the kernel answers with the error number {0}")]
    Other(i32),
}

struct OrEngine(Option<EngineName>);

impl fmt::Display for OrEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |engine| write!(f, ", or no persistence engine {engine}"))
    }
}

const EPERM: i32 = 1;
const ENOENT: i32 = 2;
const ESRCH: i32 = 3;
const EEXIST: i32 = 17;
const ENODEV: i32 = 19;
const EINVAL: i32 = 22;
const ERANGE: i32 = 34;
const EOPNOTSUPP: i32 = 95;
const EAFNOSUPPORT: i32 = 97;

impl CommandError {
    /// What a number of `errno.h` means in answer to a command.
    pub fn new(command: &Command, errno: i32) -> Self {
        let unknown_scheduler = |server: &VirtualServer| Self::UnknownScheduler {
            scheduler: server.scheduler,
            engine: server.engine,
        };
        match (errno, command) {
            (EPERM, _) => Self::NotPermitted,
            (ENOENT, Command::AddVirtual(server) | Command::EditVirtual(server)) => {
                unknown_scheduler(server)
            }
            (ENOENT, Command::EditReal(key, server)) => Self::NoReal(*key, server.key),
            (ENOENT, Command::DeleteReal(key, server)) => Self::NoReal(*key, *server),
            (ENOENT, _) => Self::NoFamily,
            (ESRCH, Command::StopDaemon(role)) => Self::NoDaemon(*role),
            (EEXIST, Command::AddVirtual(server)) => Self::VirtualExists(server.key()),
            (EEXIST, Command::AddReal(key, server)) => Self::RealExists(*key, server.key),
            (EEXIST, Command::StartDaemon(daemon)) => Self::DaemonRuns(daemon.role),
            (ENODEV, Command::StartDaemon(daemon)) => Self::NoInterface(daemon.interface),
            (EINVAL, _) => Self::Invalid,
            (ERANGE, _) => Self::OutOfRange,
            (EOPNOTSUPP, _) => Self::Unsupported,
            (EAFNOSUPPORT, _) => Self::UnsupportedFamily,
            (ESRCH, command) => match command.virtual_key() {
                Some(key) => Self::NoVirtual(key),
                None => Self::Other(errno),
            },
            (errno, _) => Self::Other(errno),
        }
    }

    /// The number in `errno.h`.
    pub const fn errno(&self) -> i32 {
        match self {
            Self::NotPermitted => EPERM,
            Self::NoFamily | Self::UnknownScheduler { .. } | Self::NoReal(..) => ENOENT,
            Self::NoVirtual(_) | Self::NoDaemon(_) => ESRCH,
            Self::VirtualExists(_) | Self::RealExists(..) | Self::DaemonRuns(_) => EEXIST,
            Self::NoInterface(_) => ENODEV,
            Self::Invalid => EINVAL,
            Self::OutOfRange => ERANGE,
            Self::Unsupported => EOPNOTSUPP,
            Self::UnsupportedFamily => EAFNOSUPPORT,
            Self::Other(errno) => *errno,
        }
    }
}
