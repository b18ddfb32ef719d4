//! How long a user who sends little waits for answers beside one who sends as much as the server takes.
//!
//! Serves the rows `fair` and `fair-durable`. The flood is a closed loop of messages to a large group, each until it is
//! acknowledged, as its deliveries are never over; only the sender of the group is logged in.

use std::time::{Duration, Instant};

use bytes::BytesMut;
use imd::load::{FieldTable, LatencyHistogram, Until};
use imd::proto::Cmd;

use crate::Fault;
use crate::imd_peer::{self, put_message};
use crate::load::{Sample, Stopwatch, log_in};
use crate::messages::{Traffic, Users};
use crate::server::Server;
use crate::wire;

/// The user who sends little, and the user who receives those messages. Neither is in the group.
const SMALL: i64 = 100_001;
const RECEIVER: i64 = 100_002;

/// How long the user who sends little waits between an answer and the next message. A real delay, because the user is
/// to load the server only a little.
const PAUSE: Duration = Duration::from_millis(5);

/// How much longer than other rows this one is measured: the slowest percent takes more messages than other figures.
const LONGER: f64 = 4.0;

/// Lets the first user of a group send to all, with that many messages unanswered, while another sends to one user, one
/// message at a time. The figure is the time below which 99 percent of the answers to the latter stay, in milliseconds.
pub async fn run(server: &Server, outstanding: usize, secs: f64) -> Result<Sample, Fault> {
    let flood = Traffic {
        users: 1,
        first: 0,
        pattern: None,
        until: Until::Acknowledged,
        outstanding,
        gives_ids: false,
        is_slow: false,
    };
    let mut users = Users::new(flood, true);
    imd_peer::join(&mut users, 0, server.access[0]).await?;
    users.begin();
    let mut connection = log_in(&server.access, SMALL).await?;
    let time = Duration::from_secs_f64(secs * LONGER);
    let watch = Stopwatch::start(server);
    let (mut waits, mut sent, mut out) = (LatencyHistogram::default(), 0_u32, BytesMut::new());
    let begun = Instant::now();
    let asking = async {
        while begun.elapsed() < time {
            tokio::time::sleep(PAUSE).await;
            out.clear();
            put_message(
                SMALL,
                Some(RECEIVER),
                None,
                wire::text(sent as usize),
                &mut out,
            );
            sent += 1;
            let asked = Instant::now();
            let answer = connection.ask(&out).await?;
            waits.record_duration(asked.elapsed());
            let answer = FieldTable::read(&answer);
            if answer.cmd() != Some(Cmd::SendP2PMsg) || answer.number(3) != 0 {
                return Err("a message was refused".into());
            }
        }
        Ok::<_, Fault>(())
    };
    users.crowd.until(asking).await??;
    let spent = watch.stop(server, f64::from(sent));
    let percentiles = waits.percentiles().ok_or("nothing was sent")?;
    Ok(Sample {
        latency: waits,
        ..spent.sample(vec![percentiles.p99 / 1e3])
    })
}
