//! Every action at every site: it acts once and harms nothing else, or it is refused. What each action does is tested
//! in `requests`, `replies`, `leases`, `services` and `half_open`.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use imd::Imd;
use imd::lab::{Action, Fault, Site};
use imd::proto::{Code, ReqAccessServer};
use serde_json::{Value, json};

use crate::admin::call;
use crate::servers::{server, user_at};
use crate::support::{Wire, access, gateway, login, p2p, ping, soon, start_manual, sync};
use crate::wait_for_hit;

const SECOND: Duration = Duration::from_secs(1);

/// Returns each action, with its form in JSON.
pub fn actions() -> [(Action, Value); 12] {
    let delay = Action::Delay {
        by: SECOND,
        jitter: Duration::ZERO,
    };
    [
        (delay, json!("1s")),
        (Action::Drop, json!(true)),
        (Action::Duplicate, json!(true)),
        (Action::Reorder, json!(true)),
        (Action::Error(Code::ServerError), json!(90001)),
        (Action::Reset, json!(true)),
        (Action::HalfOpen, json!(true)),
        (Action::Throttle(10), json!(10)),
        (Action::Slice(2), json!(2)),
        (Action::Truncate, json!(true)),
        (Action::Stale, json!(true)),
        (Action::Gap, json!(true)),
    ]
}

/// Returns the column of docs/lab.md that lists the actions at each site.
fn documented() -> BTreeMap<String, String> {
    let doc = include_str!("../../docs/lab.md");
    let table = doc.lines().skip_while(|line| !line.starts_with("| site |"));
    let rows = table.skip(2).take_while(|line| line.starts_with('|'));
    let cells = rows.map(|row| row.split('|').map(str::trim).collect::<Vec<_>>());
    let columns = cells.map(|cells| (cells[1].trim_matches('`').to_owned(), cells[3].to_owned()));
    columns.collect()
}

/// Sends a frame that passes this site. `ann` is logged in on the first access server, `bob` on the second. Returns a
/// further connection, if the frame passed on one.
pub async fn pass(imd: &Imd, at: Site, ann: &mut Wire, bob: &mut Wire) -> Option<Wire> {
    match at {
        Site::GatewayReply => {
            let mut wire = Wire::connect(gateway(imd)).await;
            let ask = ReqAccessServer {
                cmd: 10001,
                ..Default::default()
            };
            wire.send(&ask).await;
            return Some(wire);
        }
        Site::RegistryLease => soon(imd.clock().advance(5 * SECOND)).await,
        Site::AccessAccept => return Some(Wire::connect(access(imd)).await),
        Site::AccessLogin => {
            let mut wire = Wire::connect(access(imd)).await;
            wire.send(&login(imd, 3)).await;
            return Some(wire);
        }
        Site::AccessRequest | Site::AccessReply => ann.send(&ping()).await,
        Site::Notify => bob.send(&p2p(1, "a", "a")).await,
        Site::IdgenNext => ann.send(&p2p(2, "", "a")).await,
        Site::StoreWrite => ann.send(&p2p(2, "a", "a")).await,
        Site::StoreRead => ann.send(&sync(0, 0)).await,
    }
    None
}

/// Creates what this action needs at this site in order to change anything.
async fn provide(imd: &Imd, at: Site, action: Action, ann: &mut Wire) {
    match (at, action) {
        (Site::GatewayReply, Action::Stale) => {
            server(imd, "access-3").stop().await;
            soon(imd.clock().advance(5 * SECOND)).await;
        }
        (Site::IdgenNext, Action::Duplicate) => {
            assert_eq!(ann.p2p(2, "", "the first id").await.err_code, 0);
        }
        (Site::StoreRead, Action::Stale | Action::Gap) => {
            assert_eq!(ann.p2p(1, "a", "to herself").await.err_code, 0);
            ann.notified().await;
        }
        _ => {}
    }
}

/// Checks that the action acts once. Afterwards the clock moves, the stack settles, other users are served, and the
/// shutdown is complete.
async fn check_acts_once(at: Site, action: Action) {
    let imd = start_manual().await;
    let mut ann = user_at(&imd, "access-1", 1).await;
    let mut bob = user_at(&imd, "access-2", 2).await;
    provide(&imd, at, action, &mut ann).await;
    let fault = imd.fault(Fault::at(at).times(1).doing(action));
    let _open = pass(&imd, at, &mut ann, &mut bob).await;
    wait_for_hit(&imd, &fault).await;
    assert_eq!(fault.hits(), 1);
    soon(imd.clock().advance(10 * SECOND)).await;
    soon(imd.settled()).await;
    user_at(&imd, "access-1", 4).await.ping().await;
    assert_eq!(server(&imd, "access-1").state().name(), "running");
    assert_eq!(soon(imd.shutdown()).await.unfinished, 0);
}

/// Checks that the action is refused at this site, in Rust and over HTTP.
async fn check_refused(imd: &Imd, at: Site, action: Action, written: &Value) {
    let can = at.actions().join(", ");
    let why = format!("{} can't be at {at}: {can}", action.name());
    let refused = imd.faults().inject(Fault::at(at).doing(action));
    assert_eq!(refused.unwrap_err().to_string(), why);
    let mut body = json!({ "at": at });
    body[action.name()] = written.clone();
    let (status, answer) = call(imd, "POST", "/v1/faults", body).await;
    assert_eq!((status, &answer["error"]), (400, &json!(why)));
}

#[tokio::test]
async fn every_action_acts_at_its_sites_and_is_refused_at_the_others() {
    let documented = documented();
    assert_eq!(documented.len(), Site::ALL.len());
    let imd = start_manual().await;
    for at in Site::ALL {
        let (can, can_not): (Vec<_>, Vec<_>) =
            (actions().into_iter()).partition(|(action, _)| at.allows(action));
        let names: Vec<_> = can.iter().map(|(action, _)| action.name()).collect();
        assert_eq!(documented[at.name()], names.join(", "));
        // Each action has a stack of its own; they run side by side.
        join_all(can.iter().map(|(action, _)| check_acts_once(at, *action))).await;
        for (action, written) in can_not {
            check_refused(&imd, at, action, &written).await;
        }
    }
    assert!(imd.faults().list().is_empty());
}
