//! Two servers that are up at the same time, with all of their clients, and are measured in turn, a slice of the time each:
//! what else the machine is at meets both alike.

use crate::Fault;
use crate::load::Sample;
use crate::server::Server;

/// A server with its clients.
pub trait InTurn {
    fn server(&self) -> &Server;

    /// Measures one more slice.
    async fn slice(&mut self) -> Result<(), Fault>;

    /// What all slices have shown.
    fn sample(&self) -> Sample;
}

/// Measures so many slices of each.
pub async fn measure<T: InTurn>(mut both: [T; 2], slices: usize) -> Result<[Sample; 2], Fault> {
    for _ in 0..slices {
        for side in &mut both {
            let done = side.slice().await;
            done.map_err(|fault| side.server().at_fault(fault))?;
        }
    }
    Ok(both.each_ref().map(T::sample))
}
