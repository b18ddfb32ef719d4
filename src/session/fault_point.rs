//! Joins the sessions of one listener to the lab, which injects faults into them and records their frames.
//!
//! Serves the connections and the request batches. While no rule is in force and nothing is recorded, each check costs one
//! relaxed load.

use std::fmt;
use std::sync::Arc;

use prost::Message;

use super::Session;
use crate::command::Listener;
use crate::id::Uid;
use crate::lab::{Action, Direction, EventKind, FrameContext, GATEWAY, Hit, Lab, Record, Site};
use crate::proto::{Cmd, ReqLogin};

/// Injects faults into the sessions of one listener, and records their frames.
#[derive(Clone)]
pub struct FaultPoint {
    lab: Arc<Lab>,
    /// The name of the access server, or `gateway`.
    server: Arc<str>,
    listener: Listener,
}

/// A frame to which a rule may apply.
#[derive(Debug, Clone, Copy, Default)]
struct FrameRef<'a> {
    /// The command; none for an unknown one.
    cmd: Option<Cmd>,
    /// The message, without its length prefix.
    message: &'a [u8],
}

impl<'a> FrameRef<'a> {
    fn of(message: &'a [u8]) -> Self {
        FrameRef {
            cmd: Cmd::of(message),
            message,
        }
    }
}

impl fmt::Debug for FaultPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FaultPoint").field(&self.server).finish()
    }
}

impl FaultPoint {
    /// Creates the fault point of the gateway.
    pub fn gateway(lab: Arc<Lab>) -> FaultPoint {
        FaultPoint {
            lab,
            server: GATEWAY.into(),
            listener: Listener::Gateway,
        }
    }

    /// Creates the fault point of the access server with this name.
    pub fn access(lab: Arc<Lab>, name: &str) -> FaultPoint {
        FaultPoint {
            lab,
            server: name.into(),
            listener: Listener::Access,
        }
    }

    /// Returns the address that left the gateway's list last, if one ever did.
    pub(super) fn gone_address(&self) -> Option<String> {
        self.lab.gone_address()
    }

    /// Returns the kind of listener that the sessions came to.
    pub(super) fn listener(&self) -> Listener {
        self.listener
    }

    /// Returns whether no rule is in force and nothing is recorded.
    #[inline]
    pub(super) fn is_quiet(&self) -> bool {
        self.lab.is_quiet()
    }

    /// Returns whether a rule may hit an accepted connection.
    pub(super) fn has_accept_rule(&self) -> bool {
        self.listener == Listener::Access && self.lab.has_rule_at([Site::AccessAccept])
    }

    /// Returns whether a rule may hit what is written.
    #[inline]
    pub(super) fn has_reply_rule(&self) -> bool {
        self.lab.has_rule_at([self.reply_site(), Site::Notify])
    }

    /// Returns the site that replies pass. Notifies and pushed messages pass [`Site::Notify`].
    #[inline]
    pub(super) fn reply_site(&self) -> Site {
        match self.listener {
            Listener::Gateway => Site::GatewayReply,
            Listener::Access => Site::AccessReply,
        }
    }

    /// Finds the rule that hits an accepted connection, and records the hit.
    pub(super) fn find_accept_hit(&self, session: &Session) -> Option<Hit> {
        self.find_site_hit(Site::AccessAccept, session, FrameRef::default(), |_| true)
    }

    /// Finds the rule that hits a request, and records the hit. A rule whose action does not apply to the request, as the
    /// caller says with `applies`, does not hit it.
    pub(super) fn find_request_hit(
        &self,
        session: &Session,
        message: &[u8],
        applies: impl Fn(&Action) -> bool,
    ) -> Option<Hit> {
        if self.listener == Listener::Gateway {
            return None;
        }
        let frame = FrameRef::of(message);
        let login = (frame.cmd == Some(Cmd::Login))
            .then(|| self.find_site_hit(Site::AccessLogin, session, frame, &applies))
            .flatten();
        // A login counts at the site of requests too, also if a rule has hit it already.
        let is_free = login.is_none();
        let request = self.find_site_hit(Site::AccessRequest, session, frame, |action| {
            is_free && applies(action)
        });
        login.or(request)
    }

    /// Finds the rule at `site` that hits a frame which is about to be written, and records the hit. A rule whose action does
    /// not apply to the frame, as the caller says with `applies`, does not hit it.
    pub(super) fn find_output_hit(
        &self,
        site: Site,
        session: &Session,
        message: &[u8],
        applies: impl Fn(&Action) -> bool,
    ) -> Option<Hit> {
        self.find_site_hit(site, session, FrameRef::of(message), applies)
    }

    /// Finds the rule that hits a frame at a site, and records the hit in the journal. For a connection, `frame` is empty.
    fn find_site_hit(
        &self,
        site: Site,
        session: &Session,
        frame: FrameRef<'_>,
        applies: impl Fn(&Action) -> bool,
    ) -> Option<Hit> {
        let FrameRef { cmd, message } = frame;
        // A login claims its user in the frame, since the session has none yet.
        let claimed = || match (cmd, site.direction()) {
            (Some(Cmd::Login), Some(Direction::In)) => {
                Some(Uid(ReqLogin::decode(message).ok()?.uid))
            }
            _ => None,
        };
        let context = FrameContext {
            uid: session.uid().or_else(claimed),
            access: (self.listener == Listener::Access).then_some(&*self.server),
            session: Some(session.id().0),
            cmd,
        };
        self.lab
            .find_and_record_hit(site, &context, applies, |what| {
                self.to_record(session, what, message)
            })
    }

    /// Records an event, or counts it as unrecorded if nothing is recorded.
    pub(super) fn record(&self, session: &Session, what: EventKind, message: &[u8]) {
        self.lab
            .record(what, |what| self.to_record(session, what, message));
    }

    /// Creates the record of an event of a session.
    fn to_record<'a>(
        &'a self,
        session: &Session,
        what: EventKind,
        message: &'a [u8],
    ) -> Record<'a> {
        Record {
            what,
            server: &self.server,
            session: Some(session.id().0),
            uid: session.uid(),
            cmd: Cmd::of(message),
            frame: message,
        }
    }

    /// Records frames that are about to be written.
    pub(super) fn record_sent<'a>(
        &self,
        session: &Session,
        frames: impl Iterator<Item = (&'a [u8], usize)>,
    ) {
        if self.lab.is_recording() {
            for (message, _) in frames {
                self.record(session, EventKind::Frame(Direction::Out), message);
            }
        }
    }
}
