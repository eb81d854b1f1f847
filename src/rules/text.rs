//! Text that is written fast: rulesets are mostly addresses and numbers.

use alloc::string::String;
use core::fmt::{self, Write};
use core::net::IpAddr;

/// A text that grows.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Text(pub(crate) String);

impl Text {
    #[inline]
    pub(crate) fn str(&mut self, text: &str) -> &mut Self {
        self.0.push_str(text);
        self
    }

    pub(crate) fn display(&mut self, what: impl fmt::Display) -> &mut Self {
        // A String takes whatever is written to it.
        let _ = write!(self.0, "{what}");
        self
    }

    #[inline]
    pub(crate) fn number(&mut self, mut number: u32) -> &mut Self {
        let mut digits = [0; 10];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.0.push_str(core::str::from_utf8(&digits[at..]).unwrap_or_default());
        self
    }

    #[inline]
    pub(crate) fn ip(&mut self, ip: IpAddr) -> &mut Self {
        match ip {
            IpAddr::V4(v4) => {
                let [a, b, c, d] = v4.octets().map(u32::from);
                self.number(a).str(".").number(b).str(".").number(c).str(".").number(d)
            }
            IpAddr::V6(v6) => self.display(v6),
        }
    }
}
