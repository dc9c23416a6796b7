//! A contest in the cycle: both models' words are noted and judged, who is better takes the place, and what
//! the registry's folder says is followed.

use std::collections::{BTreeSet, HashMap};

use super::contest::{Beside, Contest};
use super::core::Core;
use crate::fleet::{PartitionId, Span, Timestamp, Topology};
use crate::predict::failure::truth::partitions_of;
use crate::predict::failure::{Incident, Truth};
use crate::predict::shadow::{Decision, Ledger, Look};
use crate::predict::train::standing::{Seat, name};
use crate::predict::{Evacuation, Outcome};
use crate::protocol::{Refusal, Reply, Severity};
use crate::state::{Op, StoreError, Txn};

/// The account is written so often; looks since then are judged anew after a restart.
const KEEP_EVERY: Span = Span::hours(1);
/// Who signs in the audit log.
const ACTOR: &str = "champion and challenger";
/// Records are read from so long before the oldest row on: a failure's recovery reaches into it.
const BEFORE: Span = Span::hours(1);

impl Core {
    /// The contest's part of a cycle.
    ///
    /// # Errors
    /// As every call of the store.
    pub(super) async fn step_contest(
        &mut self,
        topology: &Topology,
        evacuations: &HashMap<PartitionId, Evacuation>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let Some(mut contest) = self.contest.take() else { return Ok(()) };
        let mut own = std::mem::take(&mut self.own_contests);
        let mut result = self.step_of(&mut contest, topology, evacuations, now).await;
        if result.is_ok() {
            result = self.step_own(&contest, &mut own, (topology, evacuations), now).await;
        }
        (self.contest, self.own_contests) = (Some(contest), own);
        self.show_contest();
        result
    }

    pub(super) async fn step_of(
        &mut self,
        contest: &mut Contest,
        topology: &Topology,
        evacuations: &HashMap<PartitionId, Evacuation>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.follow(contest, now).await?;
        let options = contest.options;
        let Some(mut beside) = contest.beside.take_if(|b| b.ledger.is_due(&options, now)) else {
            return Ok(());
        };
        let mut ops = Vec::new();
        let windows = self.brain.windows();
        let names = windows.partitions();
        let assessor = self.brain.assessor();
        let mut which = match &contest.of {
            None => beside.ledger.turn(&options, names, now),
            Some(of) => {
                let all = assessor.partitions_of(&of.application);
                let own: Vec<PartitionId> = all.iter().map(|p| names[*p as usize].clone()).collect();
                beside.ledger.turn(&options, &own, now).into_iter().map(|at| all[at as usize]).collect()
            }
        };
        // What is being emptied, or is empty, can no longer say what would have been.
        let moved = |p: &u32| evacuations.get(&names[*p as usize]).copied().unwrap_or_default();
        which.retain(|p| matches!(moved(p), Evacuation::None | Evacuation::Abandoned));
        let said = match &contest.of {
            None => assessor.beside(&beside.model, windows, &which),
            Some(of) => assessor.beside_of(&of.application, &beside.model, windows, &which),
        };
        if let Some(said) = said {
            let look = Look::new(now, &said, names);
            let value = serde_json::to_vec(&look).expect("plain data serialises");
            ops.push(Op::Put(contest.look_key(now), value));
            beside.ledger.note(look, &options);
        }
        if let Some(oldest) = beside.ledger.oldest() {
            let truth = self.truth_since(topology, oldest - BEFORE, now);
            let label = |partition: &PartitionId, at: Timestamp, within: Span| {
                let known = truth.label(partition, truth.events(partition), at, within);
                // Who went silent without a word may have failed.
                let seen = windows.partition(partition).and_then(|ix| windows.last_seen(ix));
                let until = at + within - self.options.stale_after;
                known.filter(|failed| *failed || seen.is_some_and(|seen| seen >= until))
            };
            contest.gone.extend(beside.ledger.settle(&label, &options, now));
        }
        let decision = match beside.contender.seat {
            Seat::Challenger => beside.ledger.judge_challenger(&options, now),
            Seat::Former => beside.ledger.judge_former(&options, now),
        };
        if now - contest.kept >= KEEP_EVERY {
            contest.kept = now;
            let gone = std::mem::take(&mut contest.gone);
            ops.extend(gone.into_iter().map(|at| Op::Delete(contest.look_key(at))));
            ops.push(Op::Put(contest.ledger_key(), contest.kept(&beside)));
        }
        contest.beside = Some(beside);
        if !ops.is_empty() {
            self.store.txn(Txn { compares: Vec::new(), ops }).await?;
        }
        self.carry_out(contest, decision, now).await
    }

    async fn carry_out(
        &mut self,
        contest: &mut Contest,
        decision: Decision,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let Some(shadow) = contest.beside.as_ref().map(|b| b.contender.version) else { return Ok(()) };
        let (subject, champion) = (contest.subject(), contest.name(contest.champion));
        let challenger = contest.name(shadow);
        let Some(beside) = contest.beside.as_mut() else { return Ok(()) };
        let (done, act, why) = match decision {
            Decision::Wait(state) => {
                beside.state = state;
                self.alerts.clear(now, &subject, "calibration");
                return Ok(());
            }
            Decision::Drifted(why) => {
                beside.state = format!("what is said no longer comes true: {why}");
                let text = format!("{}; the model before does no better: train anew", beside.state);
                self.alerts.raise(now, Severity::Warning, &subject, "calibration", text);
                return Ok(());
            }
            Decision::Promote(why) => {
                let act = format!("put {challenger} into use instead of {champion}");
                (contest.registry.take_over(shadow, now, &why), act, why)
            }
            Decision::Retire(why) => {
                (contest.registry.dismiss(now, &why), format!("retire {challenger} from shadow"), why)
            }
            Decision::Revert(why) => {
                let act = format!("go back from {champion} to {challenger}");
                (contest.registry.go_back(now, &why).map(|_| ()), act, why)
            }
        };
        if let Err(error) = done {
            self.alerts.raise(now, Severity::Warning, &subject, "registry", format!("{act}: {error}"));
            return Ok(());
        }
        self.alerts.clear(now, &subject, "registry");
        self.note_models(ACTOR, act, why, now).await?;
        self.take_places(contest, now).await
    }

    /// Into the audit log, and told.
    async fn note_models(
        &mut self,
        actor: &str,
        act: String,
        why: String,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        tracing::warn!(actor, %act, %why, "models");
        self.alerts.tell(now, Severity::Warning, "models", "models", format!("{act}: {why}"));
        let store = self.store.clone();
        self.audit.append(&*store, now, actor, act, why).await
    }

    /// Follows what the registry says: somebody may have trained, promoted or taken back meanwhile.
    async fn follow(&mut self, contest: &mut Contest, now: Timestamp) -> Result<(), StoreError> {
        let standing = match contest.registry.standing() {
            Ok(standing) => standing,
            Err(error) => {
                let text = error.to_string();
                if contest.trouble.as_ref() != Some(&text) {
                    self.alerts.raise(now, Severity::Warning, &contest.subject(), "registry", text.clone());
                    contest.trouble = Some(text);
                }
                return Ok(());
            }
        };
        let trouble = contest.registry.trouble();
        if trouble != contest.trouble {
            match &trouble {
                Some(text) => {
                    self.alerts.raise(now, Severity::Warning, &contest.subject(), "registry", text.clone());
                }
                None => self.alerts.clear(now, &contest.subject(), "registry"),
            }
            contest.trouble = trouble;
        }
        let spoke = contest.champion;
        let same =
            standing.current == spoke && standing.shadow == contest.beside.as_ref().map(|b| b.contender);
        // What could not be followed was told once.
        if same || contest.followed == Some((standing.current, standing.shadow)) {
            return Ok(());
        }
        if standing.current != spoke {
            let act =
                format!("speak as {} instead of {}", contest.name(standing.current), contest.name(spoke));
            let why = standing.past.last().map_or_else(String::new, |c| c.why.clone());
            self.note_models("models folder", act, why, now).await?;
        } else if let Some(new) = standing.shadow.filter(|s| s.seat == Seat::Challenger) {
            let act = format!("let {} run in shadow", contest.name(new.version));
            let why = "newly trained: it speaks once it has proved better".to_string();
            self.note_models("models folder", act, why, now).await?;
        }
        self.take_places(contest, now).await
    }

    /// Loads who speaks and who runs in shadow now, with a new account.
    pub(super) async fn take_places(
        &mut self,
        contest: &mut Contest,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let Ok(standing) = contest.registry.standing() else { return Ok(()) };
        contest.followed = Some((standing.current, standing.shadow));
        if standing.current != contest.champion {
            match self.speak(contest, standing.current, now) {
                Ok(()) => {
                    contest.champion = standing.current;
                    self.alerts.clear(now, &contest.subject(), "models");
                }
                Err(error) => {
                    let text = format!("{} cannot speak: {error}", contest.name(standing.current));
                    self.alerts.raise(now, Severity::Warning, &contest.subject(), "models", text);
                    return Ok(());
                }
            }
        }
        self.alerts.clear(now, &contest.subject(), "calibration");
        contest.gone.clear();
        contest.kept = now;
        let mut ops: Vec<Op> =
            self.store.list(&contest.looks()).await?.into_iter().map(|entry| Op::Delete(entry.key)).collect();
        contest.beside = None;
        self.alerts.clear(now, &contest.subject(), "shadow");
        match standing.shadow.map(|s| (s, contest.open(s.version))) {
            Some((contender, Ok(opened))) => {
                let ledger = Ledger::new(&self.brain.assessor().options().windows, now);
                let beside = Beside {
                    contender,
                    model: Box::new(opened.model),
                    ledger,
                    state: "has just begun".into(),
                };
                tracing::info!(version = contender.version, seat = contender.seat.word(), "in shadow");
                ops.push(Op::Put(contest.ledger_key(), contest.kept(&beside)));
                contest.beside = Some(beside);
            }
            Some((contender, Err(error))) => {
                let text = format!("{} cannot run in shadow: {error}", contest.name(contender.version));
                self.alerts.raise(now, Severity::Warning, &contest.subject(), "shadow", text);
            }
            None => ops.push(Op::Delete(contest.ledger_key())),
        }
        self.store.txn(Txn { compares: Vec::new(), ops }).await?;
        Ok(())
    }

    /// A person takes the last change of models back.
    ///
    /// # Errors
    /// There is nothing to go back to, or the folder can't be written.
    pub(super) async fn revert_models(&mut self, who: &str, now: Timestamp) -> Result<Reply, Refusal> {
        let Some(mut contest) = self.contest.take() else {
            let reason =
                "this engine's models are not its own: predict.model_dir names them, or it is a demo".into();
            return Err(Refusal::NotNow { reason });
        };
        let result = match contest.registry.before() {
            None => Err(Refusal::NotNow { reason: "the shipped models speak already".into() }),
            Some(_) => {
                let gone = contest.champion;
                let back = contest.registry.go_back(now, &format!("{who} took it back"));
                match back {
                    Ok(version) => {
                        let taken = self.take_places(&mut contest, now).await;
                        taken.map_err(|e| Refusal::NotNow { reason: e.to_string() }).map(|()| Reply::Done {
                            said: format!("went back from {} to {}", name(gone), name(version)),
                        })
                    }
                    Err(error) => Err(Refusal::NotNow { reason: error.to_string() }),
                }
            }
        };
        self.contest = Some(contest);
        self.show_contest();
        result
    }

    /// What is known to have happened: the records, and that work was moved away.
    fn truth_since(&self, topology: &Topology, since: Timestamp, now: Timestamp) -> Truth {
        let seen: BTreeSet<PartitionId> = self.brain.windows().partitions().iter().cloned().collect();
        let mut incidents: Vec<Incident> = self
            .failures
            .records()
            .iter()
            .filter(|f| f.at >= since)
            .map(|f| Incident {
                place: format!("record {}", f.number),
                subject: f.subject.clone(),
                cause: f.cause.clone(),
                at: f.at,
                outcome: super::failures::as_past(f, topology).outcome,
                partitions: partitions_of(&f.subject, topology, &seen),
            })
            .collect();
        incidents.extend(self.migrations.iter().filter(|m| m.started >= since).map(|m| Incident {
            place: m.id.to_string(),
            subject: m.source.to_string(),
            cause: "work was being moved away".into(),
            at: m.started,
            outcome: Outcome::MitigatedUnknown,
            partitions: vec![m.source.clone()],
        }));
        Truth::new(incidents, now)
    }
}
