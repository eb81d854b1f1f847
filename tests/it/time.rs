//! RFC 3339 timestamps and saturating instants.

use std::time::Duration;

use proptest::prelude::*;
use svcplane::time::{Instant, Timestamp};

/// Seconds at 0000-01-01T00:00:00Z and 9999-12-31T23:59:59Z.
const YEARS: (i64, i64) = (-62_167_219_200, 253_402_300_799);

/// RFC 3339 section 5.8 (the first five), Kubernetes apimachinery `pkg/apis/meta/v1/time_test.go`,
/// `TestTimeUnmarshalJSON` and `TestTimeMarshalCBOR` (the next four), calendar edges.
#[test]
fn timestamps_read() {
    for (text, unix, canonical) in [
        ("1985-04-12T23:20:50.52Z", 482_196_050, "1985-04-12T23:20:50Z"),
        ("1996-12-19T16:39:57-08:00", 851_042_397, "1996-12-20T00:39:57Z"),
        ("1990-12-31T23:59:60Z", 662_688_000, "1991-01-01T00:00:00Z"),
        ("1990-12-31T15:59:60-08:00", 662_688_000, "1991-01-01T00:00:00Z"),
        ("1937-01-01T12:00:27.87+00:20", -1_041_337_173, "1937-01-01T11:40:27Z"),
        ("1998-05-05T05:05:05Z", 894_344_705, "1998-05-05T05:05:05Z"),
        ("1998-05-05T05:05:05.123456789Z", 894_344_705, "1998-05-05T05:05:05Z"),
        ("1970-01-01T00:00:00Z", 0, "1970-01-01T00:00:00Z"),
        ("1960-01-01T00:00:00Z", -315_619_200, "1960-01-01T00:00:00Z"),
        ("1969-12-31T23:59:59.999999999Z", -1, "1969-12-31T23:59:59Z"),
        ("2000-02-29T23:59:59Z", 951_868_799, "2000-02-29T23:59:59Z"),
        ("2024-02-29T00:00:00+05:30", 1_709_145_000, "2024-02-28T18:30:00Z"),
        ("2023-12-31T23:30:00-01:00", 1_704_069_000, "2024-01-01T00:30:00Z"),
        ("1900-03-01T00:00:00-00:00", -2_203_891_200, "1900-03-01T00:00:00Z"),
        ("2038-01-19t03:14:08z", 2_147_483_648, "2038-01-19T03:14:08Z"),
        ("2038-01-19 03:14:08Z", 2_147_483_648, "2038-01-19T03:14:08Z"),
        ("0000-01-01T00:00:00Z", YEARS.0, "0000-01-01T00:00:00Z"),
        ("9999-12-31T23:59:59Z", YEARS.1, "9999-12-31T23:59:59Z"),
    ] {
        let time: Timestamp = text.parse().unwrap_or_else(|e| panic!("{text:?}: {e}"));
        assert_eq!((time.as_unix(), &*time.to_string()), (unix, canonical), "{text:?}");
    }
}

#[test]
fn timestamps_refused() {
    for text in [
        "",
        "hello",
        "2026-03-01",
        "2026-03-01T12:00Z",
        "2026-03-01T12:00:00",
        "20260301T120000Z",
        "2026-3-01T12:00:00Z",
        "2026-00-01T12:00:00Z",
        "2026-13-01T12:00:00Z",
        "2026-01-00T12:00:00Z",
        "2026-01-32T12:00:00Z",
        "2026-04-31T12:00:00Z",
        "2026-06-31T12:00:00Z",
        "2026-09-31T12:00:00Z",
        "2026-11-31T12:00:00Z",
        "2026-02-29T12:00:00Z",
        "2024-02-30T12:00:00Z",
        "1900-02-29T12:00:00Z",
        "2100-02-29T12:00:00Z",
        "2026-03-01T24:00:00Z",
        "2026-03-01T12:60:00Z",
        "2026-03-01T12:00:61Z",
        "2026-03-01T12:00:00.Z",
        "2026-03-01T12:00:00,5Z",
        "2026-03-01T12:00:00.5",
        "2026-03-01T12:00:00ZZ",
        "2026-03-01T12:00:00Z ",
        " 2026-03-01T12:00:00Z",
        "2026-03-01T12:00:00+0200",
        "2026-03-01T12:00:00+02",
        "2026-03-01T12:00:00+2:00",
        "2026-03-01T12:00:00+24:00",
        "2026-03-01T12:00:00+02:60",
        "2026-03-01T12:00:00 +02:00",
        "2026-03-01_12:00:00Z",
        "+026-03-01T12:00:00Z",
        "2026-03-01T-1:00:00Z",
        "２026-03-01T12:00:00Z",
        "12026-03-01T12:00:00Z",
    ] {
        let read = text.parse::<Timestamp>();
        assert!(read.is_err(), "{text:?} is read as {read:?}");
    }
}

/// Every day of 1600 to 2400, two whole Gregorian cycles, against a calendar that counts days one by one.
#[test]
fn timestamps_count_days() {
    let mut day_number = -135_140; // 1600-01-01
    for year in 1600..2400 {
        let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
        let february = if leap { 29 } else { 28 };
        for (month, days) in (1..).zip([31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]) {
            for day in 1..=days {
                let expected = format!("{year:04}-{month:02}-{day:02}T00:00:00Z");
                let time = Timestamp::from_unix(day_number * 86_400);
                assert_eq!(time.to_string(), expected, "day {day_number}");
                assert_eq!(expected.parse(), Ok(time), "{expected}");
                day_number += 1;
            }
        }
    }
    assert_eq!(Timestamp::from_unix(day_number * 86_400).to_string(), "2400-01-01T00:00:00Z");
}

#[test]
fn timestamps_are_held_to_four_digit_years() {
    for (secs, expected) in [
        (i64::MIN, YEARS.0),
        (YEARS.0 - 1, YEARS.0),
        (YEARS.0, YEARS.0),
        (YEARS.1, YEARS.1),
        (YEARS.1 + 1, YEARS.1),
        (i64::MAX, YEARS.1),
    ] {
        assert_eq!(Timestamp::from_unix(secs).as_unix(), expected, "{secs}");
    }
    for (text, expected) in
        [("0000-01-01T00:00:00+00:01", YEARS.0), ("9999-12-31T23:59:59-23:59", YEARS.1)]
    {
        assert_eq!(text.parse().map(Timestamp::as_unix), Ok(expected), "{text}");
    }
}

#[test]
fn instants_saturate() {
    let second = Duration::from_secs(1);
    for (got, nanos) in [
        (Instant::from_secs(2) + second, 3_000_000_000),
        (Instant::ZERO + Duration::new(1, 7), 1_000_000_007),
        (Instant::from_nanos(u64::MAX - 5) + Duration::from_nanos(5), u64::MAX),
        (Instant::from_nanos(u64::MAX - 5) + Duration::from_nanos(6), u64::MAX),
        (Instant::MAX + second, u64::MAX),
        (Instant::ZERO + Duration::MAX, u64::MAX),
        (Instant::from_secs(u64::MAX), u64::MAX),
        (Instant::from_secs(18_446_744_073), 18_446_744_073_000_000_000),
        (Instant::from_secs(18_446_744_074), u64::MAX),
        (Duration::from_nanos(u64::MAX).into(), u64::MAX),
        (Duration::from_secs(20_000_000_000).into(), u64::MAX),
    ] {
        assert_eq!(got.as_nanos(), nanos);
    }
    let (early, late) = (Instant::from_secs(3), Instant::from_secs(4));
    assert_eq!(late.saturating_duration_since(early), second);
    assert_eq!(early.saturating_duration_since(late), Duration::ZERO);
    let mut now = early;
    now += second;
    assert_eq!(now, late);
}

proptest! {
    #[test]
    fn timestamps_read_back(secs in YEARS.0..=YEARS.1) {
        let time = Timestamp::from_unix(secs);
        prop_assert_eq!(time.as_unix(), secs);
        prop_assert_eq!(time.to_string().parse(), Ok(time));
    }

    /// An offset moves the time by itself, a fraction not at all.
    #[test]
    fn offsets_and_fractions(
        secs in YEARS.0 + 86_400..=YEARS.1 - 86_400,
        hours in 0_i64..24,
        minutes in 0_i64..60,
        west: bool,
        fraction in "(\\.[0-9]{1,12})?",
    ) {
        let local = Timestamp::from_unix(secs).to_string();
        let sign = if west { '-' } else { '+' };
        let text = format!("{}{fraction}{sign}{hours:02}:{minutes:02}", local.trim_end_matches('Z'));
        let offset = hours * 3600 + minutes * 60;
        let expected = if west { secs + offset } else { secs - offset };
        prop_assert_eq!(text.parse().map(Timestamp::as_unix), Ok(expected), "{}", text);
    }

    /// Any text: no panic, and what is read prints as a text of the same value.
    #[test]
    fn any_text(
        text in "\\PC{0,40}|[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9]\\PC{0,4}Z?",
    ) {
        if let Ok(time) = text.parse::<Timestamp>() {
            prop_assert_eq!(time.to_string().parse(), Ok(time));
        }
    }
}
