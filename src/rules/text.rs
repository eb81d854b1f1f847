//! Text that is written fast: rulesets are mostly addresses and numbers.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write};
use core::net::{IpAddr, Ipv4Addr};

/// A text that grows.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Text(Vec<u8>);

impl Text {
    #[inline]
    pub(crate) fn str(&mut self, text: &str) -> &mut Self {
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    /// Writes what is known to be ASCII.
    #[cfg(feature = "iptables")]
    #[inline]
    pub(crate) fn ascii(&mut self, text: &[u8]) -> &mut Self {
        self.0.extend_from_slice(text);
        self
    }

    #[inline]
    pub(crate) fn text(&mut self, text: &Self) -> &mut Self {
        self.0.extend_from_slice(&text.0);
        self
    }

    pub(crate) fn display(&mut self, what: impl fmt::Display) -> &mut Self {
        // It takes whatever is written to it.
        let _ = write!(self, "{what}");
        self
    }

    #[inline]
    pub(crate) fn number(&mut self, number: u32) -> &mut Self {
        let (mut line, mut at) = ([0; 10], 0);
        push_number(&mut line, &mut at, number);
        self.0.extend_from_slice(&line[..at]);
        self
    }

    #[inline]
    pub(crate) fn ip(&mut self, ip: IpAddr) -> &mut Self {
        let IpAddr::V4(v4) = ip else {
            return self.display(ip);
        };
        let (mut line, mut at) = ([0; 16], 0);
        push_ipv4(&mut line, &mut at, v4);
        self.0.extend_from_slice(&line[..at]);
        self
    }

    /// `10.0.0.7:80`, `[fd00::7]:80`
    #[inline]
    pub(crate) fn addr(&mut self, addr: core::net::SocketAddr) -> &mut Self {
        if addr.is_ipv4() {
            self.ip(addr.ip()).str(":").number(addr.port().into())
        } else {
            self.str("[").ip(addr.ip()).str("]:").number(addr.port().into())
        }
    }

    pub(crate) fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }

    /// `KEY . SLOT : ADDRESS . PORT`, most of what there is in a ruleset: put together in one piece.
    #[cfg(feature = "nftables")]
    #[inline]
    pub(crate) fn slot(&mut self, key: &Self, slot: u32, addr: core::net::SocketAddr) {
        let core::net::SocketAddr::V4(v4) = addr else {
            self.text(key).str(" . ").number(slot).str(" : ").ip(addr.ip());
            self.str(" . ").number(addr.port().into());
            return;
        };
        self.text(key);
        let (mut line, mut at) = ([0; 48], 0);
        push(&mut line, &mut at, *b" . ");
        push_number(&mut line, &mut at, slot);
        push(&mut line, &mut at, *b" : ");
        push_ipv4(&mut line, &mut at, *v4.ip());
        push(&mut line, &mut at, *b" . ");
        push_number(&mut line, &mut at, v4.port().into());
        self.0.extend_from_slice(&line[..at]);
    }

    /// Puts a text before it.
    #[cfg(feature = "iptables")]
    pub(crate) fn behind(mut self, text: &Self) -> Self {
        self.0.splice(..0, text.0.iter().copied());
        self
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Only what was written as text is in it.
    pub(crate) fn as_str(&self) -> &str {
        core::str::from_utf8(&self.0).unwrap_or_default()
    }

    pub(crate) fn into_string(self) -> String {
        String::from_utf8(self.0).unwrap_or_default()
    }
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.str(text);
        Ok(())
    }
}

#[inline]
fn push<const N: usize>(line: &mut [u8], at: &mut usize, bytes: [u8; N]) {
    line[*at..*at + N].copy_from_slice(&bytes);
    *at += N;
}

#[inline]
fn push_number(line: &mut [u8], at: &mut usize, mut number: u32) {
    let end = *at + number.checked_ilog10().unwrap_or(0) as usize + 1;
    for digit in line[*at..end].iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
    *at = end;
}

#[inline]
fn push_ipv4(line: &mut [u8], at: &mut usize, ip: Ipv4Addr) {
    for octet in ip.octets() {
        let [digits @ .., count] = OCTETS[usize::from(octet)];
        push(line, at, digits);
        *at -= 3 - usize::from(count);
        push(line, at, *b".");
    }
    *at -= 1;
}

/// The digits of 0 to 255, and how many they are.
static OCTETS: [[u8; 4]; 256] = {
    let mut octets = [[0; 4]; 256];
    let mut n = 0_u8;
    loop {
        let (a, b, c) = (b'0' + n / 100, b'0' + n / 10 % 10, b'0' + n % 10);
        octets[n as usize] = match n {
            0..10 => [c, 0, 0, 1],
            10..100 => [b, c, 0, 2],
            _ => [a, b, c, 3],
        };
        if n == u8::MAX {
            break;
        }
        n += 1;
    }
    octets
};

#[cfg(test)]
mod tests {
    use alloc::string::ToString;
    use core::net::IpAddr;

    use super::Text;

    #[test]
    fn addresses_and_numbers_are_as_displayed() {
        for n in (0..=255).chain([256, 65_535, 1_000_000, u32::MAX]) {
            let mut text = Text::default();
            assert_eq!(text.number(n).as_str(), n.to_string());
            let [.., low] = n.to_be_bytes();
            for ip in [IpAddr::from((n ^ 0x0a09_6401).to_be_bytes()), IpAddr::from([low; 16])] {
                let mut text = Text::default();
                assert_eq!(text.ip(ip).as_str(), ip.to_string());
            }
        }
    }
}
