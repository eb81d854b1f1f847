//! Amounts of resources as text.

use proptest::prelude::*;
use proptest::sample::select;
use svcplane::k8s::Quantity;

fn millis(text: &str) -> Option<u64> {
    Quantity::from(text).millis()
}

const DECIMAL: [(&str, i32); 9] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15)];
const BINARY: [(&str, u32); 6] =
    [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];

/// Kubernetes apimachinery `pkg/api/resource/quantity.go`: the grammar, and what is rounded up.
#[test]
fn amounts() {
    for (text, expected) in [
        ("0", 0),
        ("1n", 1),
        ("1u", 1),
        ("1m", 1),
        ("1", 1_000),
        ("1k", 1_000_000),
        ("1M", 1_000_000_000),
        ("1G", 1_000_000_000_000),
        ("1T", 1_000_000_000_000_000),
        ("1P", 1_000_000_000_000_000_000),
        ("1E", u64::MAX),
        ("0.018E", 18_000_000_000_000_000_000),
        ("0E", 0),
        ("1Ki", 1_024_000),
        ("1Mi", 1_048_576_000),
        ("1Gi", 1_073_741_824_000),
        ("1Ti", 1_099_511_627_776_000),
        ("1Pi", 1_125_899_906_842_624_000),
        ("1Ei", u64::MAX),
        ("0.01Ei", 11_529_215_046_068_469_760),
        ("1e3", 1_000_000),
        ("1E3", 1_000_000),
        ("1e+3", 1_000_000),
        ("1E-3", 1),
        ("1e-4", 1),
        ("1e0", 1_000),
        ("12e-1", 1_200),
        ("1.5e1", 15_000),
        ("1e16", 10_000_000_000_000_000_000),
        ("1e17", u64::MAX),
        ("1e1000000", u64::MAX),
        ("1e-1000000", 1),
        ("0e1000000", 0),
        ("3920m", 3_920),
        ("1000000n", 1),
        ("1000001n", 2),
        ("999u", 1),
        ("1001u", 2),
        ("0.5", 500),
        (".5", 500),
        ("5.", 5_000),
        ("+1", 1_000),
        ("007", 7_000),
        ("0.0001", 1),
        ("1.0005", 1_001),
        ("1.5Ki", 1_536_000),
        ("0.0001Ki", 103),
        ("18446744073709551614m", u64::MAX - 1),
        ("18446744073709551615m", u64::MAX),
        ("18446744073709551616m", u64::MAX),
        ("18446744073709551.6135", u64::MAX - 1),
        ("18446744073709551.6151", u64::MAX),
        ("99999999999999999999999999999999999999", u64::MAX),
        ("0.0000000000000000000000000000000000001", 1),
        ("0.0000000000000000000000000000000000001Ei", 1),
        ("9.9999999999999999999999999999999999999Ki", 10_240_000),
        ("9999999.9999999999999999999999999999999Gi", 10_737_418_240_000_000_000),
        ("0.0099999999999999999999999999999999999Ei", 11_529_215_046_068_469_760),
    ] {
        assert_eq!(millis(text), Some(expected), "{text:?}");
    }
}

#[test]
fn no_amounts() {
    for text in [
        "",
        ".",
        "+",
        "+.",
        "-1",
        "-0",
        "+-1",
        "++1",
        "1-",
        "1.2.3",
        "1..2",
        " 1",
        "1 ",
        "1 Ki",
        "4 cores",
        "1K",
        "1KI",
        "1ki",
        "1mi",
        "1g",
        "1i",
        "1iK",
        "1Zi",
        "1mm",
        "1mKi",
        "1e",
        "1E+",
        "1e1.5",
        "1e3m",
        "1em",
        "1e 3",
        "1e99999999999",
        "m",
        "Ki",
        "e3",
        "0x10",
        "1_000",
        "1,000",
        "\u{ff11}",
        "1\u{b5}",
        "NaN",
        "inf",
        "1\0",
        "100000000000000000000000000000000000000",
        "0.00000000000000000000000000000000000001",
    ] {
        assert_eq!(millis(text), None, "{text:?}");
    }
}

proptest! {
    /// The definition: number times scale, rounded up to thousandths.
    #[test]
    fn by_definition(
        number: u32,
        places in 0_usize..10,
        decimal in select(DECIMAL.to_vec()),
        binary in select(BINARY.to_vec()),
        exponent in any::<bool>(),
    ) {
        let digits = format!("{number:0width$}", width = places + 1);
        let (whole, fraction) = digits.split_at(digits.len() - places);
        let number = u128::from(number) * 1000;
        let tens = |power: i32| 10_u128.pow(power.max(0).unsigned_abs());
        let saturated = |millis: u128| u64::try_from(millis).unwrap_or(u64::MAX);

        let (suffix, power) = decimal;
        let suffix = if exponent { format!("e{power}") } else { suffix.to_owned() };
        let scaled = number * tens(power);
        let expected = scaled.div_ceil(tens(-power) * 10_u128.pow(u32::try_from(places).expect("few")));
        prop_assert_eq!(millis(&format!("{whole}.{fraction}{suffix}")), Some(saturated(expected)));

        let (suffix, power) = binary;
        let expected = (number << power).div_ceil(10_u128.pow(u32::try_from(places).expect("few")));
        prop_assert_eq!(millis(&format!("{whole}.{fraction}{suffix}")), Some(saturated(expected)));
    }

    /// Any text: no panic, and one plus before it changes nothing.
    #[test]
    fn any_text(text in "\\PC{0,12}|[+-]?[0-9.]{0,45}([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{0,12})?") {
        let expected = if text.starts_with('+') { None } else { millis(&text) };
        prop_assert_eq!(millis(&format!("+{text}")), expected);
    }
}
