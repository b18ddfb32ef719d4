//! Users of `imd`, or of its mock.
//!
//! Serves [`messages`](crate::messages). A user reads the inbox whenever a notify announces more than was read, one page at a
//! time, and checks that no version is missing.

use std::net::SocketAddr;

use bytes::{BufMut, BytesMut};
use imd::codec;
use imd::load::{FieldTable, LengthPrefixed, request};
use imd::proto::Cmd;
use imd::proto::fields::{Fields, number_len};

use crate::Fault;
use crate::load::log_in;
use crate::messages::{Peer, Seen, Users};
use crate::serve::GROUP;
use crate::wire::{self, TEXT, digits};

/// How many digits an id has that the sender gives: as many as the clients of the stack send.
const ID: usize = 32;

/// One user. UIDs begin with 1, and users with 0.
pub struct ImdPeer {
    uid: i64,
    /// The UID of the first user of the run.
    first_uid: i64,
    writes_to_group: bool,
    gives_ids: bool,
    /// The version up to which the user has read.
    current: i64,
    /// The newest version that the server has named.
    total: i64,
    /// Whether a page was requested and has not arrived.
    is_syncing: bool,
}

/// Logs a user in, and adds the user to the others.
pub async fn join(users: &mut Users, user: usize, addr: SocketAddr) -> Result<(), Fault> {
    let traffic = users.traffic();
    let first_uid = traffic.first as i64 + 1;
    let uid = first_uid + user as i64;
    let peer = ImdPeer {
        uid,
        first_uid,
        writes_to_group: traffic.pattern.is_none(),
        gives_ids: traffic.gives_ids,
        current: 0,
        total: 0,
        is_syncing: false,
    };
    users.add(user, log_in(&[addr], uid).await?, peer);
    Ok(())
}

/// Appends a message as a frame: to the user `target`, or to the group if there is none. Nothing is allocated, since the load
/// must not be the limit.
pub fn put_message(
    source: i64,
    target: Option<i64>,
    id: Option<[u8; ID]>,
    text: [u8; TEXT],
    out: &mut BytesMut,
) {
    let cmd = match target {
        Some(_) => Cmd::SendP2PMsg,
        None => Cmd::SendGroupMsg,
    };
    let cmd = i64::from(cmd.number());
    let target = target.unwrap_or(GROUP);
    let len = [(1, cmd), (3, source), (4, target)].map(|(tag, value)| number_len(tag, value));
    let id_len = id.map_or(0, |_| 2 + ID);
    out.put_u16((len.iter().sum::<usize>() + id_len + 2 + TEXT) as u16);
    let mut fields = Fields::to(out);
    fields.number(1, cmd);
    fields.number(3, source);
    fields.number(4, target);
    if let Some(id) = &id {
        fields.text(5, str::from_utf8(id).unwrap_or_default());
    }
    fields.text(6, str::from_utf8(&text).unwrap_or_default());
}

impl ImdPeer {
    fn page(&mut self, page: &FieldTable<'_>, seen: &mut Seen<'_>) -> Result<(), Fault> {
        for entry in page.entries().map(FieldTable::read) {
            self.current += 1;
            if entry.number(7) != self.current {
                return Err("a version is missing".into());
            }
            seen.delivered(entry.text(6))?;
        }
        if self.current != page.number(5) {
            return Err("a page is not as long as it says".into());
        }
        self.total = self.total.max(page.number(7));
        self.is_syncing = false;
        Ok(())
    }
}

impl Peer for ImdPeer {
    type Scanner = LengthPrefixed;

    fn send(&mut self, to: usize, number: usize, out: &mut BytesMut) {
        let target = (!self.writes_to_group).then_some(self.first_uid + to as i64);
        let id = self.gives_ids.then(|| digits(number));
        put_message(self.uid, target, id, wire::text(number), out);
    }

    fn take(
        &mut self,
        frames: &[u8],
        seen: &mut Seen<'_>,
        out: &mut BytesMut,
    ) -> Result<(), Fault> {
        for (message, _) in codec::frames(frames) {
            let message = FieldTable::read(message);
            if message.number(3) != 0 {
                return Err(String::from_utf8_lossy(message.text(4)).into());
            }
            match message.cmd() {
                Some(Cmd::SyncMsg) => self.page(&message, seen)?,
                Some(Cmd::Notify) => self.total = self.total.max(message.number(6)),
                Some(Cmd::SendP2PMsg | Cmd::SendGroupMsg) => seen.acknowledged()?,
                _ => return Err("an unexpected frame".into()),
            }
        }
        if !self.is_syncing && self.total > self.current {
            self.is_syncing = true;
            wire::put(&request::sync(self.uid, self.current), out);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_encoded_as_requests_are() {
        let mut out = BytesMut::new();
        put_message(300, Some(2), None, wire::text(7), &mut out);
        let text = String::from_utf8(wire::text(7).to_vec()).unwrap();
        assert_eq!(out, wire::frame(&request::p2p(300, 2, "", &text)));
        out.clear();
        put_message(1, None, Some(digits(9)), wire::text(9), &mut out);
        let (id, text) = (format!("{:032}", 9), text.replace('7', "9"));
        assert_eq!(out, wire::frame(&request::group(1, GROUP, &id, &text)));
    }
}
