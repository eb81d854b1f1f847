//! Bytes that are kept outside: numbers, and a check that they came back whole.

use alloc::vec::Vec;

use super::snapshot::SnapshotError;

/// Reads on from byte to byte, and knows where it is.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    pub(super) const fn is_empty(&self) -> bool {
        self.at == self.bytes.len()
    }

    pub(super) fn byte(&mut self, expected: &'static str) -> Result<u8, SnapshotError> {
        self.array(expected).map(|[byte]| byte)
    }

    pub(super) fn array<const N: usize>(
        &mut self,
        expected: &'static str,
    ) -> Result<[u8; N], SnapshotError> {
        let found = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk());
        let found = *found.ok_or_else(|| self.malformed_before(0, expected))?;
        self.at += N;
        Ok(found)
    }

    /// A number as unsigned LEB128, in as few bytes as can be, and not less than `least`.
    pub(super) fn number(
        &mut self,
        expected: &'static str,
        least: u64,
    ) -> Result<u64, SnapshotError> {
        let mut number = 0;
        for count in 1..=10 {
            let byte = self.byte(expected)?;
            let bits = u64::from(byte & 0x7f);
            let shift = 7 * (u32::try_from(count).unwrap_or(0) - 1);
            let whole = bits << shift >> shift == bits;
            number |= bits << shift;
            if byte < 0x80 {
                let shortest = byte > 0 || count == 1;
                let good = whole && shortest && number >= least;
                return if good { Ok(number) } else { Err(self.malformed_before(count, expected)) };
            }
        }
        Err(self.malformed_before(10, expected))
    }

    /// The error that what began so many bytes ago is something else.
    pub(super) const fn malformed_before(
        &self,
        back: usize,
        expected: &'static str,
    ) -> SnapshotError {
        SnapshotError::Malformed { at: self.at - back, expected }
    }
}

/// A number as unsigned LEB128.
pub(super) fn write_number(bytes: &mut Vec<u8>, mut number: u64) {
    loop {
        let [low, ..] = number.to_le_bytes();
        number >>= 7;
        if number == 0 {
            return bytes.push(low & 0x7f);
        }
        bytes.push(low | 0x80);
    }
}

/// Adds the check.
pub(super) fn seal(mut bytes: Vec<u8>) -> Vec<u8> {
    let check = crc32(&bytes);
    bytes.extend(check.to_be_bytes());
    bytes
}

/// What [`seal`] was given, behind the byte of the version.
pub(super) fn unseal(bytes: &[u8], version: u8) -> Result<Reader<'_>, SnapshotError> {
    let malformed = |at, expected| Err(SnapshotError::Malformed { at, expected });
    let Some((bytes, check)) = bytes.split_last_chunk() else {
        return malformed(bytes.len(), "at least a version and a CRC-32");
    };
    match bytes.first() {
        None => malformed(0, "at least a version and a CRC-32"),
        Some(&found) if found != version => malformed(0, "version 1"),
        Some(_) if crc32(bytes) != u32::from_be_bytes(*check) => {
            malformed(bytes.len(), "the CRC-32 of what is before")
        }
        Some(_) => Ok(Reader { bytes, at: 1 }),
    }
}

/// The CRC-32 of IEEE 802.3, as in gzip: every change of up to 32 bits in a row shows.
fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut at = 0;
        while at < table.len() {
            #[expect(clippy::cast_possible_truncation, reason = "below 256")]
            let mut crc = at as u32;
            let mut bit = 0;
            while bit < 8 {
                crc = (crc >> 1) ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 };
                bit += 1;
            }
            table[at] = crc;
            at += 1;
        }
        table
    };
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        let [low, ..] = crc.to_le_bytes();
        (crc >> 8) ^ TABLE[usize::from(low ^ byte)]
    })
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::{crc32, seal, unseal, write_number};

    #[test]
    fn the_check_is_the_usual_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(b""), 0);
    }

    #[test]
    fn numbers_take_few_bytes_and_come_back() {
        for (number, size) in [(0, 1), (127, 1), (128, 2), (16_383, 2), (16_384, 3), (u64::MAX, 10)]
        {
            let mut bytes = alloc::vec![1];
            write_number(&mut bytes, number);
            assert_eq!(bytes.len(), size + 1, "{number}");
            let sealed = seal(bytes);
            let mut reader = unseal(&sealed, 1).expect("sealed");
            assert_eq!(reader.number("", 0), Ok(number));
            assert!(reader.is_empty());
        }
        let long = [0xff; 9];
        for bad in [&[0x80, 0][..], &[0x80], &[], &[&long[..], &[2]].concat(), &[0xff; 11]] {
            let mut bytes: Vec<u8> = alloc::vec![1];
            bytes.extend(bad);
            let sealed = seal(bytes);
            let read = unseal(&sealed, 1).expect("sealed").number("", 0);
            assert!(read.is_err(), "{bad:x?}: {read:?}");
        }
    }
}
