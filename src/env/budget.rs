//! What the kernel lets a program be started with.

use core::fmt;

/// How many bytes arguments and environment may have together, with 8 bytes for each of them, under the usual stack limit of 8
/// MiB: a quarter of it.
pub const EXEC_LIMIT: usize = 2 << 20;

/// How many bytes one `NAME=value` may have, with the zero byte behind it: 32 pages of 4 KiB.
pub const STRING_LIMIT: usize = 128 << 10;

/// How much of what the kernel lets a program be started with an environment uses up.
///
/// Beyond the limit no program starts in the container: `exec` fails with `E2BIG`, "argument list too long". With some 40,000
/// variables, which are some 5,000 Services of one namespace, it is there; `enableServiceLinks: false` is the way out.
///
/// Source: Linux `execve(2)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Budget {
    /// How many variables there are.
    pub vars: usize,
    /// What they take: for each its bytes, a zero byte, and the 8 bytes of a pointer.
    pub bytes: usize,
    /// The longest of them, in bytes, with the zero byte.
    pub longest: usize,
}

impl Budget {
    /// What these take, each `NAME=value`. What else a program is given, its arguments and its container's own variables, is for
    /// the caller to add.
    pub fn of<'a, I: IntoIterator<Item = &'a str>>(vars: I) -> Self {
        const POINTER: usize = 8;
        let mut budget = Self::default();
        for var in vars {
            let string = var.len() + 1;
            budget.vars += 1;
            budget.bytes += string + POINTER;
            budget.longest = budget.longest.max(string);
        }
        budget
    }

    /// Whether a program can be started with them under the usual limits.
    pub const fn fits(&self) -> bool {
        self.fits_within(EXEC_LIMIT)
    }

    /// Whether a program can be started with them where arguments and environment together may take so many bytes.
    pub const fn fits_within(&self, limit: usize) -> bool {
        self.bytes <= limit && self.longest <= STRING_LIMIT
    }
}

impl fmt::Display for Budget {
    /// `7 variables, 318 bytes of 2097152`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} variables, {} bytes of {EXEC_LIMIT}", self.vars, self.bytes)?;
        if self.fits() {
            return Ok(());
        }
        f.write_str(": no program can be started with them (argument list too long)")
    }
}
