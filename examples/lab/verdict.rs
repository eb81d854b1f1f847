//! A scheduler in a few words, from its measures.

use svcplane::sched::Algorithm;

use super::measures::Measures;
use super::scenario::Scenario;

/// The best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    All,
    EvenAndGentle,
    Even,
    ClientsStay,
    Heedless,
    Uneven,
    PilesUp,
    UnevenAndClientsMove,
}

/// The busiest backend may have so many times the mean.
const EVEN: f64 = 1.25;
/// An added backend may get so many times its part at first.
const GENTLE: f64 = 3.0;
/// So many clients may move for no need.
const FEW: f64 = 0.05;
/// The slow backend may have so many times its part.
const PILE: f64 = 1.4;

impl Verdict {
    pub(crate) fn new(scenario: &Scenario, measures: &Measures) -> Self {
        let even = measures.imbalance.is_none_or(|imbalance| imbalance <= EVEN);
        let fair = scenario.fair_share_of_added().unwrap_or(1.0);
        let gentle = measures.first[0].is_none_or(|first| first <= GENTLE * fair);
        let few = |moved: f64| moved <= FEW;
        let stay = measures.moved.iter().flatten().copied().all(few)
            && measures.moved.iter().any(Option::is_some);
        let hashes = matches!(
            measures.algorithm,
            Algorithm::SourceHashing | Algorithm::DestinationHashing | Algorithm::MaglevHashing
        );
        let heedless = matches!(
            measures.algorithm,
            Algorithm::RoundRobin | Algorithm::LeastConnection | Algorithm::Random
        );
        match (even, gentle, stay) {
            (true, true, true) => Self::All,
            (true, true, false) => Self::EvenAndGentle,
            (true, false, _) => Self::Even,
            (false, _, true) => Self::ClientsStay,
            (false, ..) if hashes => Self::UnevenAndClientsMove,
            (false, ..) if measures.slow.is_some_and(|slow| slow > PILE) => Self::PilesUp,
            (false, ..) if heedless && scenario.weights_differ() => Self::Heedless,
            (false, ..) => Self::Uneven,
        }
    }

    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::All => "even, gentle, clients stay",
            Self::EvenAndGentle => "even, gentle to a new backend",
            Self::Even => "even, but floods a new backend",
            Self::ClientsStay => "clients stay, uneven as they are",
            Self::Heedless => "heeds no weights",
            Self::Uneven => "uneven",
            Self::PilesUp => "piles up on the slow backend",
            Self::UnevenAndClientsMove => "uneven, and clients move",
        }
    }

    /// Of the words, and behind them.
    pub(crate) const fn colours(self) -> (&'static str, &'static str) {
        match self {
            Self::All | Self::EvenAndGentle => ("#116329", "#c6f0d0"),
            Self::Even => ("#7d4e00", "#fbeab0"),
            Self::ClientsStay => ("#0a3069", "#cfe6ff"),
            Self::Heedless | Self::Uneven | Self::PilesUp | Self::UnevenAndClientsMove => {
                ("#a40e26", "#ffe0dd")
            }
        }
    }
}
