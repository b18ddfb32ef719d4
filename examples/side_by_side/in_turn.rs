//! Measures two servers that run at the same time, with all of their clients, in alternating slices of time.
//!
//! Serves [`latency`](crate::latency) and [`idle`](crate::idle), whose figures are small: whatever else the machine does slows
//! both servers alike. While one is measured, nothing is sent to the other.

use crate::Fault;
use crate::load::Sample;
use crate::server::Server;

/// A server with its clients.
pub trait InTurn {
    fn server(&self) -> &Server;

    /// Measures one more slice.
    async fn slice(&mut self) -> Result<(), Fault>;

    /// Checks, after the last slice, what could not be checked before.
    async fn finish(&mut self) -> Result<(), Fault> {
        Ok(())
    }

    /// Returns the figures of all slices.
    fn sample(&self) -> Sample;
}

/// Measures this number of slices of each server.
pub async fn measure<T: InTurn>(mut both: [T; 2], slices: usize) -> Result<[Sample; 2], Fault> {
    for _ in 0..slices {
        for side in &mut both {
            let done = side.slice().await;
            done.map_err(|fault| side.server().at_fault(fault))?;
        }
    }
    for side in &mut both {
        let done = side.finish().await;
        done.map_err(|fault| side.server().at_fault(fault))?;
    }
    Ok(both.each_ref().map(T::sample))
}
