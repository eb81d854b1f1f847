//! Commands as messages, in both directions.

use alloc::vec::Vec;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CAPPED, NLM_F_DUMP, NLM_F_MULTIPART, NLM_F_REQUEST, NetlinkPayload,
};

use crate::ipvs::wire::{self, Attributes, End, Generic, Parsed, required};
use crate::ipvs::{Command, DecodeError, Netmask, Reply, VirtualKey};

pub(super) const NEW_FAMILY: u8 = 1;
const GET_FAMILY: u8 = 3;

pub(super) const NEW_SERVICE: u8 = 1;
const SET_SERVICE: u8 = 2;
const DEL_SERVICE: u8 = 3;
const GET_SERVICE: u8 = 4;
pub(super) const NEW_DEST: u8 = 5;
const SET_DEST: u8 = 6;
const DEL_DEST: u8 = 7;
const GET_DEST: u8 = 8;
pub(super) const NEW_DAEMON: u8 = 9;
const DEL_DAEMON: u8 = 10;
const GET_DAEMON: u8 = 11;
pub(super) const SET_CONFIG: u8 = 12;
const GET_CONFIG: u8 = 13;
pub(super) const SET_INFO: u8 = 14;
const GET_INFO: u8 = 15;
const ZERO: u8 = 16;
const FLUSH: u8 = 17;

/// A command as a message: whom it goes to, and what its answers are told by.
///
/// ```
/// use svcplane::ipvs::{Command, Exchange, Reply, Request, Version};
///
/// // What a stand-in for a kernel does.
/// let kernel = |message: &[u8]| -> Result<Vec<u8>, svcplane::ipvs::DecodeError> {
///     let request = Request::decode(message)?;
///     Ok(match request.command {
///         Command::ReadVersion => request.answer(&[Reply::Version(Version::new(1, 2, 1, 4096))]),
///         _ => request.refuse(1), // EPERM
///     })
/// };
///
/// let mut exchange = Exchange::new(Command::ReadVersion, 28, 7);
/// let replies = exchange.receive(&kernel(exchange.request())?)?;
/// let [Reply::Version(version)] = replies[..] else { panic!("one version") };
/// assert_eq!(version.to_string(), "1.2.1");
///
/// let mut exchange = Exchange::new(Command::Flush, 28, 8);
/// let error = exchange.receive(&kernel(exchange.request())?).unwrap_err();
/// assert_eq!(error.to_string(), "not permitted: expected the capability CAP_NET_ADMIN");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Request {
    /// The number of the family IPVS. It does not matter to [`Command::ResolveFamily`], which goes to the controller, 16.
    pub family_id: u16,
    /// The number that answers repeat.
    pub sequence: u32,
    /// The command.
    pub command: Command,
}

impl Command {
    /// The message, which asks for an acknowledgement. The number of the family does not matter to
    /// [`ResolveFamily`](Self::ResolveFamily).
    pub fn encode(&self, family_id: u16, sequence: u32) -> Vec<u8> {
        let mut attributes = Attributes::default();
        let command = self.put(&mut attributes);
        let list = if self.is_list() { NLM_F_DUMP } else { 0 };
        let family = self.addressee(family_id);
        let payload = Generic { family, command, version: 1, attributes };
        wire::message(NLM_F_REQUEST | NLM_F_ACK | list, sequence, payload)
    }

    /// The family that the message goes to.
    pub(super) const fn addressee(&self, family_id: u16) -> u16 {
        match self {
            Self::ResolveFamily => wire::CONTROLLER,
            _ => family_id,
        }
    }

    /// Puts the attributes, and says the command's number.
    fn put(&self, to: &mut Attributes) -> u8 {
        let named = |to: &mut Attributes, key: VirtualKey| {
            let netmask = Some(Netmask::host(key.family()));
            to.nest(wire::SERVICE, |to| wire::put_named(to, key, netmask));
        };
        match self {
            Self::ResolveFamily => {
                wire::put_family_name(to);
                GET_FAMILY
            }
            Self::ReadVersion => GET_INFO,
            Self::AddVirtual(server) => {
                to.nest(wire::SERVICE, |to| wire::put_virtual(to, server));
                NEW_SERVICE
            }
            Self::EditVirtual(server) => {
                to.nest(wire::SERVICE, |to| wire::put_virtual(to, server));
                SET_SERVICE
            }
            Self::DeleteVirtual(key) => {
                named(to, *key);
                DEL_SERVICE
            }
            Self::FindVirtual(key) => {
                to.nest(wire::SERVICE, |to| wire::put_named(to, *key, None));
                GET_SERVICE
            }
            Self::ListVirtual => GET_SERVICE,
            Self::AddReal(key, server) => {
                named(to, *key);
                to.nest(wire::DEST, |to| wire::put_real(to, server));
                NEW_DEST
            }
            Self::EditReal(key, server) => {
                named(to, *key);
                to.nest(wire::DEST, |to| wire::put_real(to, server));
                SET_DEST
            }
            Self::DeleteReal(key, server) => {
                named(to, *key);
                to.nest(wire::DEST, |to| wire::put_real_key(to, *server));
                DEL_DEST
            }
            Self::ListReal(key) => {
                to.nest(wire::SERVICE, |to| wire::put_virtual_key(to, *key));
                GET_DEST
            }
            Self::Flush => FLUSH,
            Self::Zero(key) => {
                if let Some(key) = key {
                    named(to, *key);
                }
                ZERO
            }
            Self::ReadTimeouts => GET_CONFIG,
            Self::SetTimeouts(timeouts) => {
                wire::put_timeouts(to, timeouts);
                SET_CONFIG
            }
            Self::StartDaemon(daemon) => {
                to.nest(wire::DAEMON, |to| wire::put_daemon(to, daemon));
                NEW_DAEMON
            }
            Self::StopDaemon(role) => {
                to.nest(wire::DAEMON, |to| wire::put_role(to, *role));
                DEL_DAEMON
            }
            Self::ListDaemons => GET_DAEMON,
        }
    }
}

impl Request {
    /// A command for a family, with a number.
    pub const fn new(command: Command, family_id: u16, sequence: u32) -> Self {
        Self { family_id, sequence, command }
    }

    /// Reads a message as the kernel does: unknown attributes do not matter, nor does the order of those that there are.
    ///
    /// # Errors
    ///
    /// The message is none that says one of the [commands](Command), or what the kernel would refuse before it looks at what there
    /// is. Of several messages only the first is read.
    pub fn decode(message: &[u8]) -> Result<Self, DecodeError> {
        let (message, _) = wire::split_message(message)?;
        let (family_id, flags) = (message.header.message_type, message.header.flags);
        let sequence = message.header.sequence_number;
        let NetlinkPayload::InnerMessage(payload) = message.payload else {
            return Err(DecodeError::UnknownCommand { command: 0, flags });
        };
        let (command, attributes) = payload.split()?;
        let attributes = Parsed::new(attributes)?;
        let command = if family_id == wire::CONTROLLER {
            match command {
                GET_FAMILY => {
                    wire::check_family_name(&attributes)?;
                    Command::ResolveFamily
                }
                _ => return Err(DecodeError::UnknownCommand { command, flags }),
            }
        } else {
            read(command, flags, &attributes)?
        };
        Ok(Self { family_id, sequence, command })
    }

    /// The message, as [`Command::encode`] makes it.
    pub fn encode(&self) -> Vec<u8> {
        self.command.encode(self.family_id, self.sequence)
    }

    /// What a kernel answers that carries out the request: replies, and what ends them. Those that are
    /// [unreadable](Reply::Unreadable) are left out.
    pub fn answer(&self, replies: &[Reply]) -> Vec<u8> {
        let list = self.command.is_list();
        let flags = if list { NLM_F_MULTIPART } else { 0 };
        let mut answer = Vec::new();
        let family = self.command.addressee(self.family_id);
        for payload in replies.iter().filter_map(|reply| reply.encode(family)) {
            answer.extend(wire::message(flags, self.sequence, payload));
        }
        answer.extend(if list {
            wire::end(flags, self.sequence, End::Done)
        } else {
            self.status(0)
        });
        answer
    }

    /// What a kernel answers that refuses the request, for a reason that is a number in `errno.h`.
    pub fn refuse(&self, errno: i32) -> Vec<u8> {
        self.status(errno.saturating_neg())
    }

    fn status(&self, code: i32) -> Vec<u8> {
        let mut request = self.encode();
        request.truncate(16);
        wire::end(NLM_F_CAPPED, self.sequence, End::Status { code, request })
    }
}

fn read(command: u8, flags: u16, attributes: &Parsed<'_>) -> Result<Command, DecodeError> {
    let nested = |name| required(name, attributes.nested(name)?);
    let service = || nested(wire::SERVICE);
    let key = || wire::virtual_key(&service()?);
    let real = |key: VirtualKey| wire::real(&nested(wire::DEST)?, key.family());
    let list = flags & NLM_F_DUMP == NLM_F_DUMP;
    Ok(match command {
        NEW_SERVICE => Command::AddVirtual(wire::virtual_server(&service()?, false)?),
        SET_SERVICE => Command::EditVirtual(wire::virtual_server(&service()?, true)?),
        DEL_SERVICE => Command::DeleteVirtual(key()?),
        GET_SERVICE if list => Command::ListVirtual,
        GET_SERVICE => Command::FindVirtual(key()?),
        NEW_DEST => {
            let key = key()?;
            Command::AddReal(key, real(key)?)
        }
        SET_DEST => {
            let key = key()?;
            Command::EditReal(key, real(key)?)
        }
        DEL_DEST => {
            let key = key()?;
            Command::DeleteReal(key, wire::real_key(&nested(wire::DEST)?, key.family())?)
        }
        GET_DEST if list => Command::ListReal(key()?),
        NEW_DAEMON => Command::StartDaemon(wire::daemon(&nested(wire::DAEMON)?)?),
        DEL_DAEMON => Command::StopDaemon(wire::role(&nested(wire::DAEMON)?)?),
        GET_DAEMON if list => Command::ListDaemons,
        SET_CONFIG => Command::SetTimeouts(wire::timeouts(attributes)?),
        GET_CONFIG => Command::ReadTimeouts,
        GET_INFO => Command::ReadVersion,
        ZERO => {
            let named = attributes.nested(wire::SERVICE)?;
            Command::Zero(named.map(|service| wire::virtual_key(&service)).transpose()?)
        }
        FLUSH => Command::Flush,
        _ => return Err(DecodeError::UnknownCommand { command, flags }),
    })
}
