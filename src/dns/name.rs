//! Domain names as they are on the wire.

use alloc::string::String;
use core::fmt;
use core::hash::{Hash, Hasher};
use core::net::IpAddr;
use core::str::FromStr;

use crate::name::NameError;

/// The longest name, in bytes on the wire, with the root's zero byte.
pub const MAX_NAME: usize = 255;
/// The longest label, in bytes.
const MAX_LABEL: usize = 63;
const WIRE: &str =
    "labels of 1 to 63 bytes, each behind its length, and a zero byte (uncompressed domain name)";
const TEXT: &str = "labels of 1 to 63 bytes joined by single dots (domain name)";

/// A domain name, borrowed from wherever its labels are. Comparisons ignore the case of ASCII letters.
///
/// It is always absolute, with or without a dot at the end of its text.
#[derive(Clone, Copy)]
pub struct Name<'a> {
    /// Labels, each behind its length, without the root; the name is both parts.
    head: &'a [u8],
    tail: &'a [u8],
}

impl<'a> Name<'a> {
    pub(super) const fn joined(head: &'a [u8], tail: &'a [u8]) -> Self {
        Self { head, tail }
    }

    /// Reads a name from the wire, where it is alone and without compression.
    ///
    /// # Errors
    ///
    /// It is cut off, goes on behind its end, has a compression pointer, or is longer than 255 bytes.
    pub fn from_wire(wire: &'a [u8]) -> Result<Self, NameError> {
        if wire.len() > MAX_NAME {
            return Err(NameError::TooLong { max: MAX_NAME });
        }
        let Some((0, labels)) = wire.split_last() else {
            return Err(NameError::Malformed { expected: WIRE });
        };
        let mut at = 0;
        while let Some(&len) = labels.get(at) {
            if len == 0 || usize::from(len) > MAX_LABEL {
                return Err(NameError::Malformed { expected: WIRE });
            }
            at += 1 + usize::from(len);
        }
        if at == labels.len() {
            Ok(Self { head: labels, tail: &[] })
        } else {
            Err(NameError::Malformed { expected: WIRE })
        }
    }

    /// Its labels, the first one first; none for the root.
    pub fn labels(self) -> impl Iterator<Item = &'a [u8]> + Clone {
        [self.head, self.tail].into_iter().flat_map(|part| {
            let mut rest = part;
            core::iter::from_fn(move || {
                let (&len, behind) = rest.split_first()?;
                let (label, behind) = behind.split_at_checked(usize::from(len))?;
                rest = behind;
                Some(label)
            })
        })
    }

    /// How many bytes it takes on the wire without compression, the root's zero byte included: 1 to 255.
    pub const fn wire_len(self) -> usize {
        self.head.len() + self.tail.len() + 1
    }
}

impl PartialEq for Name<'_> {
    fn eq(&self, other: &Self) -> bool {
        // Both borrowed from one place, as a record's owner and the question are.
        let same = |a: &[u8], b: &[u8]| core::ptr::eq(a, b);
        if same(self.head, other.head) && same(self.tail, other.tail) {
            return true;
        }
        self.wire_len() == other.wire_len()
            && self.labels().zip(other.labels()).all(|(a, b)| a.eq_ignore_ascii_case(b))
    }
}

impl Eq for Name<'_> {}

impl Hash for Name<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for label in self.labels() {
            state.write_usize(label.len());
            for byte in label {
                state.write_u8(byte.to_ascii_lowercase());
            }
        }
    }
}

impl fmt::Debug for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl fmt::Display for Name<'_> {
    /// As in a zone file, with the dot at the end: `redis.default.svc.cluster.local.`; bytes that are not printable are `\DDD`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.wire_len() == 1 {
            return f.write_str(".");
        }
        for label in self.labels() {
            for &byte in label {
                match byte {
                    b'.' | b'\\' | b'"' | b';' | b'(' | b')' | b'@' | b'$' => {
                        write!(f, "\\{}", char::from(byte))?;
                    }
                    b'!'..=b'~' => write!(f, "{}", char::from(byte))?,
                    _ => write!(f, "\\{byte:03}")?,
                }
            }
            f.write_str(".")?;
        }
        Ok(())
    }
}

/// A domain name of its own, without allocation.
///
/// ```
/// use svcplane::dns::NameBuf;
///
/// let name: NameBuf = "Redis.default.svc.cluster.local".parse()?;
/// assert_eq!(name.name().labels().next(), Some(&b"Redis"[..]));
/// assert_eq!(name.to_string(), "Redis.default.svc.cluster.local.");
/// assert_eq!(name, "redis.DEFAULT.svc.cluster.local.".parse()?);
/// assert!("a..b".parse::<NameBuf>().is_err());
/// # Ok::<(), svcplane::name::NameError>(())
/// ```
#[derive(Clone, Copy)]
pub struct NameBuf {
    /// As on the wire; zeros behind the name.
    bytes: [u8; MAX_NAME],
    /// Without the root's zero byte.
    len: u8,
}

impl NameBuf {
    pub(super) const ROOT: Self = Self { bytes: [0; MAX_NAME], len: 0 };

    /// A name of these labels, the first one first.
    ///
    /// # Errors
    ///
    /// A label is empty or longer than 63 bytes, or the whole is longer than 255 bytes on the wire.
    pub fn from_labels<'a, I>(labels: I) -> Result<Self, NameError>
    where
        I: IntoIterator<Item = &'a [u8]>,
    {
        let mut name = Self::ROOT;
        for label in labels {
            name.push(label)?;
        }
        Ok(name)
    }

    /// The name under which the PTR records of an address are: `4.3.2.1.in-addr.arpa`, or 32 nibbles under `ip6.arpa`.
    pub fn reverse(ip: IpAddr) -> Self {
        let mut name = Self::ROOT;
        match ip {
            IpAddr::V4(ip) => {
                for octet in ip.octets().into_iter().rev() {
                    let digits = [b'0' + octet / 100, b'0' + octet / 10 % 10, b'0' + octet % 10];
                    let zeros = usize::from(octet < 100) + usize::from(octet < 10);
                    name.push_short(&digits[zeros..]);
                }
                name.push_short(b"in-addr");
            }
            IpAddr::V6(ip) => {
                for octet in ip.octets().into_iter().rev() {
                    for nibble in [octet & 15, octet >> 4] {
                        name.push_short(&[b"0123456789abcdef"[usize::from(nibble)]]);
                    }
                }
                name.push_short(b"ip6");
            }
        }
        name.push_short(b"arpa");
        name
    }

    /// The name, to ask for or compare.
    pub fn name(&self) -> Name<'_> {
        Name { head: self.labels_on_wire(), tail: &[] }
    }

    /// As it is on the wire, without compression, the root's zero byte included.
    pub fn as_wire(&self) -> &[u8] {
        &self.bytes[..=usize::from(self.len)]
    }

    pub(super) fn labels_on_wire(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// All of its ASCII letters in lower case. No length of a label is a letter.
    pub(super) fn lowered(mut self) -> Self {
        self.bytes[..usize::from(self.len)].make_ascii_lowercase();
        self
    }

    /// This name with another behind it; `None` if that is too long.
    pub(super) fn followed_by(mut self, rest: Name<'_>) -> Option<Self> {
        for label in rest.labels() {
            self.push(label).ok()?;
        }
        Some(self)
    }

    fn push(&mut self, label: &[u8]) -> Result<(), NameError> {
        let at = usize::from(self.len);
        match label.len() {
            0 => return Err(NameError::Malformed { expected: TEXT }),
            len if len > MAX_LABEL => return Err(NameError::TooLong { max: MAX_LABEL }),
            len if at + len + 2 > MAX_NAME => return Err(NameError::TooLong { max: MAX_NAME }),
            _ => self.push_short(label),
        }
        Ok(())
    }

    /// A label that is known to fit.
    #[expect(clippy::cast_possible_truncation, reason = "at most 63 and 254")]
    fn push_short(&mut self, label: &[u8]) {
        let at = usize::from(self.len);
        self.bytes[at] = label.len() as u8;
        self.bytes[at + 1..][..label.len()].copy_from_slice(label);
        self.len += label.len() as u8 + 1;
    }
}

/// As it is on the wire.
impl AsRef<[u8]> for NameBuf {
    fn as_ref(&self) -> &[u8] {
        self.as_wire()
    }
}

impl From<Name<'_>> for NameBuf {
    fn from(name: Name<'_>) -> Self {
        let mut copy = Self::ROOT;
        let (head, len) = (name.head.len(), name.wire_len() - 1);
        copy.bytes[..head].copy_from_slice(name.head);
        copy.bytes[head..len].copy_from_slice(name.tail);
        copy.len = u8::try_from(len).unwrap_or(0); // at most 254: no longer name is made
        copy
    }
}

impl FromStr for NameBuf {
    type Err = NameError;

    /// As in a zone file: the dot at the end may be left out, `\.` is a dot in a label and `\DDD` a byte in decimal. The root is
    /// `.`.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let mut name = Self::ROOT;
        match text {
            "" => return Err(NameError::Empty),
            "." => return Ok(name),
            _ => {}
        }
        let mut label = [0; MAX_LABEL];
        let mut len = 0;
        let mut bytes = text.bytes();
        while let Some(byte) = bytes.next() {
            let byte = match byte {
                b'.' => {
                    name.push(&label[..len])?;
                    len = 0;
                    continue;
                }
                b'\\' => escaped(&mut bytes)?,
                byte => byte,
            };
            *label.get_mut(len).ok_or(NameError::TooLong { max: MAX_LABEL })? = byte;
            len += 1;
        }
        if len > 0 {
            name.push(&label[..len])?;
        }
        Ok(name)
    }
}

fn escaped(bytes: &mut impl Iterator<Item = u8>) -> Result<u8, NameError> {
    const ERROR: NameError = NameError::Malformed { expected: TEXT };
    let first = bytes.next().ok_or(ERROR)?;
    if !first.is_ascii_digit() {
        return Ok(first);
    }
    let mut number = u32::from(first - b'0');
    for _ in 0..2 {
        let digit = bytes.next().filter(u8::is_ascii_digit).ok_or(ERROR)?;
        number = number * 10 + u32::from(digit - b'0');
    }
    u8::try_from(number).map_err(|_| ERROR)
}

impl PartialEq for NameBuf {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for NameBuf {}

impl Hash for NameBuf {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}

impl fmt::Debug for NameBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.name(), f)
    }
}

impl fmt::Display for NameBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.name(), f)
    }
}

/// An address as a label: dashes for dots and colons; one that would end in a dash ends in a zero.
pub(super) fn dashed(ip: IpAddr) -> String {
    let mut text = alloc::format!("{ip}");
    if ip.is_ipv6() && text.ends_with(':') {
        text.push('0');
    }
    let dash = |c: char| if matches!(c, '.' | ':') { '-' } else { c };
    text.chars().map(dash).collect()
}

/// The address that a label of dashes stands for: three single dashes are those of IPv4.
pub(super) fn undashed(label: &[u8]) -> Option<IpAddr> {
    let mut text = [0; 45];
    let text = text.get_mut(..label.len())?;
    text.copy_from_slice(label);
    if !text.iter().all(|byte| byte.is_ascii_hexdigit() || *byte == b'-') {
        return None;
    }
    let dashes = text.split(|&byte| byte == b'-').count() - 1;
    let double = text.windows(2).any(|pair| pair == b"--");
    let separator = if dashes == 3 && !double { b'.' } else { b':' };
    text.iter_mut().filter(|byte| **byte == b'-').for_each(|byte| *byte = separator);
    let text = core::str::from_utf8(text).ok()?;
    if separator == b'.' {
        text.parse().ok().map(IpAddr::V4)
    } else {
        text.parse().ok().map(IpAddr::V6)
    }
}
