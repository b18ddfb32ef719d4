//! Who writes to whom in a run, and when a message makes room for the next one.
//!
//! `imd bench` and `examples/side_by_side` take the options `--pattern` and `--until` from here, so that their figures are
//! about the same load. Users are numbered from 0. A user makes the same choices in each run: two servers that are compared
//! get the same messages.

use std::sync::Arc;

use clap::ValueEnum;
use rand::distr::Distribution;
use rand::distr::weighted::WeightedIndex;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde::Serialize;

/// The exponent of [`Pattern::Zipf`]: the receiver of rank `k` gets messages in proportion to `k` to the power of minus
/// this.
const ZIPF_EXPONENT: f64 = 1.1;

/// How the receiver of each message is chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Pattern {
    /// Each message goes to a random other user
    #[default]
    Random,
    /// Each user writes to the next one only
    Ring,
    /// Random, with hot receivers: the first user gets the most
    Zipf,
    /// Users write to each other by twos
    Pairs,
}

/// When a message is done, so that its sender may send another one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Until {
    /// Its receiver has it in a page, and its sender has the acknowledgement
    #[default]
    Delivered,
    /// Its sender has the acknowledgement
    Acknowledged,
}

/// Chooses the receivers of the messages of one user.
#[derive(Debug, Clone)]
pub struct ReceiverChooser {
    pattern: Pattern,
    /// The number of the user who sends.
    user: usize,
    users: usize,
    /// The weight of each user as a receiver, in the pattern that has weights.
    weights: Option<Arc<WeightedIndex<f64>>>,
    random: SmallRng,
}

impl ReceiverChooser {
    /// Returns one chooser for each of the users with these numbers, all below `users`. The same user makes the same
    /// choices in each run.
    pub fn of(
        pattern: Pattern,
        users: usize,
        numbers: &[usize],
    ) -> impl Iterator<Item = ReceiverChooser> {
        let weights = match pattern {
            Pattern::Zipf => {
                let ranks = 1..=users;
                let weights = ranks.map(|rank| (rank as f64).powf(-ZIPF_EXPONENT));
                WeightedIndex::new(weights).ok().map(Arc::new)
            }
            Pattern::Random | Pattern::Ring | Pattern::Pairs => None,
        };
        numbers.iter().map(move |user| ReceiverChooser {
            pattern,
            user: *user,
            users,
            weights: weights.clone(),
            random: SmallRng::seed_from_u64(*user as u64),
        })
    }

    /// Returns the number of the user who receives the next message. It is another user than the sender, unless there is
    /// only one.
    pub fn choose(&mut self) -> usize {
        let ReceiverChooser { user, users, .. } = *self;
        let next = (user + 1) % users.max(1);
        match (self.pattern, &self.weights) {
            _ if users < 3 => next,
            (Pattern::Ring, _) => next,
            // The last of an odd number of users has no partner, and writes to the first one.
            (Pattern::Pairs, _) => Some(user ^ 1).filter(|other| *other < users).unwrap_or(0),
            (Pattern::Zipf, Some(weights)) => loop {
                let chosen = weights.sample(&mut self.random);
                if chosen != user {
                    return chosen;
                }
            },
            (Pattern::Random | Pattern::Zipf, _) => {
                let step = self.random.random_range(1..users);
                (user + step) % users
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of `messages` messages of a user go to each user.
    fn counts(pattern: Pattern, users: usize, user: usize, messages: usize) -> Vec<usize> {
        let mut receivers = ReceiverChooser::of(pattern, users, &[user]).next().unwrap();
        let mut counts = vec![0; users];
        for _ in 0..messages {
            counts[receivers.choose()] += 1;
        }
        counts
    }

    #[test]
    fn a_ring_and_pairs_have_one_receiver_for_each_user() {
        assert_eq!(counts(Pattern::Ring, 3, 2, 5), [5, 0, 0]);
        assert_eq!(counts(Pattern::Pairs, 5, 3, 5), [0, 0, 5, 0, 0]);
        assert_eq!(counts(Pattern::Pairs, 5, 4, 5), [5, 0, 0, 0, 0]);
    }

    #[test]
    fn random_receivers_get_about_the_same_and_the_sender_nothing() {
        let counts = counts(Pattern::Random, 11, 4, 10_000);
        assert_eq!(counts[4], 0);
        let others = counts.iter().enumerate().filter(|(user, _)| *user != 4);
        assert!(
            others.clone().all(|(_, count)| (800..1200).contains(count)),
            "{counts:?}"
        );
    }

    #[test]
    fn the_first_users_are_the_hot_ones() {
        let counts = counts(Pattern::Zipf, 100, 50, 10_000);
        assert_eq!(counts[50], 0);
        // The weights of 100 ranks add up to about 4.28, so the first one has 23 % of them.
        assert!((2_000..2_800).contains(&counts[0]), "{counts:?}");
        // The second one has 2 to the power of -1.1 of that, or 47 %.
        assert!((900..1_350).contains(&counts[1]), "{counts:?}");
    }

    #[test]
    fn every_pattern_serves_one_user_and_two() {
        for pattern in Pattern::value_variants() {
            assert_eq!(counts(*pattern, 1, 0, 2), [2]);
            assert_eq!(counts(*pattern, 2, 1, 2), [2, 0]);
        }
    }
}
