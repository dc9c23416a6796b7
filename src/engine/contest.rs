//! Champion and challenger: a version of the models that runs in shadow beside the one that speaks, until
//! the truth of both is known; who is better then speaks. What the registry's folder says is followed
//! without a restart, so a training that has ended and `foreshift models` reach an engine that runs.
//!
//! It comes last in a cycle and reads: no decision of the cycle can depend on it. Every change of places is
//! in the audit log and told, with the figures. `contest_cycle` is its part of a cycle, `contest_own` that of
//! applications that have models of their own.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::contest_own::found;
use super::core::Core;
use crate::fleet::{ApplicationId, Timestamp};
use crate::predict::failure::{FailureModel, Opened, open_whole};
use crate::predict::models::ModelError;
use crate::predict::models::runtime::Runtime;
use crate::predict::models::runtime::check::Trial;
use crate::predict::shadow::{Ledger, Look, ShadowOptions};
use crate::predict::train::standing::{Contender, SHIPPED, name};
use crate::predict::train::{Card, Registry};
use crate::protocol::Severity;
use crate::state::StoreError;

/// What alerts of models that are damaged or cannot run are about.
const OWN: &str = "own model";
/// Where accounts stand in the store; looks stand behind it, one a key.
const SHADOW: &str = "/shadow/";

/// What a contest needs.
pub struct Contest {
    pub(super) registry: Registry,
    pub(super) runtime: Arc<dyn Runtime>,
    pub(super) options: ShadowOptions,
    pub(super) champion: u32,
    pub(super) beside: Option<Beside>,
    /// Who should speak and run in shadow, as it was last followed; whether that could be done or not.
    pub(super) followed: Option<(u32, Option<Contender>)>,
    pub(super) kept: Timestamp,
    /// Looks that are judged and still in the store.
    pub(super) gone: Vec<Timestamp>,
    /// Why the registry cannot be followed, as it was told last.
    pub(super) trouble: Option<String>,
    /// What the models that speak say of themselves.
    pub(super) lines: Vec<String>,
    /// The folder in which applications have models of their own; none = nowhere.
    pub(super) models: Option<PathBuf>,
    /// How graphs that are not ours are tried before they run; none = they are not run.
    trial: Option<Trial>,
    /// Of which application it is; none = of the fleet.
    pub(super) of: Option<Of>,
}

/// What a contest of one application knows beside.
pub(super) struct Of {
    pub(super) application: ApplicationId,
    /// The fleet's versions, one of which speaks where the application has no model.
    fleet: Registry,
    /// Which one.
    speaks: u32,
}

/// The version in shadow and the account of both.
pub(super) struct Beside {
    pub(super) contender: Contender,
    pub(super) model: Box<FailureModel>,
    pub(super) ledger: Ledger,
    pub(super) state: String,
}

/// The account as it is stored: of whom, and what.
#[derive(Serialize, Deserialize)]
struct Kept {
    champion: u32,
    /// Which of the fleet's versions stands in for an application's.
    #[serde(default)]
    fleet: Option<u32>,
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
            lines: Vec::new(),
            models: None,
            trial: None,
            of: None,
        }
    }

    /// Applications have models of their own in this folder, each with a contest of its own.
    pub fn with_applications(self, models: PathBuf) -> Self {
        Self { models: Some(models), ..self }
    }

    /// Graphs that are not ours are tried so before they run.
    pub fn with_trial(self, trial: Option<Trial>) -> Self {
        Self { trial, ..self }
    }

    /// Of one application, beside that of the fleet; `None` where applications have none.
    pub(super) fn of_application(&self, application: &ApplicationId) -> Option<Contest> {
        let registry = Registry::of_application(self.models.as_deref()?, application);
        let of = Of { application: application.clone(), fleet: self.registry.clone(), speaks: self.champion };
        let plain = Contest::new(registry, self.runtime.clone(), self.options);
        Some(Contest { of: Some(of), ..plain })
    }

    /// The models of a version. That of an application before its first one is the fleet's.
    pub(super) fn open(&self, version: u32) -> Result<Opened, ModelError> {
        match &self.of {
            Some(of) if version == SHIPPED => of.fleet.open(of.speaks),
            _ => self.registry.open(version),
        }
    }

    /// A version as people read it.
    pub(super) fn name(&self, version: u32) -> String {
        match &self.of {
            Some(of) if version == SHIPPED => format!("the fleet's models for {}", of.application),
            Some(of) => format!("version {version} of {}", of.application),
            None => name(version),
        }
    }

    /// What alerts are about.
    pub(super) fn subject(&self) -> String {
        self.of.as_ref().map_or_else(|| "models".into(), |of| format!("models of {}", of.application))
    }

    fn folder(&self) -> String {
        // A name may hold what would make one application's keys a part of another's.
        let hash = |of: &Of| blake3::hash(of.application.as_str().as_bytes()).to_hex();
        self.of.as_ref().map_or_else(|| SHADOW.into(), |of| format!("{SHADOW}of/{}/", hash(of)))
    }

    pub(super) fn ledger_key(&self) -> String {
        format!("{}ledger", self.folder())
    }

    pub(super) fn looks(&self) -> String {
        format!("{}looks/", self.folder())
    }

    pub(super) fn look_key(&self, at: Timestamp) -> String {
        format!("{}{:015}", self.looks(), at.0)
    }

    pub(super) fn kept(&self, beside: &Beside) -> Vec<u8> {
        let (champion, contender, ledger) = (self.champion, beside.contender, beside.ledger.clone());
        let kept = Kept { champion, fleet: self.fleets(), contender, ledger };
        serde_json::to_vec(&kept).expect("plain data serialises")
    }

    /// Which of the fleet's versions speaks, where this is an application's.
    fn fleets(&self) -> Option<u32> {
        self.of.as_ref().map(|of| of.speaks)
    }

    /// The fleet's version that speaks is another one now; whether that is one of the two here.
    pub(super) fn fleet_speaks(&mut self, version: u32) -> bool {
        let Some(of) = self.of.as_mut().filter(|of| of.speaks != version) else { return false };
        of.speaks = version;
        let beside = self.beside.as_ref().is_some_and(|b| b.contender.version == SHIPPED);
        self.champion == SHIPPED || beside
    }

    /// Who runs in shadow, and the figures of both.
    fn shown(&self) -> Vec<String> {
        let Some(beside) = &self.beside else { return Vec::new() };
        let (contender, state) = (&beside.contender, &beside.state);
        let mut lines = vec![format!(
            "{} runs beside {} since {} ({}): {state}",
            self.name(contender.version),
            self.name(self.champion),
            crate::predict::train::card::day(contender.since),
            contender.seat.word(),
        )];
        lines.extend(beside.ledger.figures().iter().filter(|f| f.rows > 0).map(|f| f.words()));
        lines
    }

    /// The version that speaks.
    pub(super) fn champion(&self) -> u32 {
        self.champion
    }
}

impl Core {
    /// From now on the registry says which models speak and which run in shadow. Goes on with the account
    /// that the store holds, where it is of the same two.
    ///
    /// # Errors
    /// As every call of the store.
    pub async fn compete(&mut self, mut contest: Contest, now: Timestamp) -> Result<(), StoreError> {
        self.begin_contest(&mut contest, now).await?;
        let mut own = found(&contest, &[]);
        for contest in &mut own {
            self.begin_contest(contest, now).await?;
        }
        (self.contest, self.own_contests) = (Some(contest), own);
        self.show_contest();
        Ok(())
    }

    /// Lets who is in use speak, and goes on with the account that the store holds.
    pub(super) async fn begin_contest(
        &mut self,
        contest: &mut Contest,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        contest.champion = contest.registry.current().unwrap_or(SHIPPED);
        contest.kept = now;
        if let Err(error) = self.speak(contest, contest.champion, now) {
            self.alerts.raise(now, Severity::Warning, &contest.subject(), "models", error.to_string());
            if contest.of.is_some() {
                // The fleet's model speaks meanwhile; the folder is looked at again when it changes.
                contest.followed = Some((contest.champion, None));
                contest.champion = SHIPPED;
            }
        }
        let mut kept = None;
        if let Some(entry) = self.store.get(&contest.ledger_key()).await? {
            kept = serde_json::from_slice::<Kept>(&entry.value).ok();
        }
        let standing = contest.registry.standing().ok();
        let contender = standing.and_then(|s| s.shadow);
        let same = |k: &Kept| {
            (k.champion, k.fleet) == (contest.champion, contest.fleets()) && Some(k.contender) == contender
        };
        if let Some(mut kept) = kept.filter(same)
            && kept.ledger.windows() == self.brain.assessor().options().windows
            && let Ok(opened) = contest.open(kept.contender.version)
        {
            let mut looks = Vec::new();
            for entry in self.store.list(&contest.looks()).await? {
                looks.extend(serde_json::from_slice::<Look>(&entry.value).ok());
            }
            kept.ledger.restore(looks);
            let model = Box::new(opened.model);
            contest.beside =
                Some(Beside { contender: kept.contender, model, ledger: kept.ledger, state: String::new() });
        }
        Ok(())
    }

    /// Lets a version speak.
    pub(super) fn speak(
        &mut self,
        contest: &mut Contest,
        version: u32,
        now: Timestamp,
    ) -> Result<(), ModelError> {
        if let Some(of) = &contest.of {
            if version == SHIPPED {
                self.brain.forget_model_of(&of.application);
                contest.lines = Vec::new();
                return Ok(());
            }
            let opened = contest.registry.open(version)?;
            let lines = opened
                .cards
                .iter()
                .map(|card| format!("{}, version {version}: {}", of.application, card.line()))
                .collect();
            self.brain.set_model_of(&of.application, version, &*contest.runtime, opened)?;
            contest.lines = lines;
            return Ok(());
        }
        let place = contest.registry.place(version);
        let mut opened = open_whole((version != SHIPPED).then_some(place.as_path()))?;
        if let Some(trial) = &contest.trial {
            opened = opened.tried(trial);
        }
        self.alerts.clear(now, "models", OWN);
        let cards = opened.cards.iter().chain(opened.autoencoder.iter().map(|(_, card)| card));
        let lines = cards.map(Card::line).collect();
        self.brain.set_models(&*contest.runtime, opened)?;
        contest.lines = lines;
        Ok(())
    }

    /// Tells of models that are damaged or went out of use.
    pub(super) fn tell_of_models(&mut self, now: Timestamp) {
        let troubles = self.brain.take_model_troubles();
        if !troubles.is_empty() {
            self.alerts.raise(now, Severity::Warning, "models", OWN, troubles.join("; "));
        }
    }

    pub(super) fn show_contest(&mut self) {
        let Some(contest) = &self.contest else { return };
        let all = || std::iter::once(contest).chain(&self.own_contests);
        let shadow: Vec<String> = all().flat_map(Contest::shown).collect();
        let way_back = contest.registry.before().map(name);
        if !contest.lines.is_empty() {
            self.snapshot.models.models = all().flat_map(|c| c.lines.iter().cloned()).collect();
        }
        (self.snapshot.models.shadow, self.snapshot.models.way_back) = (shadow, way_back);
    }
}
