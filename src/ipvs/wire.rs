//! Messages and their attributes as bytes. Integers are in the machine's order, unless a name says otherwise.

mod namespace;
mod real_server;
mod stats;
mod virtual_server;

use alloc::vec;
use alloc::vec::Vec;
use core::convert::Infallible;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{
    DoneMessage, Emitable, ErrorMessage, NLA_F_NESTED, NetlinkDeserializable, NetlinkHeader,
    NetlinkMessage, NetlinkPayload, NetlinkSerializable, Nla, NlasIterator,
};
use thiserror::Error;

use crate::net::IpFamily;

pub(super) use namespace::{
    check_family_name, daemon, family_id, put_daemon, put_family, put_family_name, put_role,
    put_timeouts, put_version, role, timeouts, version,
};
pub(super) use real_server::{
    listed_real, put_listed_real, put_real, put_real_key, real, real_key,
};
pub(super) use virtual_server::{
    listed_virtual, put_listed_virtual, put_named, put_virtual, put_virtual_key, virtual_key,
    virtual_server,
};

/// Bytes do not say what they should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// A message or an attribute is longer than what there is of it.
    #[error("the message is cut off")]
    Truncated,
    /// The message is none that IPVS or the controller of generic netlink has.
    #[error("unknown command {command} with the flags {flags:#x}")]
    UnknownCommand {
        /// The command.
        command: u8,
        /// The flags of the message.
        flags: u16,
    },
    /// An attribute is missing.
    #[error("no {0}")]
    Missing(&'static str),
    /// An attribute's value is none that it can have.
    #[error("{attribute}: expected {expected}")]
    Invalid {
        /// The attribute.
        attribute: &'static str,
        /// What was expected.
        expected: &'static str,
    },
    /// An attribute's number is too small or too great.
    #[error("{attribute} is out of range: expected {expected}")]
    OutOfRange {
        /// The attribute.
        attribute: &'static str,
        /// What was expected.
        expected: &'static str,
    },
    /// An address family is none that IPVS has.
    #[error("address family {0}: expected 2, IPv4, or 10, IPv6")]
    UnknownFamily(u16),
}

/// The number of an attribute, and its name in the kernel.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Name(pub(super) u16, pub(super) &'static str);

pub(super) const SERVICE: Name = Name(1, "IPVS_CMD_ATTR_SERVICE");
pub(super) const DEST: Name = Name(2, "IPVS_CMD_ATTR_DEST");
pub(super) const DAEMON: Name = Name(3, "IPVS_CMD_ATTR_DAEMON");

/// The family of generic netlink's controller.
pub(super) const CONTROLLER: u16 = 0x10;

/// What a message of generic netlink begins with, and its attributes.
pub(super) struct Generic {
    pub(super) family: u16,
    pub(super) command: u8,
    pub(super) version: u8,
    pub(super) attributes: Attributes,
}

impl NetlinkSerializable for Generic {
    fn message_type(&self) -> u16 {
        self.family
    }

    fn buffer_len(&self) -> usize {
        4 + self.attributes.0.len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        let (header, attributes) = buffer.split_at_mut(4);
        header.copy_from_slice(&[self.command, self.version, 0, 0]);
        attributes.copy_from_slice(&self.attributes.0);
    }
}

/// What follows the header of a message, which is looked at only when it is known what it answers.
pub(super) struct Payload(Vec<u8>);

impl NetlinkDeserializable for Payload {
    type Error = Infallible;

    fn deserialize(_: &NetlinkHeader, payload: &[u8]) -> Result<Self, Infallible> {
        Ok(Self(payload.to_vec()))
    }
}

impl Payload {
    /// The command, and the bytes of its attributes.
    pub(super) fn split(&self) -> Result<(u8, &[u8]), DecodeError> {
        let (header, attributes) = self.0.split_first_chunk::<4>().ok_or(DecodeError::Truncated)?;
        Ok((header[0], attributes))
    }
}

/// One message off the front of what was received, and the rest.
pub(super) fn split_message(bytes: &[u8]) -> Result<(NetlinkMessage<Payload>, &[u8]), DecodeError> {
    let message = NetlinkMessage::<Payload>::deserialize(bytes);
    let message = message.map_err(|_| DecodeError::Truncated)?;
    let length = usize::try_from(message.header.length).unwrap_or(usize::MAX);
    let rest = length.checked_next_multiple_of(4).and_then(|length| bytes.get(length..));
    Ok((message, rest.unwrap_or_default()))
}

/// What ends an answer.
pub(super) enum End {
    /// The list is complete.
    Done,
    /// The request that begins so was carried out, or refused for a reason.
    Status {
        /// 0, or a negative error number.
        code: i32,
        /// The header of the request.
        request: Vec<u8>,
    },
}

/// A whole message.
pub(super) fn message(flags: u16, sequence: u32, payload: Generic) -> Vec<u8> {
    finish(flags, sequence, NetlinkPayload::InnerMessage(payload))
}

/// A whole message that ends an answer.
pub(super) fn end(flags: u16, sequence: u32, end: End) -> Vec<u8> {
    let payload = match end {
        End::Done => NetlinkPayload::Done(DoneMessage::default()),
        End::Status { code, request } => {
            let mut error = ErrorMessage::default();
            (error.code, error.header) = (core::num::NonZeroI32::new(code), request);
            NetlinkPayload::Error(error)
        }
    };
    finish(flags, sequence, payload)
}

fn finish(flags: u16, sequence: u32, payload: NetlinkPayload<Generic>) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    (header.flags, header.sequence_number) = (flags, sequence);
    let mut message = NetlinkMessage::new(header, payload);
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// Attributes to be sent.
#[derive(Default)]
pub(super) struct Attributes(Vec<u8>);

struct Attribute<'a> {
    kind: u16,
    value: &'a [u8],
}

impl Nla for Attribute<'_> {
    fn value_len(&self) -> usize {
        self.value.len()
    }

    fn kind(&self) -> u16 {
        self.kind
    }

    fn emit_value(&self, buffer: &mut [u8]) {
        buffer.copy_from_slice(self.value);
    }
}

impl Attributes {
    fn put(&mut self, kind: u16, value: &[u8]) {
        let attribute = Attribute { kind, value };
        let start = self.0.len();
        self.0.resize(start + attribute.buffer_len(), 0);
        attribute.emit(&mut self.0[start..]);
    }

    fn bytes(&mut self, name: Name, value: &[u8]) {
        self.put(name.0, value);
    }

    fn u8(&mut self, name: Name, value: u8) {
        self.put(name.0, &[value]);
    }

    fn u16(&mut self, name: Name, value: u16) {
        self.put(name.0, &value.to_ne_bytes());
    }

    fn u32(&mut self, name: Name, value: u32) {
        self.put(name.0, &value.to_ne_bytes());
    }

    fn u64(&mut self, name: Name, value: u64) {
        self.put(name.0, &value.to_ne_bytes());
    }

    fn port(&mut self, name: Name, value: u16) {
        self.put(name.0, &value.to_be_bytes());
    }

    fn text(&mut self, name: Name, value: &str) {
        self.put(name.0, &[value.as_bytes(), &[0]].concat());
    }

    /// 16 bytes, of which an IPv4 address is the first four.
    fn ip(&mut self, name: Name, value: IpAddr) {
        let mut bytes = [0; 16];
        match value {
            IpAddr::V4(ip) => bytes[..4].copy_from_slice(&ip.octets()),
            IpAddr::V6(ip) => bytes = ip.octets(),
        }
        self.put(name.0, &bytes);
    }

    fn family(&mut self, name: Name, family: IpFamily) {
        self.u16(name, if family == IpFamily::V4 { AF_INET } else { AF_INET6 });
    }

    /// Attributes in an attribute, flagged as such, as requests have it.
    pub(super) fn nest(&mut self, name: Name, put: impl FnOnce(&mut Self)) {
        let mut nested = Self::default();
        put(&mut nested);
        self.put(name.0 | NLA_F_NESTED, &nested.0);
    }

    /// The same without the flag, as the kernel answers.
    pub(super) fn nest_unflagged(&mut self, name: Name, put: impl FnOnce(&mut Self)) {
        let mut nested = Self::default();
        put(&mut nested);
        self.put(name.0, &nested.0);
    }
}

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// Attributes that were received. Of those with one number the last counts, and others than those that are asked for do not matter,
/// as in the kernel: a newer one may have more of them.
pub(super) struct Parsed<'a>([Option<&'a [u8]>; 16]);

impl<'a> Parsed<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut found = [None; 16];
        for attribute in NlasIterator::new(bytes) {
            let attribute = attribute.map_err(|_| DecodeError::Truncated)?;
            let end = usize::from(attribute.length());
            if let Some(found) = found.get_mut(usize::from(attribute.kind())) {
                *found = attribute.into_inner().get(4..end);
            }
        }
        Ok(Self(found))
    }

    fn find(&self, name: Name) -> Option<&'a [u8]> {
        self.0.get(usize::from(name.0)).copied().flatten()
    }

    /// The first bytes of an attribute; what is behind them does not matter.
    fn number<const N: usize>(&self, name: Name) -> Result<Option<[u8; N]>, DecodeError> {
        let Some(value) = self.find(name) else { return Ok(None) };
        value.first_chunk().copied().map(Some).ok_or_else(|| invalid(name, "a longer number"))
    }

    fn u8(&self, name: Name) -> Result<Option<u8>, DecodeError> {
        Ok(self.number(name)?.map(u8::from_ne_bytes))
    }

    fn u16(&self, name: Name) -> Result<Option<u16>, DecodeError> {
        Ok(self.number(name)?.map(u16::from_ne_bytes))
    }

    fn u32(&self, name: Name) -> Result<Option<u32>, DecodeError> {
        Ok(self.number(name)?.map(u32::from_ne_bytes))
    }

    fn u64(&self, name: Name) -> Result<Option<u64>, DecodeError> {
        Ok(self.number(name)?.map(u64::from_ne_bytes))
    }

    fn port(&self, name: Name) -> Result<Option<u16>, DecodeError> {
        Ok(self.number(name)?.map(u16::from_be_bytes))
    }

    /// Text that ends with a zero; what is behind that does not matter.
    fn text(&self, name: Name) -> Result<Option<&'a str>, DecodeError> {
        let invalid = invalid(name, "a text that ends with a zero byte");
        let Some(value) = self.find(name) else { return Ok(None) };
        let end = value.iter().position(|&byte| byte == 0).ok_or(invalid)?;
        core::str::from_utf8(&value[..end]).map(Some).map_err(|_| invalid)
    }

    fn family(&self, name: Name) -> Result<Option<IpFamily>, DecodeError> {
        self.u16(name)?.map(known_family).transpose()
    }

    /// At most 16 bytes; those that are missing are zeros.
    fn ip(&self, name: Name, family: IpFamily) -> Result<Option<IpAddr>, DecodeError> {
        let invalid = invalid(name, "an address of 16 bytes at most");
        let Some(value) = self.find(name) else { return Ok(None) };
        let mut bytes = [0; 16];
        bytes.get_mut(..value.len()).ok_or(invalid)?.copy_from_slice(value);
        let [a, b, c, d, ..] = bytes;
        Ok(Some(match family {
            IpFamily::V4 => Ipv4Addr::new(a, b, c, d).into(),
            IpFamily::V6 => Ipv6Addr::from(bytes).into(),
        }))
    }

    /// The attributes in an attribute.
    pub(super) fn nested(&self, name: Name) -> Result<Option<Self>, DecodeError> {
        self.find(name).map(Self::new).transpose()
    }
}

fn known_family(number: u16) -> Result<IpFamily, DecodeError> {
    match number {
        AF_INET => Ok(IpFamily::V4),
        AF_INET6 => Ok(IpFamily::V6),
        other => Err(DecodeError::UnknownFamily(other)),
    }
}

pub(super) const fn invalid(name: Name, expected: &'static str) -> DecodeError {
    DecodeError::Invalid { attribute: name.1, expected }
}

/// What was found of an attribute that has to be there.
pub(super) fn required<T>(name: Name, found: Option<T>) -> Result<T, DecodeError> {
    found.ok_or(DecodeError::Missing(name.1))
}
