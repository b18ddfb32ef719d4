//! Stores sets of message numbers in little memory.
//!
//! Serves the records of users: numbers arrive almost in order, so only the exceptions are stored one by one.

use std::collections::BTreeSet;

/// A set of numbers from 0 upwards. Numbers that are added in order take no memory of their own.
#[derive(Debug, Default)]
pub struct Seqs {
    /// All numbers below this one are in the set.
    next: u64,
    /// The numbers in the set that are above `next`.
    ahead: BTreeSet<u64>,
}

impl Seqs {
    /// Adds a number. Returns false if it was in the set already.
    pub fn insert(&mut self, number: u64) -> bool {
        if number != self.next {
            return number > self.next && self.ahead.insert(number);
        }
        self.next += 1;
        while !self.ahead.is_empty() && self.ahead.remove(&self.next) {
            self.next += 1;
        }
        true
    }

    /// Returns how many numbers of this set the other set lacks.
    pub fn missing_in(&self, other: &Seqs) -> u64 {
        let lacks = |number: &&u64| **number >= other.next && !other.ahead.contains(number);
        let below = match self.next.checked_sub(other.next) {
            Some(more) => more - other.ahead.range(..self.next).count() as u64,
            None => 0,
        };
        below + self.ahead.iter().filter(lacks).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    proptest! {
        #[test]
        fn it_behaves_like_a_set(
            first in proptest::collection::vec(0_u64..12, 0..20),
            second in proptest::collection::vec(0_u64..12, 0..20),
        ) {
            let fill = |numbers: &[u64]| {
                let (mut seqs, mut set) = (Seqs::default(), HashSet::new());
                for number in numbers {
                    assert_eq!(seqs.insert(*number), set.insert(*number), "{number} of {numbers:?}");
                }
                (seqs, set)
            };
            let ((a, set_a), (b, set_b)) = (fill(&first), fill(&second));
            prop_assert_eq!(a.missing_in(&b), set_a.difference(&set_b).count() as u64);
        }
    }

    #[test]
    fn numbers_in_order_take_no_memory() {
        let mut seqs = Seqs::default();
        assert!(
            [1, 0, 2, 4, 3]
                .into_iter()
                .all(|number| seqs.insert(number))
        );
        assert!((seqs.next, seqs.ahead.len()) == (5, 0) && !seqs.insert(4));
    }
}
