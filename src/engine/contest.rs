//! Champion and challenger: a version of the models that runs in shadow beside the one that speaks, until
//! the truth of both is known; who is better then speaks. What the registry's folder says is followed
//! without a restart, so a training that has ended and `foreshift models` reach an engine that runs.
//!
//! It comes last in a cycle and reads: no decision of the cycle can depend on it. Every change of places is
//! in the audit log and told, with the figures.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::core::Core;
use crate::fleet::{PartitionId, Span, Timestamp, Topology};
use crate::predict::failure::truth::partitions_of;
use crate::predict::failure::{FailureModel, Incident, Truth};
use crate::predict::models::ModelError;
use crate::predict::models::runtime::Runtime;
use crate::predict::shadow::{Decision, Ledger, Look, ShadowOptions};
use crate::predict::train::standing::{Contender, SHIPPED, Seat, name};
use crate::predict::train::{Card, Registry};
use crate::predict::{Evacuation, Outcome};
use crate::protocol::{Refusal, Reply, Severity};
use crate::state::{Op, StoreError, Txn};

/// Where the account stands in the store; looks stand behind it, one a key.
const LEDGER: &str = "/shadow/ledger";
const LOOKS: &str = "/shadow/looks/";
/// The account is written so often; looks since then are judged anew after a restart.
const KEEP_EVERY: Span = Span::hours(1);
/// Who signs in the audit log.
const ACTOR: &str = "champion and challenger";
/// Records are read from so long before the oldest row on: a failure's recovery reaches into it.
const BEFORE: Span = Span::hours(1);

/// What a contest needs.
pub struct Contest {
    registry: Registry,
    runtime: Arc<dyn Runtime>,
    options: ShadowOptions,
    champion: u32,
    beside: Option<Beside>,
    /// Who should speak and run in shadow, as it was last followed; whether that could be done or not.
    followed: Option<(u32, Option<Contender>)>,
    kept: Timestamp,
    /// Looks that are judged and still in the store.
    gone: Vec<Timestamp>,
    /// Why the registry cannot be followed, as it was told last.
    trouble: Option<String>,
}

/// The version in shadow and the account of both.
struct Beside {
    contender: Contender,
    model: Box<FailureModel>,
    ledger: Ledger,
    state: String,
}

/// The account as it is stored: of whom, and what.
#[derive(Serialize, Deserialize)]
struct Kept {
    champion: u32,
    contender: Contender,
    ledger: Ledger,
}

impl Contest {
    /// Of the versions in that folder.
    pub fn new(registry: Registry, runtime: Arc<dyn Runtime>, options: ShadowOptions) -> Self {
        Self {
            registry,
            runtime,
            options,
            champion: SHIPPED,
            beside: None,
            followed: None,
            kept: Timestamp(0),
            gone: Vec::new(),
            trouble: None,
        }
    }
}

impl Core {
    /// From now on the registry says which models speak and which run in shadow. Goes on with the account
    /// that the store holds, where it is of the same two.
    ///
    /// # Errors
    /// As every call of the store.
    pub async fn compete(&mut self, mut contest: Contest, now: Timestamp) -> Result<(), StoreError> {
        contest.champion = contest.registry.current().unwrap_or(SHIPPED);
        contest.kept = now;
        if let Err(error) = self.speak(&contest, contest.champion) {
            self.alerts.raise(now, Severity::Warning, "models", "models", error.to_string());
        }
        let mut kept = None;
        if let Some(entry) = self.store.get(LEDGER).await? {
            kept = serde_json::from_slice::<Kept>(&entry.value).ok();
        }
        let standing = contest.registry.standing().ok();
        let contender = standing.and_then(|s| s.shadow);
        let same = |k: &Kept| k.champion == contest.champion && Some(k.contender) == contender;
        if let Some(mut kept) = kept.filter(same)
            && kept.ledger.windows() == self.brain.assessor().options().windows
            && let Ok(opened) = contest.registry.open(kept.contender.version)
        {
            let mut looks = Vec::new();
            for entry in self.store.list(LOOKS).await? {
                looks.extend(serde_json::from_slice::<Look>(&entry.value).ok());
            }
            kept.ledger.restore(looks);
            let model = Box::new(opened.model);
            contest.beside =
                Some(Beside { contender: kept.contender, model, ledger: kept.ledger, state: String::new() });
        }
        self.contest = Some(contest);
        self.show_contest();
        Ok(())
    }

    /// Lets a version speak.
    fn speak(&mut self, contest: &Contest, version: u32) -> Result<(), ModelError> {
        let opened = contest.registry.open(version)?;
        let cards = opened.cards.iter().chain(opened.autoencoder.iter().map(|(_, card)| card));
        let lines = cards.map(Card::line).collect();
        self.brain.set_models(&*contest.runtime, opened)?;
        self.snapshot.models.models = lines;
        Ok(())
    }

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
        let result = self.step_of(&mut contest, topology, evacuations, now).await;
        self.contest = Some(contest);
        self.show_contest();
        result
    }

    async fn step_of(
        &mut self,
        contest: &mut Contest,
        topology: &Topology,
        evacuations: &HashMap<PartitionId, Evacuation>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.follow(contest, now).await?;
        let options = contest.options;
        let Some(beside) = contest.beside.as_mut().filter(|b| b.ledger.is_due(&options, now)) else {
            return Ok(());
        };
        let mut ops = Vec::new();
        let windows = self.brain.windows();
        let names = windows.partitions();
        let mut which = beside.ledger.turn(&options, names, now);
        // What is being emptied, or is empty, can no longer say what would have been.
        let moved = |p: &u32| evacuations.get(&names[*p as usize]).copied().unwrap_or_default();
        which.retain(|p| matches!(moved(p), Evacuation::None | Evacuation::Abandoned));
        if let Some(said) = self.brain.assessor().beside(&beside.model, windows, &which) {
            let look = Look::new(now, &said, names);
            let value = serde_json::to_vec(&look).expect("plain data serialises");
            ops.push(Op::Put(look_key(now), value));
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
            ops.extend(contest.gone.drain(..).map(|at| Op::Delete(look_key(at))));
            ops.push(Op::Put(LEDGER.into(), kept(contest.champion, beside)));
        }
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
        let Some(beside) = contest.beside.as_mut() else { return Ok(()) };
        let (shadow, champion) = (beside.contender.version, contest.champion);
        let (done, act, why) = match decision {
            Decision::Wait(state) => {
                beside.state = state;
                self.alerts.clear(now, "models", "calibration");
                return Ok(());
            }
            Decision::Drifted(why) => {
                beside.state = format!("what is said no longer comes true: {why}");
                let text = format!("{}; the model before does no better: train anew", beside.state);
                self.alerts.raise(now, Severity::Warning, "models", "calibration", text);
                return Ok(());
            }
            Decision::Promote(why) => {
                let act = format!("put {} into use instead of {}", name(shadow), name(champion));
                (contest.registry.take_over(shadow, now, &why), act, why)
            }
            Decision::Retire(why) => {
                (contest.registry.dismiss(now, &why), format!("retire {} from shadow", name(shadow)), why)
            }
            Decision::Revert(why) => {
                let act = format!("go back from {} to {}", name(champion), name(shadow));
                (contest.registry.go_back(now, &why).map(|_| ()), act, why)
            }
        };
        if let Err(error) = done {
            self.alerts.raise(now, Severity::Warning, "models", "registry", format!("{act}: {error}"));
            return Ok(());
        }
        self.alerts.clear(now, "models", "registry");
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
                    self.alerts.raise(now, Severity::Warning, "models", "registry", text.clone());
                    contest.trouble = Some(text);
                }
                return Ok(());
            }
        };
        if contest.trouble.take().is_some() {
            self.alerts.clear(now, "models", "registry");
        }
        let spoke = contest.champion;
        let same =
            standing.current == spoke && standing.shadow == contest.beside.as_ref().map(|b| b.contender);
        // What could not be followed was told once.
        if same || contest.followed == Some((standing.current, standing.shadow)) {
            return Ok(());
        }
        if standing.current != spoke {
            let act = format!("speak as {} instead of {}", name(standing.current), name(spoke));
            let why = standing.past.last().map_or_else(String::new, |c| c.why.clone());
            self.note_models("models folder", act, why, now).await?;
        } else if let Some(new) = standing.shadow.filter(|s| s.seat == Seat::Challenger) {
            let act = format!("let {} run in shadow", name(new.version));
            let why = "newly trained: it speaks once it has proved better".to_string();
            self.note_models("models folder", act, why, now).await?;
        }
        self.take_places(contest, now).await
    }

    /// Loads who speaks and who runs in shadow now, with a new account.
    async fn take_places(&mut self, contest: &mut Contest, now: Timestamp) -> Result<(), StoreError> {
        let Ok(standing) = contest.registry.standing() else { return Ok(()) };
        contest.followed = Some((standing.current, standing.shadow));
        if standing.current != contest.champion {
            match self.speak(contest, standing.current) {
                Ok(()) => contest.champion = standing.current,
                Err(error) => {
                    let text = format!("{} cannot speak: {error}", name(standing.current));
                    self.alerts.raise(now, Severity::Warning, "models", "models", text);
                    return Ok(());
                }
            }
        }
        self.alerts.clear(now, "models", "calibration");
        contest.gone.clear();
        contest.kept = now;
        let mut ops: Vec<Op> =
            self.store.list(LOOKS).await?.into_iter().map(|entry| Op::Delete(entry.key)).collect();
        contest.beside = None;
        match standing.shadow.map(|s| (s, contest.registry.open(s.version))) {
            Some((contender, Ok(opened))) => {
                let ledger = Ledger::new(&self.brain.assessor().options().windows, now);
                let beside = Beside {
                    contender,
                    model: Box::new(opened.model),
                    ledger,
                    state: "has just begun".into(),
                };
                tracing::info!(version = contender.version, seat = contender.seat.word(), "in shadow");
                ops.push(Op::Put(LEDGER.into(), kept(contest.champion, &beside)));
                contest.beside = Some(beside);
            }
            Some((contender, Err(error))) => {
                let text = format!("{} cannot run in shadow: {error}", name(contender.version));
                self.alerts.raise(now, Severity::Warning, "models", "shadow", text);
            }
            None => ops.push(Op::Delete(LEDGER.into())),
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

    fn show_contest(&mut self) {
        let Some(contest) = &self.contest else { return };
        let mut lines = Vec::new();
        if let Some(beside) = &contest.beside {
            let (contender, state) = (&beside.contender, &beside.state);
            lines.push(format!(
                "{} runs beside {} since {} ({}): {state}",
                name(contender.version),
                name(contest.champion),
                crate::predict::train::card::day(contender.since),
                contender.seat.word(),
            ));
            lines.extend(beside.ledger.figures().iter().filter(|f| f.rows > 0).map(|f| f.words()));
        }
        self.snapshot.models.shadow = lines;
        self.snapshot.models.way_back = contest.registry.before().map(name);
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
                outcome: f.as_past(topology).outcome,
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

fn look_key(at: Timestamp) -> String {
    format!("{LOOKS}{:015}", at.0)
}

fn kept(champion: u32, beside: &Beside) -> Vec<u8> {
    let kept = Kept { champion, contender: beside.contender, ledger: beside.ledger.clone() };
    serde_json::to_vec(&kept).expect("plain data serialises")
}
