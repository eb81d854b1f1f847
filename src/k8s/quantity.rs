//! Amounts of a resource.

use alloc::string::String;
use core::fmt;

/// An amount of a resource, as it is written: `4`, `3920m`, `0.5`, `16Gi`.
///
/// JSON numbers are read as well.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Quantity(String);

impl Quantity {
    /// The amount in thousandths, rounded up; `None` if it is no amount, is negative, or has more than 38 digits. What
    /// is too much for 64 bits is the greatest that they hold.
    ///
    /// ```
    /// use svcplane::k8s::Quantity;
    ///
    /// for (text, millis) in [("4", 4_000), ("3920m", 3_920), ("0.5", 500), ("1e3", 1_000_000), ("1n", 1)] {
    ///     assert_eq!(Quantity::from(text).millis(), Some(millis));
    /// }
    /// assert_eq!(Quantity::from("4 cores").millis(), None);
    /// ```
    pub fn millis(&self) -> Option<u64> {
        let text = self.0.strip_prefix('+').unwrap_or(&self.0);
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, suffix) = text.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if !(1..=38).contains(&(whole.len() + fraction.len())) || fraction.contains('.') {
            return None;
        }
        let digits = whole.bytes().chain(fraction.bytes());
        let digits = digits.fold(0, |sum, digit| sum * 10 + u128::from(digit - b'0'));
        let (binary, decimal) = scale(suffix)?;
        let power = decimal + 3 - i32::try_from(fraction.len()).ok()?;
        let factor = 10_u128.checked_pow(power.unsigned_abs());
        let millis = match (digits, factor) {
            (0, _) => Some(0),
            (_, None) if power < 0 => Some(1),
            (_, None) => None,
            (_, Some(factor)) if power < 0 => {
                // Without the twos that both have, the rest times the scale is of 107 bits at most.
                let twos = binary.min(power.unsigned_abs());
                let (scale, factor) = (1 << (binary - twos), factor >> twos);
                let rest = (digits % factor * scale).div_ceil(factor);
                (digits / factor).checked_mul(scale).map(|whole| whole.saturating_add(rest))
            }
            (_, Some(factor)) => {
                digits.checked_mul(1 << binary).and_then(|scaled| scaled.checked_mul(factor))
            }
        };
        Some(millis.and_then(|millis| u64::try_from(millis).ok()).unwrap_or(u64::MAX))
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The powers of two and ten that a suffix stands for.
fn scale(suffix: &str) -> Option<(u32, i32)> {
    const BINARY: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    const DECIMAL: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
    if let Some((_, power)) = BINARY.iter().zip((10..).step_by(10)).find(|(s, _)| **s == suffix) {
        return Some((power, 0));
    }
    if let Some((_, power)) = DECIMAL.iter().zip((-9..).step_by(3)).find(|(s, _)| **s == suffix) {
        return Some((0, power));
    }
    let exponent = suffix.strip_prefix(['e', 'E'])?;
    // Any more would be zero or too much either way.
    exponent.parse::<i32>().ok().map(|power| (0, power.clamp(-1000, 1000)))
}

impl From<&str> for Quantity {
    /// An amount as it is written, not looked at.
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(feature = "serde")]
mod wire {
    use alloc::string::ToString;
    use core::fmt;

    use serde::de::{Deserialize, Deserializer, Error, Visitor};
    use serde::ser::{Serialize, Serializer};

    use super::Quantity;

    impl Serialize for Quantity {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_str(&self.0)
        }
    }

    impl<'de> Deserialize<'de> for Quantity {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_any(QuantityVisitor)
        }
    }

    struct QuantityVisitor;

    impl Visitor<'_> for QuantityVisitor {
        type Value = Quantity;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a quantity such as \"3920m\"")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Quantity, E> {
            Ok(Quantity(text.into()))
        }

        fn visit_u64<E: Error>(self, number: u64) -> Result<Quantity, E> {
            Ok(Quantity(number.to_string()))
        }

        fn visit_i64<E: Error>(self, number: i64) -> Result<Quantity, E> {
            Ok(Quantity(number.to_string()))
        }

        fn visit_f64<E: Error>(self, number: f64) -> Result<Quantity, E> {
            Ok(Quantity(number.to_string()))
        }
    }
}
