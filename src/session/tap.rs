use std::fmt;
use std::sync::Arc;

use prost::Message;

use super::Session;
use crate::command::Place;
use crate::id::Uid;
use crate::lab::{Action, Direction, GATEWAY, Hit, Lab, Passing, Record, Site, What};
use crate::proto::{Cmd, ReqLogin};

/// Where the lab touches the sessions of one listener.
#[derive(Clone)]
pub struct Tap {
    lab: Arc<Lab>,
    /// The access server, or `gateway`.
    server: Arc<str>,
    place: Place,
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tap").field(&self.server).finish()
    }
}

impl Tap {
    /// At the gateway.
    pub fn gateway(lab: Arc<Lab>) -> Tap {
        Tap {
            lab,
            server: GATEWAY.into(),
            place: Place::Gateway,
        }
    }

    /// At the access server of that name.
    pub fn access(lab: Arc<Lab>, name: &str) -> Tap {
        Tap {
            lab,
            server: name.into(),
            place: Place::Access,
        }
    }

    /// The address that went off the gateway's list last, if one ever did.
    pub(super) fn gone_address(&self) -> Option<String> {
        self.lab.gone_address()
    }

    pub(super) fn place(&self) -> Place {
        self.place
    }

    /// Whether nothing is recorded and nothing can fail.
    #[inline]
    pub(super) fn is_quiet(&self) -> bool {
        self.lab.is_quiet()
    }

    /// Whether what is accepted may fail.
    pub(super) fn accepting_may_fail(&self) -> bool {
        self.place == Place::Access && self.lab.watches([Site::AccessAccept])
    }

    /// Whether what is written may fail.
    #[inline]
    pub(super) fn writing_may_fail(&self) -> bool {
        self.lab.watches([self.reply_site(), Site::Notify])
    }

    #[inline]
    fn reply_site(&self) -> Site {
        match self.place {
            Place::Gateway => Site::GatewayReply,
            Place::Access => Site::AccessReply,
        }
    }

    /// What happens to a connection that was accepted.
    pub(super) fn meet_accept(&self, session: &Session) -> Option<Hit> {
        self.meet(Site::AccessAccept, session, (None, &[]), |_| true)
    }

    /// What happens to a request, of what `can` happen to it; its site is a login's too.
    pub(super) fn meet_request(
        &self,
        session: &Session,
        message: &[u8],
        can: impl Fn(&Action) -> bool,
    ) -> Option<Hit> {
        if self.place == Place::Gateway {
            return None;
        }
        let cmd = Cmd::of(message);
        let login = (cmd == Some(Cmd::Login))
            .then(|| self.meet(Site::AccessLogin, session, (cmd, message), &can))
            .flatten();
        // A login passes here too, and is counted, also where it has met a rule already.
        let is_free = login.is_none();
        let request = self.meet(Site::AccessRequest, session, (cmd, message), |action| {
            is_free && can(action)
        });
        login.or(request)
    }

    /// What happens to a frame that is about to be written, of what `can` happen to it.
    pub(super) fn meet_reply(
        &self,
        session: &Session,
        message: &[u8],
        can: impl Fn(&Action) -> bool,
    ) -> Option<Hit> {
        let cmd = Cmd::of(message);
        let site = match cmd {
            Some(Cmd::Notify) => Site::Notify,
            _ => self.reply_site(),
        };
        self.meet(site, session, (cmd, message), can)
    }

    fn meet(
        &self,
        site: Site,
        session: &Session,
        (cmd, message): (Option<Cmd>, &[u8]),
        can: impl Fn(&Action) -> bool,
    ) -> Option<Hit> {
        if !self.lab.watches([site]) {
            return None;
        }
        // Whose login it is stands in the frame.
        let named = || match (cmd, site.direction()) {
            (Some(Cmd::Login), Some(Direction::In)) => {
                Some(Uid(ReqLogin::decode(message).ok()?.uid))
            }
            _ => None,
        };
        let passing = Passing {
            uid: session.uid().or_else(named),
            access: (self.place == Place::Access).then_some(&*self.server),
            session: Some(session.id().0),
            cmd,
        };
        let hit = self.lab.hit(site, &passing, can)?;
        let what = What::Fault(hit.name.clone(), hit.action.name());
        self.record(session, what, message);
        Some(hit)
    }

    /// Records something, if something is recorded.
    pub(super) fn record(&self, session: &Session, what: What, message: &[u8]) {
        if !self.lab.records() {
            // Frames are counted as traffic.
            if !matches!(what, What::Frame(_)) {
                self.lab.journal().count_unrecorded();
            }
            return;
        }
        self.lab.journal().push(Record {
            what,
            server: &self.server,
            session: Some(session.id().0),
            uid: session.uid(),
            cmd: Cmd::of(message),
            frame: message,
        });
    }

    /// Records that these frames were written.
    pub(super) fn went<'a>(
        &self,
        session: &Session,
        frames: impl Iterator<Item = (&'a [u8], usize)>,
    ) {
        if self.lab.records() {
            for (message, _) in frames {
                self.record(session, What::Frame(Direction::Out), message);
            }
        }
    }
}
