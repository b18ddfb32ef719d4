//! How long a user who sends little waits for answers beside one who sends as much as the server takes.

use std::time::{Duration, Instant};

use bytes::BytesMut;
use imd::load::{FieldTable, Latency};
use imd::proto::Cmd;

use crate::Fault;
use crate::load::{Crowd, Sample, Stopwatch, log_in};
use crate::messages::{Pace, Run, User, group_template, p2p_template};
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
pub async fn run(
    server: &Server,
    members: i64,
    outstanding: usize,
    secs: f64,
) -> Result<Sample, Fault> {
    let run = Run::new(members as u16);
    let sends = (group_template(1), Pace::Outstanding(outstanding));
    let mut crowd = Crowd::default();
    let connection = log_in(&server.access, 1).await?;
    crowd.add(connection, User::new(1, &run, Some(sends)));
    let mut connection = log_in(&server.access, SMALL).await?;
    let template = p2p_template(SMALL, RECEIVER);
    let time = Duration::from_secs_f64(secs * LONGER);
    let watch = Stopwatch::start(server);
    let (mut waits, mut sent, mut out) = (Latency::default(), 0_u32, BytesMut::new());
    let begun = Instant::now();
    let asking = async {
        while begun.elapsed() < time {
            tokio::time::sleep(PAUSE).await;
            out.clear();
            template.put(&wire::id(sent as usize), &mut out);
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
    crowd.until(asking).await??;
    let spent = watch.stop(server, f64::from(sent));
    let waits = waits.percentiles().ok_or("nothing was sent")?;
    Ok(spent.sample(vec![waits.p99 / 1e3]))
}
