//! Slots `0..size`, some of them taken, in two bands, and which one is next.

use alloc::vec::Vec;
use core::ops::Range;

use super::bitmap::Bitmap;
use super::sparse::Sparse;
use crate::draw::Draw;

#[derive(Clone, Debug)]
pub(super) struct Slots {
    layout: Layout,
    size: u64,
    /// Slots below it are the static band.
    offset: u64,
    /// How many are free in the static band, and in the dynamic one.
    free: [u64; 2],
    draw: Draw,
}

#[derive(Clone, Debug)]
enum Layout {
    Dense(Bitmap),
    Sparse(Sparse),
}

impl Layout {
    fn new(size: u64) -> Self {
        if size <= Bitmap::MAX_SIZE {
            Self::Dense(Bitmap::new(size))
        } else {
            Self::Sparse(Sparse::new(size))
        }
    }
}

impl Slots {
    pub(super) fn new(size: u64, offset: u64, seed: u64) -> Self {
        let offset = offset.min(size);
        let free = [offset, size - offset];
        Self { layout: Layout::new(size), size, offset, free, draw: Draw::new(seed) }
    }

    /// Takes a slot; false if it is taken or out of range.
    pub(super) fn allocate(&mut self, slot: u64) -> bool {
        slot < self.size && self.take(slot)
    }

    pub(super) fn allocate_next(&mut self) -> Option<u64> {
        let Range { start: from, end: to } = self.band([0, 0])?;
        let start = from + self.draw.below(to - from);
        let slot = self.next_free(start, to).or_else(|| self.next_free(from, to))?;
        self.take(slot);
        Some(slot)
    }

    /// Gives a slot back; false if it was free.
    pub(super) fn release(&mut self, slot: u64) -> bool {
        let given = slot < self.size
            && match &mut self.layout {
                Layout::Dense(layout) => layout.give(slot),
                Layout::Sparse(layout) => layout.give(slot),
            };
        self.free[usize::from(slot >= self.offset)] += u64::from(given);
        given
    }

    /// Takes the slots of these runs, and no others. The runs are of slots of the range, and ascending.
    ///
    /// On the first error among them nothing is changed.
    pub(super) fn replace<E>(
        &mut self,
        runs: impl Iterator<Item = Result<Range<u64>, E>>,
    ) -> Result<(), E> {
        let mut layout = Layout::new(self.size);
        let mut free = [self.offset, self.size - self.offset];
        for run in runs {
            let Range { start, end } = run?;
            match &mut layout {
                Layout::Dense(layout) => layout.take_run(start, end),
                Layout::Sparse(layout) => layout.take_run(start, end),
            }
            free[0] -= end.min(self.offset) - start.min(self.offset);
            free[1] -= end.max(self.offset) - start.max(self.offset);
        }
        (self.layout, self.free) = (layout, free);
        Ok(())
    }

    /// What [`allocate_next`](Self::allocate_next) would give with a generator of this seed and the slots of
    /// `except` taken.
    pub(super) fn propose(&self, seed: u64, except: impl Iterator<Item = u64>) -> Option<u64> {
        let free = |slot: &u64| *slot < self.size && !self.has(*slot);
        let mut except: Vec<u64> = except.filter(free).collect();
        except.sort_unstable();
        except.dedup();
        let in_static = except.partition_point(|&slot| slot < self.offset);
        let excepted = [in_static as u64, (except.len() - in_static) as u64];
        let Range { start: from, end: to } = self.band(excepted)?;
        let start = from + Draw::new(seed).below(to - from);
        self.search(start, to, &except).or_else(|| self.search(from, to, &except))
    }

    pub(super) const fn size(&self) -> u64 {
        self.size
    }

    pub(super) const fn free(&self) -> u64 {
        self.free[0] + self.free[1]
    }

    pub(super) const fn used(&self) -> u64 {
        self.size - self.free()
    }

    pub(super) fn has(&self, slot: u64) -> bool {
        slot < self.size
            && match &self.layout {
                Layout::Dense(layout) => layout.has(slot),
                Layout::Sparse(layout) => layout.has(slot),
            }
    }

    /// The taken slots, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = u64> {
        self.runs().flatten()
    }

    /// The taken slots as the longest runs, ascending.
    pub(super) fn runs(&self) -> impl Iterator<Item = Range<u64>> {
        let mut at = 0;
        core::iter::from_fn(move || {
            let start = match &self.layout {
                Layout::Dense(layout) => layout.next_taken(at),
                Layout::Sparse(layout) => layout.next_taken(at)?,
            };
            if start >= self.size {
                return None;
            }
            at = self.next_free(start, self.size).unwrap_or(self.size);
            Some(start..at)
        })
    }

    /// The band to allocate from: the dynamic one, unless it has no more free ones than `excepted`, then the
    /// static one.
    const fn band(&self, excepted: [u64; 2]) -> Option<Range<u64>> {
        if self.free[1] > excepted[1] {
            Some(self.offset..self.size)
        } else if self.free[0] > excepted[0] {
            Some(0..self.offset)
        } else {
            None
        }
    }

    /// The first free slot of `from..to` that is none of `except`, free ones in ascending order.
    fn search(&self, from: u64, to: u64, except: &[u64]) -> Option<u64> {
        let mut except = &except[except.partition_point(|&slot| slot < from)..];
        let mut at = from;
        loop {
            let slot = self.next_free(at, to)?;
            match except.split_first() {
                Some((&first, rest)) if first == slot => (except, at) = (rest, slot + 1),
                _ => return Some(slot),
            }
        }
    }

    /// The first free slot of `from..to`.
    fn next_free(&self, from: u64, to: u64) -> Option<u64> {
        let next = match &self.layout {
            Layout::Dense(layout) => layout.next_free(from),
            Layout::Sparse(layout) => layout.next_free(from),
        };
        next.filter(|&slot| slot < to)
    }

    /// Takes a slot of the range; false if it is taken.
    fn take(&mut self, slot: u64) -> bool {
        let taken = match &mut self.layout {
            Layout::Dense(layout) => layout.take(slot),
            Layout::Sparse(layout) => layout.take(slot),
        };
        self.free[usize::from(slot >= self.offset)] -= u64::from(taken);
        taken
    }
}

/// The size of the static band: `size / divisor` held to 16 and `max`; none in ranges of up to 16.
pub(super) fn static_band(size: u64, divisor: u64, max: u64) -> u64 {
    if size <= 16 { 0 } else { (size / divisor).clamp(16, max) }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::Slots;

    // Slots in all, and of the static band.
    const MAPS: [(u64, u64); 5] = [(32, 0), (8, 0), (128, 16), (1_024, 64), (65_535, 256)];

    fn maps() -> impl Iterator<Item = Slots> {
        MAPS.into_iter().map(|(size, offset)| Slots::new(size, offset, 5))
    }

    /// Kubernetes `pkg/registry/core/service/allocator/bitmap_test.go`, `TestAllocate`, `TestAllocateMax` and
    /// `TestAllocateNextMax`.
    #[test]
    fn all_can_be_taken_and_no_more() {
        for mut slots in maps() {
            let size = slots.size();
            let mut given = slots.clone();
            assert!(slots.allocate_next().is_some());
            assert_eq!((slots.used(), slots.free()), (1, size - 1));
            assert!((1..size).all(|_| slots.allocate_next().is_some()));
            assert!((0..size).all(|slot| given.allocate(slot)));
            for mut full in [slots, given] {
                assert_eq!((full.allocate_next(), full.allocate(size)), (None, false), "{size}");
                assert_eq!((full.used(), full.free()), (size, 0), "{size}");
            }
        }
    }

    /// Kubernetes `pkg/registry/core/service/allocator/bitmap_test.go`, `TestAllocateError` and `TestRelease`.
    #[test]
    fn one_is_taken_once() {
        for mut slots in maps() {
            assert!(slots.allocate(3) && !slots.allocate(3) && slots.has(3));
            assert!(slots.release(3) && !slots.release(3) && !slots.has(3));
            assert!(!slots.release(slots.size()) && !slots.has(slots.size()));
        }
    }

    /// Kubernetes `pkg/registry/core/service/allocator/bitmap_test.go`, `TestForEach` and `TestSnapshotAndRestore`; what
    /// was taken comes back in a map of another size too, as there.
    #[test]
    fn the_taken_ones_come_in_order_and_come_back() {
        for mut slots in maps() {
            for taken in [&[][..], &[0], &[0, 2, 5], &[0, 1, 2, 3, 4, 5, 6, 7]] {
                for &slot in taken {
                    assert!(slots.has(slot) || slots.allocate(slot), "{slot}");
                }
                assert!(slots.iter().eq(taken.iter().copied()), "{taken:?}");
                let mut other = Slots::new(10, 0, 1);
                assert!(other.allocate(9));
                let restored = other.replace(slots.runs().map(Ok::<_, ()>));
                assert_eq!((restored, other.used()), (Ok(()), taken.len() as u64), "{taken:?}");
                assert!(other.iter().eq(taken.iter().copied()), "{taken:?}");
            }
        }
    }

    /// Kubernetes `pkg/registry/core/service/allocator/bitmap_test.go`, `TestAllocateMax_BitmapReserved`.
    #[test]
    fn the_static_band_comes_last() {
        let mut slots = Slots::new(128, 16, 5);
        let dynamic: Vec<u64> = (0..112).filter_map(|_| slots.allocate_next()).collect();
        assert_eq!((dynamic.len(), slots.free()), (112, 16));
        assert!((0..16).all(|slot| !slots.has(slot)));
        assert!(slots.allocate_next().is_some_and(|slot| slot < 16));
        assert_eq!((slots.used(), slots.free()), (113, 15));
    }

    /// Kubernetes `pkg/registry/core/service/allocator/bitmap_test.go`, `TestPreAllocateReservedFull_BitmapReserved`.
    #[test]
    fn the_last_one_is_found() {
        let mut slots = Slots::new(128, 16, 5);
        assert!((16..128).chain(0..15).all(|slot| slots.allocate(slot)));
        assert_eq!(slots.free(), 1);
        assert_eq!((slots.allocate_next(), slots.free()), (Some(15), 0));
        assert_eq!((slots.allocate_next(), slots.used()), (None, 128));
    }
}
