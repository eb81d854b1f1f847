//! Which of a number of equally probable slots leads to which backend.

use alloc::vec::Vec;

use crate::backend::Backend;

/// As many slots as backends if their weights are equal, so that each gets exactly its part; otherwise as many as the
/// weights add up to (without a common divisor), as long as these are not more than [`MOST`] for each backend. Beyond that, about
/// `MOST` for each: then each backend has at least one slot, and at most one connection of `MOST` goes elsewhere than the weights
/// say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slots {
    /// How many slots each backend has, one after the other; `None` is one each.
    counts: Option<Vec<u32>>,
    total: u32,
}

/// One connection of so many is misplaced at most: two in a hundred.
const MOST: u64 = 50;

impl Slots {
    /// Backends of weight 0 get none. More than `u32::MAX` / [`MOST`] backends do not fit a plan.
    pub(crate) fn new(backends: &[Backend]) -> Self {
        if let [first, others @ ..] = backends {
            if first.weight > 0 && others.iter().all(|other| other.weight == first.weight) {
                let total = u32::try_from(backends.len()).unwrap_or(u32::MAX);
                return Self { counts: None, total };
            }
        }
        let weights = || backends.iter().map(|backend| u64::from(backend.weight));
        let used = weights().filter(|&weight| weight > 0);
        let divisor = used.clone().fold(0, gcd).max(1);
        let total: u64 = used.clone().sum::<u64>() / divisor;
        let room = used.count() as u64 * MOST;
        let parts: Vec<u64> = if total <= room {
            weights().map(|weight| weight / divisor).collect()
        } else {
            share(&weights().collect::<Vec<_>>(), room)
        };
        let counts: Vec<u32> =
            parts.into_iter().map(|part| u32::try_from(part).unwrap_or(u32::MAX)).collect();
        let total = counts.iter().fold(0_u32, |sum, &count| sum.saturating_add(count));
        Self { counts: Some(counts), total }
    }

    /// How many slots there are: 0 if no backend has a weight.
    pub(crate) const fn total(&self) -> u32 {
        self.total
    }

    /// Each slot with its backend's place, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, usize)> {
        let (counts, equal) = match &self.counts {
            Some(counts) => (&**counts, 0),
            None => (&[][..], self.total as usize),
        };
        let places = counts.iter().enumerate();
        let weighted = places.flat_map(|(place, &count)| (0..count).map(move |_| place));
        (0..).zip((0..equal).chain(weighted))
    }
}

/// Shares slots out by weight: to each its whole part, at least one; what is left goes to the greatest remainders, the first of
/// equals.
fn share(weights: &[u64], room: u64) -> Vec<u64> {
    let total: u64 = weights.iter().sum();
    let mut parts = Vec::with_capacity(weights.len());
    let mut remainders = Vec::with_capacity(weights.len());
    for (place, &weight) in weights.iter().enumerate() {
        // At most 2³¹ × 50 × the backends of one port: it fits.
        let (part, rest) = (weight * room / total, weight * room % total);
        parts.push(part.max(u64::from(weight > 0)));
        if part > 0 {
            remainders.push((core::cmp::Reverse(rest), place));
        }
    }
    remainders.sort_unstable();
    let given: u64 = parts.iter().sum();
    let left = room.saturating_sub(given);
    for (_, place) in remainders.into_iter().take(usize::try_from(left).unwrap_or(usize::MAX)) {
        parts[place] += 1;
    }
    parts
}

const fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use super::Slots;
    use crate::backend::Backend;

    fn counts(weights: &[u32]) -> Vec<u32> {
        let backend = |&weight: &u32| {
            Backend::new(core::net::SocketAddr::from(([10, 0, 0, 1], 80))).with_weight(weight)
        };
        let slots = Slots::new(&weights.iter().map(backend).collect::<Vec<_>>());
        assert_eq!(slots.iter().count(), slots.total() as usize);
        (0..weights.len())
            .map(|place| {
                let of_place = slots.iter().filter(|&(_, at)| at == place);
                u32::try_from(of_place.count()).expect("few")
            })
            .collect()
    }

    #[test]
    fn parts_are_exact_or_nearly_so() {
        assert_eq!(counts(&[]), []);
        assert_eq!(counts(&[0, 0]), [0, 0]);
        assert_eq!(counts(&[7]), [1]);
        assert_eq!(counts(&[1; 5]), [1; 5]);
        assert_eq!(counts(&[6; 70]), [1; 70]);
        assert_eq!(counts(&[3, 0, 1]), [3, 0, 1]);
        assert_eq!(counts(&[10, 20, 30]), [1, 2, 3]);
        for weights in
            [vec![1, 65_535], vec![999, 1000, 1001, 7], vec![u32::MAX; 2], vec![1, u32::MAX, 3]]
        {
            let found = counts(&weights);
            let slots: u32 = found.iter().sum();
            let weight: f64 = weights.iter().copied().map(f64::from).sum();
            let misplaced: f64 = weights
                .iter()
                .zip(&found)
                .map(|(&w, &found)| {
                    assert!(found > 0, "{weights:?}");
                    (f64::from(found) / f64::from(slots) - f64::from(w) / weight).abs() / 2.0
                })
                .sum();
            assert!(misplaced <= 0.02, "{weights:?}: {misplaced}");
        }
    }
}
