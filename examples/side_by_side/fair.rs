//! How long one who sends little waits beside one who sends as much as there is room for.

use std::time::{Duration, Instant};

use bytes::BytesMut;
use imd::proto::Cmd;

use crate::Fault;
use crate::load::{Crowd, Sample, Stopwatch, ask, log_in};
use crate::messages::{Pace, Run, User, group_template, p2p_template};
use crate::server::Server;
use crate::table::at_share;
use crate::wire::Flat;

/// Who sends little; neither is in the group.
const SMALL: i64 = 100_001;
const RECEIVER: i64 = 100_002;

/// How long it waits between an answer and its next message.
const PAUSE: Duration = Duration::from_millis(5);

/// The slowest percent takes more messages than another figure: so much longer it is measured.
const LONGER: f64 = 4.0;

/// The first of a group writes to all, with so many messages outstanding, while another writes to one user, one message at
/// a time. Tells below what 99 percent of the answers to the latter stay, in milliseconds.
pub async fn run(
    server: &Server,
    members: i64,
    outstanding: usize,
    secs: f64,
) -> Result<Sample, Fault> {
    let run = Run::new(members as u16);
    let sends = (group_template(1), Pace::Outstanding(outstanding));
    let mut crowd = Crowd::default();
    let stream = log_in(&server.access, 1).await?;
    crowd.add(stream, User::new(1, &run, Some(sends)));
    let mut stream = log_in(&server.access, SMALL).await?;
    let template = p2p_template(SMALL, RECEIVER);
    let time = Duration::from_secs_f64(secs * LONGER);
    let watch = Stopwatch::start(server);
    let (mut waits, mut out) = (Vec::new(), BytesMut::new());
    let begun = Instant::now();
    let asking = async {
        while begun.elapsed() < time {
            tokio::time::sleep(PAUSE).await;
            out.clear();
            template.put(waits.len(), &mut out);
            let asked = Instant::now();
            let answer = ask(&mut stream, &out).await?;
            waits.push(asked.elapsed().as_secs_f64() * 1e3);
            let answer = Flat::read(&answer);
            if !answer.is(Cmd::SendP2PMsg) || answer.number(3) != 0 {
                return Err("a message was refused".into());
            }
        }
        Ok::<_, Fault>(())
    };
    crowd.until(asking).await??;
    let spent = watch.stop(server, waits.len() as f64);
    Ok(spent.sample(vec![at_share(waits, 0.99)]))
}
