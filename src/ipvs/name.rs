//! Names of what the kernel loads by name.

use core::fmt;
use core::str::FromStr;

use thiserror::Error;

use crate::sched::Algorithm;

macro_rules! names {
    ($( $(#[$doc:meta])* $name:ident $length:literal $error:ident $what:literal; )*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name {
            /// Zeros behind the name.
            bytes: [u8; $length],
        }

        impl $name {
            /// The greatest length of a name, in bytes.
            pub const MAX_LEN: usize = $length;

            /// The name.
            pub fn as_str(&self) -> &str {
                let len = self.bytes.iter().position(|&byte| byte == 0).unwrap_or($length);
                core::str::from_utf8(&self.bytes[..len]).unwrap_or_default()
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self.as_str(), f)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        #[doc = concat!("The text is not the name of ", $what, ".")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
        #[error(
            "expected the name of {}: 1 to {} visible ASCII characters",
            $what,
            $name::MAX_LEN
        )]
        #[non_exhaustive]
        pub struct $error;

        impl FromStr for $name {
            type Err = $error;

            fn from_str(text: &str) -> Result<Self, $error> {
                let mut bytes = [0; $length];
                let room = bytes.get_mut(..text.len()).ok_or($error)?;
                if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
                    return Err($error);
                }
                room.copy_from_slice(text.as_bytes());
                Ok(Self { bytes })
            }
        }
    )* };
}

names! {
    /// The name of a scheduler as the kernel knows it, 1 to 15 visible ASCII characters: `rr`, `wlc`. The kernel loads the module
    /// `ip_vs_NAME` when it first hears of one; `none` is no scheduler at all, and nothing is ever scheduled.
    ///
    /// ```
    /// use svcplane::ipvs::SchedulerName;
    /// use svcplane::sched::Algorithm;
    ///
    /// let scheduler: SchedulerName = "ovf".parse()?;
    /// assert_eq!(scheduler.as_str(), "ovf");
    /// // This crate's algorithms, but for those that no kernel has.
    /// assert_eq!(SchedulerName::try_from(Algorithm::MaglevHashing)?.as_str(), "mh");
    /// assert!(SchedulerName::try_from(Algorithm::PowerOfTwoChoices).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    SchedulerName 15 ParseSchedulerNameError "a scheduler";
    /// The name of a persistence engine, 1 to 16 visible ASCII characters. There is one: `sip`, which keeps a SIP call, not a
    /// client's address, with its server.
    EngineName 16 ParseEngineNameError "a persistence engine";
}

impl SchedulerName {
    /// `rr`
    pub(super) const ROUND_ROBIN: Self = Self { bytes: *b"rr\0\0\0\0\0\0\0\0\0\0\0\0\0" };
}

/// The kernel has no scheduler of the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("IPVS has no scheduler {0}: expected rr, wrr, lc, wlc, sh, dh, mh, sed or nq")]
#[non_exhaustive]
pub struct NotInKernel(pub Algorithm);

impl TryFrom<Algorithm> for SchedulerName {
    type Error = NotInKernel;

    fn try_from(algorithm: Algorithm) -> Result<Self, NotInKernel> {
        match algorithm {
            Algorithm::Random | Algorithm::WeightedRandom | Algorithm::PowerOfTwoChoices => {
                Err(NotInKernel(algorithm))
            }
            other => other.as_str().parse().map_err(|_| NotInKernel(other)),
        }
    }
}
