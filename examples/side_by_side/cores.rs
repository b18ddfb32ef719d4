//! A server on two cores, and a load that is not the limit: two halves of the users, each with a thread and a core.
//!
//! Serves the rows `cores` on machines with four cores. Both sides of the row have this load. On smaller machines the rows
//! compare the server's processor time for each message, and have the load of all other rows.

use std::sync::Barrier;
use std::thread;

use imd::load::pin;
use tokio::runtime::Builder;

use crate::load::Sample;
use crate::messages::{Traffic, Users};
use crate::server::Server;
use crate::{Fault, affinity, memory};

/// Measures the deliveries per second of both halves together.
pub fn run(server: &Server, traffic: Traffic, secs: f64) -> Result<Sample, Fault> {
    memory::warm()?;
    let half = traffic.users / 2;
    let halves = [
        (affinity::LOAD, 0, half),
        (affinity::SECOND_LOAD, half, traffic.users - half),
    ];
    let both_are_ready = Barrier::new(halves.len());
    thread::scope(|scope| {
        let begin = |(cores, first, users)| {
            let traffic = Traffic {
                first,
                users,
                ..traffic
            };
            let both_are_ready = &both_are_ready;
            scope.spawn(move || {
                pin(cores);
                let runtime = Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(async {
                    let users = Users::connect(server.setup.kind, &server.access, traffic).await;
                    // The other half waits for this one, even if it can't begin.
                    both_are_ready.wait();
                    users?.rate_now(server, secs).await
                })
            })
        };
        let [first, second] = halves.map(begin).map(|half| match half.join() {
            Ok(sample) => sample,
            Err(_) => Err("half of the load has panicked".into()),
        });
        Ok(first?.and(&second?))
    })
}
