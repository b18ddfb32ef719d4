//! Two servers that are up at the same time, with all of their clients, and are measured in turn, a slice of the time each:
//! what else the machine is at meets both alike.

use crate::Fault;
use crate::load::Sample;

/// A server with its clients.
pub trait InTurn {
    /// Measures one more slice.
    async fn slice(&mut self) -> Result<(), Fault>;

    /// What all slices have shown.
    fn sample(&self) -> Sample;
}

/// Measures so many slices of each.
pub async fn measure<T: InTurn>(mut both: [T; 2], slices: usize) -> Result<[Sample; 2], Fault> {
    for _ in 0..slices {
        for side in &mut both {
            side.slice().await?;
        }
    }
    Ok(both.each_ref().map(T::sample))
}
