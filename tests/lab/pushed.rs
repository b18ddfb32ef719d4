//! Pushed messages (`[delivery] push`) and the lab: they pass the site `notify` as frames of command 20003, and the journal,
//! the metrics and the report know them.

use imd::Imd;
use imd::lab::{Direction, Fault, Site, describe};
use imd::proto::{Cmd, Code, ResSendP2pMsg};
use serde_json::json;

use crate::admin::call;
use crate::support::{Wire, ephemeral, soon, start, user};

async fn start_pushing() -> Imd {
    let mut config = ephemeral();
    config.delivery.push = true;
    start(config).await
}

fn at_push() -> Fault {
    Fault::at(Site::Notify).cmd(Cmd::SendP2PMsg)
}

/// Returns the commands of the frames that a client still gets, up to the reply to a ping.
async fn frames(imd: &Imd, wire: &mut Wire) -> Vec<Cmd> {
    soon(imd.settled()).await;
    wire.send(&crate::support::ping()).await;
    let mut cmds = Vec::new();
    loop {
        let cmd = Cmd::of(&wire.frame().await).unwrap();
        if cmd == Cmd::Ping {
            return cmds;
        }
        cmds.push(cmd);
    }
}

#[tokio::test]
async fn a_rule_for_pushed_messages_hits_neither_notifies_nor_replies() {
    const PUSH: Cmd = Cmd::SendP2PMsg;
    let cases = [
        (at_push().drop_it(), vec![Cmd::Notify]),
        (at_push().duplicate(), vec![PUSH, PUSH, Cmd::Notify]),
        (at_push().reorder(), vec![Cmd::Notify, PUSH]),
        (at_push().slice(7), vec![PUSH, Cmd::Notify]),
        // Rules for the other frames.
        (
            Fault::at(Site::Notify).cmd(Cmd::Notify).drop_it(),
            vec![PUSH],
        ),
        (
            Fault::at(Site::Notify).duplicate(),
            vec![PUSH, PUSH, Cmd::Notify, Cmd::Notify],
        ),
    ];
    for (fault, expected) in cases {
        let imd = start_pushing().await;
        let (mut ann, mut bob) = (user(&imd, 1).await, user(&imd, 2).await);
        let what = fault.clone();
        let _fault = imd.fault(fault);
        let reply = ann.p2p(2, "a", "hello").await;
        assert_eq!(reply.msg_id, "a");
        assert_eq!(frames(&imd, &mut bob).await, expected, "{what:?}");
    }
}

#[tokio::test]
async fn a_rule_for_replies_does_not_hit_pushed_messages() {
    let imd = start_pushing().await;
    let (mut ann, mut bob) = (user(&imd, 1).await, user(&imd, 2).await);
    let fault = Fault::at(Site::AccessReply).cmd(Cmd::SendP2PMsg);
    let fault = imd.fault(fault.error(Code::ServerError));
    assert_eq!(ann.p2p(2, "a", "hello").await.err_code, 90001);
    let message: ResSendP2pMsg = bob.recv(Cmd::SendP2PMsg).await;
    assert_eq!((message.err_code, &*message.msg), (0, "hello"));
    assert_eq!(fault.hits(), 1);
}

/// A pushed message has no total that could be too high.
#[tokio::test]
async fn a_gap_hits_the_notify_behind_the_pushed_message() {
    let imd = start_pushing().await;
    let (mut ann, mut bob) = (user(&imd, 1).await, user(&imd, 2).await);
    let _fault = imd.fault(Fault::at(Site::Notify).gap().times(1));
    ann.p2p(2, "a", "hello").await;
    let _: ResSendP2pMsg = bob.recv(Cmd::SendP2PMsg).await;
    assert_eq!(bob.notified().await, (0, 2));
    let never = at_push().gap().check().unwrap_err().to_string();
    assert_eq!(never, "cmd: SendP2PMsg never passes notify: Notify does");
}

#[tokio::test]
async fn a_pushed_message_can_be_cut_into_larger_pieces_than_a_notify() {
    assert!(Fault::at(Site::Notify).slice(30).check().is_err());
    assert!(at_push().slice(30).check().is_ok());
}

#[tokio::test]
async fn the_journal_the_metrics_and_the_report_know_pushed_messages() {
    let imd = start_pushing().await;
    let (mut ann, mut bob) = (user(&imd, 1).await, user(&imd, 2).await);
    ann.p2p(2, "a", "hello").await;
    assert_eq!(frames(&imd, &mut bob).await, [Cmd::SendP2PMsg, Cmd::Notify]);
    let pushed = imd.journal().frames().uid(2).cmd(Cmd::SendP2PMsg);
    let pushed = pushed.direction(Direction::Out).collect();
    assert_eq!(pushed.len(), 1);
    assert_eq!(
        describe(&pushed[0])["frame"],
        json!({ "errCode": 0, "errStr": "ok", "sourceUID": 1, "targetUID": 2, "msgID": "a", "msg": "hello" })
    );
    let reply = imd.journal().frames().uid(1).cmd(Cmd::SendP2PMsg);
    let reply = reply.direction(Direction::Out).collect();
    assert!(describe(&reply[0])["frame"].get("msg").is_none());

    let (_, report) = call(&imd, "GET", "/v1/report", json!(null)).await;
    assert_eq!(
        (&report["pushed"], &report["delivered"]),
        (&json!(1), &json!(0))
    );
    let (_, state) = call(&imd, "GET", "/v1/state", json!(null)).await;
    assert_eq!(state["ledger"]["pushed"], 1);
    imd.reset().await.unwrap();
    assert_eq!(imd.report().pushed, 0);
}

/// A pushed message is no reply, so it has no part in the times of requests.
#[tokio::test]
async fn a_pushed_message_is_not_timed() {
    let imd = start_pushing().await;
    let mut ann = user(&imd, 1).await;
    ann.p2p(1, "a", "a note").await;
    assert_eq!(frames(&imd, &mut ann).await, [Cmd::SendP2PMsg, Cmd::Notify]);
    let counted = imd.metrics().read();
    let (_, counted) = counted
        .iter()
        .find(|(cmd, _)| *cmd == Some(Cmd::SendP2PMsg))
        .unwrap();
    assert_eq!(counted.frames_out, 2);
    assert_eq!(counted.answered.iter().sum::<u64>(), 1);
}
