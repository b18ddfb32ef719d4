//! The rules in force: injecting, listing and removing them, and the search for the rule that hits a frame or call.
//!
//! Serves [`Lab`](super::Lab), which is asked at every site, and tests, the admin API and the resets, which change the rules.
//! Invariants: the names of the rules differ, every rule was checked, and the switches of exactly those sites are set that
//! have a rule.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::rule::Rule;
use super::{Action, Fault, FaultError, FrameContext, Hold, Site, Switches};
use crate::clock::Clock;
use crate::proto::Cmd;

/// The rules that are in force.
#[derive(Debug)]
pub struct Faults {
    rules: Mutex<Vec<Arc<Rule>>>,
    switches: Arc<Switches>,
    clock: Arc<dyn Clock>,
    seed: u64,
    /// Number of rules that were ever injected without a name, from which the next default name is made.
    unnamed: AtomicU64,
    /// Names of all access servers. A rule for any other name could never fire, and is refused.
    servers: RwLock<Vec<String>>,
}

/// A rule that fires for a frame or a call.
pub struct Hit {
    /// Name of the rule, unique among the rules in force.
    pub name: String,
    /// The action to apply. The jitter of a delay has been drawn already and is part of `by`.
    pub action: Action,
    /// A delay waits for it once, a throttled frame before each piece, and a reordered frame until its release.
    pub hold: Hold,
}

/// A rule in force as `imd fault ls` and the admin API show it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FaultStatus {
    /// The rule, always with a name.
    #[serde(flatten)]
    pub fault: Fault,
    /// How often its action was applied.
    pub hits: u64,
}

impl FaultStatus {
    /// Returns the name of the rule.
    pub fn name(&self) -> &str {
        self.fault.name.as_deref().unwrap_or_default()
    }
}

impl Faults {
    /// Creates an empty set of rules.
    pub(super) fn new(switches: Arc<Switches>, clock: Arc<dyn Clock>, seed: u64) -> Faults {
        Faults {
            rules: Mutex::default(),
            switches,
            clock,
            seed,
            unnamed: AtomicU64::new(0),
            servers: RwLock::default(),
        }
    }

    /// Makes the name of an access server known, so that rules can be limited to it.
    pub(crate) fn add_server(&self, name: &str) {
        self.servers.write().push(name.to_owned());
    }

    /// Puts a rule in force, behind the existing ones. Of several rules that match a frame, the first that fires is applied.
    ///
    /// # Errors
    ///
    /// [`FaultError`] if the rule is invalid, is limited to an unknown access server, or has the name of another rule.
    pub fn inject(self: &Arc<Self>, fault: Fault) -> Result<FaultGuard, FaultError> {
        fault.check()?;
        fault.check_access(&self.servers.read())?;
        let name = fault.name.clone().unwrap_or_else(|| self.next_name());
        let seed = xxh3_64_with_seed(name.as_bytes(), self.seed);
        let rule = Arc::new(Rule::new(name, fault, self.clock.now(), seed));
        let mut rules = self.rules.lock();
        if rules.iter().any(|known| known.name == rule.name) {
            return Err(FaultError::NameTaken(rule.name.clone()));
        }
        rules.push(Arc::clone(&rule));
        self.arm(&rules);
        Ok(FaultGuard {
            faults: Arc::clone(self),
            rule,
            is_kept: false,
        })
    }

    /// Returns the next default name, `fault-1` and so on, that no rule in force has.
    fn next_name(&self) -> String {
        loop {
            let number = self.unnamed.fetch_add(1, Ordering::Relaxed) + 1;
            let name = format!("fault-{number}");
            if self.rules.lock().iter().all(|rule| rule.name != name) {
                return name;
            }
        }
    }

    /// Removes the rule with this name and releases what it holds back. Returns whether there was one.
    pub fn remove(&self, name: &str) -> bool {
        self.remove_matching(|rule| rule.name == name) > 0
    }

    /// Removes all rules and releases what they hold back.
    pub fn clear(&self) {
        self.remove_matching(|_| true);
    }

    /// Removes the rules for which `is_removed` is true, and releases what they hold back. Returns their number.
    fn remove_matching(&self, is_removed: impl Fn(&Arc<Rule>) -> bool) -> usize {
        let mut rules = self.rules.lock();
        let (removed, kept): (Vec<_>, Vec<_>) = rules.drain(..).partition(|rule| is_removed(rule));
        *rules = kept;
        self.arm(&rules);
        drop(rules);
        // Cancelled after the lock is released, since the frames that go on now may be checked against the remaining rules.
        removed.iter().for_each(|rule| rule.ended.cancel());
        removed.len()
    }

    /// Removes all rules, and numbers the default names from 1 again.
    pub fn begin_anew(&self) {
        self.clear();
        self.unnamed.store(0, Ordering::Relaxed);
    }

    /// Returns the rules in force, in the order in which they were injected.
    pub fn list(&self) -> Vec<FaultStatus> {
        let rules = self.rules.lock();
        let listed = rules.iter().map(|rule| FaultStatus {
            fault: rule.fault.clone(),
            hits: rule.hits(),
        });
        listed.collect()
    }

    /// Sets the switches of exactly those sites that have a rule.
    fn arm(&self, rules: &[Arc<Rule>]) {
        let sites = rules.iter().map(|rule| rule.fault.at.bit());
        self.switches.arm(sites.fold(0, |all, site| all | site));
    }

    /// Returns the fault to inject at a site, if any. Every rule that matches counts the match; the first that fires and
    /// whose action `applies` to the frame or call hits it.
    pub(super) fn find_hit(
        &self,
        at: Site,
        context: &FrameContext<'_>,
        applies: &dyn Fn(&Action) -> bool,
    ) -> Option<Hit> {
        let now = self.clock.now();
        let rules = self.rules.lock();
        let mut hit = None;
        for rule in rules.iter().filter(|rule| rule.matches(at, context, now)) {
            let action = rule.fire_if_due();
            if hit.is_none() {
                hit = action.filter(applies).map(|action| (rule, action));
            }
        }
        let (rule, action) = hit?;
        rule.count_hit();
        tracing::info!(
            fault = rule.name,
            %at,
            action = action.name(),
            uid = context.uid.map(i64::from),
            access = context.access,
            cmd = context.cmd.map(Cmd::name),
            "fault"
        );
        let timer = action.timer_period().map(|every| match at {
            // Heartbeats recur for ever. With `ticks`, a manual clock would stop at each delayed one while it is moved
            // far; with `housekeeping_ticks` it leaps over them.
            Site::RegistryLease => self.clock.housekeeping_ticks(every),
            _ => self.clock.ticks(every),
        });
        Some(Hit {
            name: rule.name.clone(),
            action,
            hold: Hold::new(timer, rule.ended.clone()),
        })
    }
}

/// Keeps a rule in force. Dropping it removes the rule and releases the frames that the rule holds back.
#[must_use = "the fault ends when this is dropped"]
pub struct FaultGuard {
    faults: Arc<Faults>,
    rule: Arc<Rule>,
    is_kept: bool,
}

impl FaultGuard {
    /// Returns how often the rule's action was applied.
    pub fn hits(&self) -> u64 {
        self.rule.hits()
    }

    /// Returns the name of the rule.
    pub fn name(&self) -> &str {
        &self.rule.name
    }

    /// Leaves the rule in force until it is removed by its name or with all rules.
    pub fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for FaultGuard {
    fn drop(&mut self) {
        if !self.is_kept {
            // Compared by identity: this rule may have been removed by name, and another one may have the name now.
            (self.faults).remove_matching(|rule| Arc::ptr_eq(rule, &self.rule));
        }
    }
}

impl fmt::Debug for FaultGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultGuard")
            .field("name", &self.rule.name)
            .field("hits", &self.hits())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{ClockControl, ManualClock};
    use crate::id::Uid;
    use crate::lab::Switches;
    use crate::proto::Code;
    use std::time::Duration;

    fn faults(seed: u64) -> (Arc<Faults>, Arc<Switches>, ManualClock) {
        let (switches, clock) = (Arc::new(Switches::default()), ManualClock::default());
        let shared = Arc::new(clock.clone());
        let faults = Faults::new(Arc::clone(&switches), shared, seed);
        faults.add_server("access-1");
        faults.add_server("access-2");
        (Arc::new(faults), switches, clock)
    }

    fn hit(faults: &Faults, at: Site, context: &FrameContext<'_>) -> Option<Hit> {
        faults.find_hit(at, context, &|_| true)
    }

    const REPLY: FrameContext<'static> = FrameContext {
        uid: Some(Uid(7)),
        access: Some("access-1"),
        session: Some(3),
        cmd: Some(Cmd::SendP2PMsg),
    };

    /// Checks ten replies, and returns the numbers of those that were hit, from 1.
    fn fired(faults: &Faults) -> Vec<usize> {
        let fires = |_: &usize| hit(faults, Site::AccessReply, &REPLY).is_some();
        (1..=10).filter(fires).collect()
    }

    #[test]
    fn a_rule_hits_only_what_all_of_its_filters_match() {
        let (faults, ..) = faults(0);
        let fault = Fault::at(Site::AccessReply)
            .cmd(Cmd::SendP2PMsg)
            .uid(7)
            .session(3)
            .access("access-1");
        let guard = faults.inject(fault).unwrap();
        let others = [
            (Site::Notify, REPLY),
            (
                Site::AccessReply,
                FrameContext {
                    uid: Some(Uid(8)),
                    ..REPLY
                },
            ),
            (Site::AccessReply, FrameContext { uid: None, ..REPLY }),
            (
                Site::AccessReply,
                FrameContext {
                    cmd: Some(Cmd::Ping),
                    ..REPLY
                },
            ),
            (
                Site::AccessReply,
                FrameContext {
                    access: Some("access-2"),
                    ..REPLY
                },
            ),
        ];
        for (site, context) in others {
            assert!(hit(&faults, site, &context).is_none());
        }
        assert_eq!(guard.hits(), 0);
        let hit = hit(&faults, Site::AccessReply, &REPLY).unwrap();
        assert_eq!((hit.action, guard.hits()), (Action::Drop, 1));
    }

    #[test]
    fn after_and_times_bound_the_matches_that_fire() {
        let (faults, ..) = faults(0);
        let at = || Fault::at(Site::AccessReply);
        for (fault, expected) in [
            (at(), (1..=10).collect()),
            (at().after(7), vec![8, 9, 10]),
            (at().times(2), vec![1, 2]),
            (at().after(3).times(2), vec![4, 5]),
            (at().nth(6), vec![6]),
        ] {
            let guard = faults.inject(fault).unwrap();
            assert_eq!(fired(&faults), expected);
            assert_eq!(guard.hits(), expected.len() as u64);
        }
    }

    #[test]
    fn random_choices_depend_on_seed_and_name_alone() {
        let by_chance = |seed, name: &str| {
            let (faults, ..) = faults(seed);
            let fault = Fault::at(Site::AccessReply).named(name).probability(0.5);
            let _guard = faults.inject(fault).unwrap();
            (0..6).flat_map(|_| fired(&faults)).collect::<Vec<_>>()
        };
        let one = by_chance(42, "one");
        assert!(!one.is_empty() && one.len() < 60);
        assert_eq!(by_chance(42, "one"), one);
        assert_ne!(by_chance(42, "two"), one);
        assert_ne!(by_chance(43, "one"), one);
    }

    #[test]
    fn jitter_stays_within_its_bounds() {
        let (faults, ..) = faults(1);
        let (by, jitter) = (Duration::from_secs(1), Duration::from_secs(2));
        let _guard = faults
            .inject(Fault::at(Site::AccessReply).jitter(by, jitter))
            .unwrap();
        let delays: Vec<Duration> = (0..50)
            .filter_map(|_| match hit(&faults, Site::AccessReply, &REPLY)?.action {
                Action::Delay { by, .. } => Some(by),
                _ => None,
            })
            .collect();
        assert_eq!(delays.len(), 50);
        assert!(
            delays
                .iter()
                .all(|&delay| delay >= by && delay <= by + jitter)
        );
        assert!(delays.iter().any(|&delay| delay != delays[0]));
    }

    #[tokio::test]
    async fn a_rule_matches_nothing_after_its_duration() {
        let (faults, _, clock) = faults(0);
        let fault = Fault::at(Site::AccessReply).lasting(Duration::from_secs(5));
        let _guard = faults.inject(fault).unwrap();
        clock.advance(Duration::from_millis(4_999)).await;
        assert!(hit(&faults, Site::AccessReply, &REPLY).is_some());
        clock.advance(Duration::from_millis(1)).await;
        assert!(hit(&faults, Site::AccessReply, &REPLY).is_none());
    }

    #[test]
    fn of_several_rules_the_first_that_fires_is_applied() {
        let (faults, ..) = faults(0);
        let first = faults
            .inject(Fault::at(Site::AccessReply).times(1).duplicate())
            .unwrap();
        let second = faults.inject(Fault::at(Site::AccessReply)).unwrap();
        assert_eq!(fired(&faults).len(), 10);
        assert_eq!((first.hits(), second.hits()), (1, 9));
    }

    #[test]
    fn only_the_sites_of_rules_in_force_are_watched() {
        let (faults, switches, _) = faults(0);
        let watched = || Site::ALL.map(|site| switches.has_rule_at([site]));
        assert_eq!(watched(), [false; 10]);
        let guard = faults.inject(Fault::at(Site::Notify).named("n")).unwrap();
        faults
            .inject(Fault::at(Site::StoreWrite).named("s"))
            .unwrap()
            .keep();
        let now = [Site::Notify, Site::StoreWrite];
        assert_eq!(watched(), Site::ALL.map(|site| now.contains(&site)));
        drop(guard);
        assert_eq!(watched(), Site::ALL.map(|site| site == Site::StoreWrite));
        assert!(faults.remove("s") && !faults.remove("s"));
        assert_eq!(watched(), [false; 10]);
    }

    #[test]
    fn the_name_of_a_rule_in_force_is_taken() {
        let (faults, ..) = faults(0);
        let fault = || Fault::at(Site::Notify).named("n");
        let guard = faults.inject(fault()).unwrap();
        let taken = Err(FaultError::NameTaken("n".into()));
        assert_eq!(faults.inject(fault()).map(drop), taken);
        assert_eq!(faults.list().len(), 1);
        drop(guard);
        faults.inject(fault()).unwrap().keep();
    }

    #[test]
    fn a_guard_removes_its_own_rule_and_default_names_avoid_those_in_use() {
        let (faults, ..) = faults(0);
        let fault = || Fault::at(Site::Notify);
        let old = faults.inject(fault().named("n")).unwrap();
        faults.clear();
        let _new = faults.inject(fault().named("n")).unwrap();
        drop(old);
        assert_eq!(faults.list().len(), 1);
        let _second = faults.inject(fault().named("fault-1")).unwrap();
        let unnamed = faults.inject(fault()).unwrap();
        assert_eq!(unnamed.name(), "fault-2");
    }

    #[test]
    fn a_rule_that_could_never_fire_is_refused() {
        let (faults, ..) = faults(0);
        let refused = |fault: Fault| faults.inject(fault).map(drop).unwrap_err().to_string();
        let there = refused(Fault::at(Site::IdgenNext));
        assert_eq!(there, "drop can't be at idgen.next: duplicate, stale");
        for (fault, why) in [
            (
                Fault::at(Site::Notify).probability(1.5),
                "probability: 1.5 must be more than 0 and at most 1",
            ),
            (
                Fault::at(Site::Notify).times(0),
                "times: 0 must be a whole number from 1 to 9007199254740991",
            ),
            (
                Fault::at(Site::Notify).slice(0),
                "slice: 0 must be a whole number from 1 to 29",
            ),
            (
                Fault::at(Site::StoreWrite).cmd(Cmd::Ping),
                "cmd means nothing with store.write: only uid narrows it down there",
            ),
            (
                Fault::at(Site::AccessAccept).uid(1),
                "uid means nothing with access.accept: only access narrows it down there",
            ),
            (
                Fault::at(Site::StoreRead)
                    .access("a")
                    .error(Code::ServerError),
                "access means nothing with store.read: only uid narrows it down there",
            ),
        ] {
            assert_eq!(refused(fault), why);
        }
        assert!(faults.list().is_empty());
    }
}
