//! Bytes, and zeros when there are no more.

pub(crate) struct Bytes<'a>(pub(crate) &'a [u8]);

impl Bytes<'_> {
    pub(crate) fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.next().unwrap_or_default()
    }

    #[allow(dead_code, reason = "not of use to every target")]
    pub(crate) fn word(&mut self) -> u32 {
        u32::from_be_bytes([0; 4].map(|_| self.byte()))
    }

    #[allow(dead_code, reason = "not of use to every target")]
    pub(crate) fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[usize::from(self.byte()) % of.len()].clone()
    }
}
