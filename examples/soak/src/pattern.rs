//! Bytes that say where in a stream they belong. The period is a prime, so that no buffer's length hides a gap.

const PERIOD: u64 = 65_521;

fn byte(at: u64) -> u8 {
    let place = at % PERIOD;
    (place ^ (place >> 8)).to_le_bytes()[0]
}

pub(crate) fn fill(buffer: &mut [u8], at: u64) {
    for (byte_, at) in buffer.iter_mut().zip(at..) {
        *byte_ = byte(at);
    }
}

pub(crate) fn is_at(buffer: &[u8], at: u64) -> bool {
    buffer.iter().zip(at..).all(|(&found, at)| found == byte(at))
}
