//! What people have said that stands until they take it back, over every restart: whom no automatic act may touch
//! (a veto), and who is out of service for good.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::alerting::SILENT;
use super::commands::unwritten;
use super::core::Core;
use super::presence::ABSENT;
use crate::fleet::{HostId, Partition, PartitionId, PredictionState, ServingState, Timestamp, Workload};
use crate::plan::Vetoes;
use crate::protocol::{Actor, MigrationView, Mode, Refusal, Severity};
use crate::state::{Op, Store, StoreError, Txn};

/// What was said of a subject.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// Nothing moves it or moves work onto it.
    Veto,
    /// Out of service for good: it is not watched, and nothing is moved there.
    Decommissioned,
    /// Automatic mode was left; the subject is [`ENGINE`].
    Advise,
}

/// The subject of what is said of the engine itself.
const ENGINE: &str = "engine";

impl Kind {
    const ALL: [Kind; 3] = [Kind::Veto, Kind::Decommissioned, Kind::Advise];

    fn prefix(self) -> &'static str {
        match self {
            Kind::Veto => "/orders/veto/",
            Kind::Decommissioned => "/orders/decommissioned/",
            Kind::Advise => "/orders/advise/",
        }
    }
}

/// Who said it, when and why.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Order {
    /// Who.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// Until when; `None` = until it is taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Why; empty where nothing was said.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
}

/// All that stands, by kind and subject (the name of a workload, application, partition or host).
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Orders {
    stand: BTreeMap<(Kind, String), Order>,
}

impl Orders {
    /// Reads what stands.
    ///
    /// # Errors
    /// As every call of the store; what cannot be read is named by its key.
    pub async fn load(store: &dyn Store) -> Result<Self, StoreError> {
        let mut stand = BTreeMap::new();
        for kind in Kind::ALL {
            for entry in store.list(kind.prefix()).await? {
                let subject = entry.key[kind.prefix().len()..].to_string();
                let order = serde_json::from_slice(&entry.value).map_err(|e| StoreError::Corrupt {
                    place: store.place(),
                    key: entry.key.clone(),
                    detail: e.to_string(),
                })?;
                stand.insert((kind, subject), order);
            }
        }
        Ok(Self { stand })
    }

    /// Keeps what was said; it stands once it is durable.
    ///
    /// # Errors
    /// As every call of the store; nothing changed then.
    pub async fn put(
        &mut self,
        store: &dyn Store,
        kind: Kind,
        subject: &str,
        order: Order,
    ) -> Result<(), StoreError> {
        let value = serde_json::to_vec(&order).expect("plain data serialises");
        let op = Op::Put(format!("{}{subject}", kind.prefix()), value);
        store.txn(Txn { compares: Vec::new(), ops: vec![op] }).await?;
        self.stand.insert((kind, subject.to_string()), order);
        Ok(())
    }

    /// Takes it back; `false` where nothing of that kind stands.
    ///
    /// # Errors
    /// As every call of the store; it stands on then.
    pub async fn take_back(
        &mut self,
        store: &dyn Store,
        kind: Kind,
        subject: &str,
    ) -> Result<bool, StoreError> {
        let at = (kind, subject.to_string());
        if !self.stand.contains_key(&at) {
            return Ok(false);
        }
        let op = Op::Delete(format!("{}{subject}", kind.prefix()));
        store.txn(Txn { compares: Vec::new(), ops: vec![op] }).await?;
        self.stand.remove(&at);
        Ok(true)
    }

    /// What stands of that kind, by subject; of vetoes also those whose time is over.
    pub fn all(&self, kind: Kind) -> impl Iterator<Item = (&str, &Order)> {
        self.stand.iter().filter(move |((k, _), _)| *k == kind).map(|((_, s), order)| (s.as_str(), order))
    }

    /// Names that nothing may touch now, with who forbade it.
    pub fn vetoes(&self, now: Timestamp) -> Vetoes {
        let stands = |order: &Order| order.until.is_none_or(|until| until > now);
        let standing = self.all(Kind::Veto).filter(|(_, order)| stands(order));
        Vetoes(standing.map(|(subject, order)| (subject.to_string(), order.by.clone())).collect())
    }
}

impl Core {
    /// Forbids to touch a partition, host, workload or application.
    ///
    /// # Errors
    /// Where there is nothing of that name, or the store does not answer.
    pub(super) async fn veto(
        &mut self,
        actor: &Actor,
        subject: String,
        until: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<String, Refusal> {
        let topology = self.topology();
        let is_place =
            topology.partitions.iter().any(|p| p.id.as_str() == subject || p.host.as_str() == subject);
        let named = |w: &Workload| w.id.as_str() == subject || w.application.as_str() == subject;
        if !is_place && !topology.workloads.iter().any(named) {
            let what = format!("partition, host, workload or application {subject}");
            return Err(Refusal::NotFound { what });
        }
        let order = Order { by: actor.name.clone(), at: now, until, why: String::new() };
        let store = self.store.clone();
        self.orders.put(&*store, Kind::Veto, &subject, order).await.map_err(unwritten)?;
        self.told_to_runner(now);
        Ok(format!("no automatic act on {subject} until it is released"))
    }

    /// Lets a subject be touched again.
    ///
    /// # Errors
    /// Where there is no veto on it, or the store does not answer.
    pub(super) async fn release_veto(&mut self, subject: String, now: Timestamp) -> Result<String, Refusal> {
        let store = self.store.clone();
        match self.orders.take_back(&*store, Kind::Veto, &subject).await.map_err(unwritten)? {
            true => {
                self.told_to_runner(now);
                Ok(format!("the veto on {subject} is released"))
            }
            false => Err(Refusal::NotFound { what: format!("veto on {subject}") }),
        }
    }

    /// Takes a host or partition that holds no work out of service for good.
    ///
    /// # Errors
    /// Where there is none of that name, work is on it or moves from or to it, or the store does not answer.
    pub(super) async fn decommission(
        &mut self,
        actor: &Actor,
        subject: String,
        why: String,
        now: Timestamp,
    ) -> Result<String, Refusal> {
        let places = self.places_of(&subject);
        if places.is_empty() {
            return Err(Refusal::NotFound { what: format!("host or partition {subject}") });
        }
        let held: Vec<&str> = self.held_on(&places).collect();
        if let Some(first) = held.first() {
            let more = if held.len() > 1 { format!(" and {} more", held.len() - 1) } else { String::new() };
            let reason = format!("{subject} holds {first}{more}: evacuate it first");
            return Err(Refusal::NotNow { reason });
        }
        let here = |m: &&MigrationView| places.contains(&m.source) || places.contains(&m.destination);
        if let Some(m) = self.migrations.iter().filter(|m| m.ended.is_none()).find(here) {
            let reason = format!(
                "{} moves {} from {} to {}: wait for its end",
                m.id, m.workload, m.source, m.destination
            );
            return Err(Refusal::NotNow { reason });
        }
        let order = Order { by: actor.name.clone(), at: now, until: None, why };
        let store = self.store.clone();
        self.orders.put(&*store, Kind::Decommissioned, &subject, order).await.map_err(unwritten)?;
        self.obey();
        let host = places.iter().map(PartitionId::host).map(|host| host.to_string());
        for name in places.iter().map(ToString::to_string).chain(host) {
            for topic in ["predictive_failure", "suspect", "unknown", "heartbeat", ABSENT] {
                self.alerts.clear(now, &name, topic);
            }
        }
        for place in &places {
            self.event(place, now, format!("decommissioned by {}", actor.name));
        }
        Ok(format!(
            "{subject} is out of service for good: nothing is moved there, and its silence is no alert"
        ))
    }

    /// Takes a host or partition into service again.
    ///
    /// # Errors
    /// Where it is not out of service, or the store does not answer.
    pub(super) async fn recommission(&mut self, subject: String, now: Timestamp) -> Result<String, Refusal> {
        let store = self.store.clone();
        if !self.orders.take_back(&*store, Kind::Decommissioned, &subject).await.map_err(unwritten)? {
            return Err(Refusal::NotFound { what: format!("decommissioned host or partition {subject}") });
        }
        self.obey();
        let standings = self.brain.standings();
        let known = |p: &PartitionId| {
            standings.get(p).is_some_and(|standing| standing.prediction != PredictionState::Unknown)
        };
        for place in self.places_of(&subject) {
            if !known(&place) && !self.is_retired(&place) {
                self.alerts.raise(now, Severity::Warning, place.as_str(), "unknown", SILENT.into());
            }
            self.event(&place, now, "in service again".into());
        }
        Ok(format!("{subject} is in service again"))
    }

    /// Changes the mode. That somebody left automatic mode stands over a restart, whatever the engine is started
    /// with, until somebody goes back to it.
    ///
    /// # Errors
    /// Where the store does not answer; automatic mode is left all the same.
    pub(super) async fn set_mode(
        &mut self,
        actor: &Actor,
        mode: Mode,
        now: Timestamp,
    ) -> Result<String, Refusal> {
        let store = self.store.clone();
        if mode == Mode::Auto {
            self.orders.take_back(&*store, Kind::Advise, ENGINE).await.map_err(unwritten)?;
            self.mode = mode;
        } else {
            self.mode = mode;
            let order = Order { by: actor.name.clone(), at: now, until: None, why: String::new() };
            self.orders.put(&*store, Kind::Advise, ENGINE, order).await.map_err(unwritten)?;
        }
        self.alerts.clear(now, ENGINE, "mode");
        Ok(format!("mode is {} now", mode.word()))
    }

    /// An engine that is started in automatic mode does not begin with it where a person has left it.
    pub(super) fn keep_mode(&mut self, now: Timestamp) {
        let left = self.orders.all(Kind::Advise).next().filter(|_| self.mode == Mode::Auto);
        if let Some((_, order)) = left {
            let ago = order.at.age(now);
            let text = format!(
                "{} left automatic mode {ago} ago, so it is not automatic: change the mode to go on",
                order.by
            );
            self.mode = Mode::Advise;
            self.alerts.raise(now, Severity::Warning, ENGINE, "mode", text);
        }
    }

    /// Puts what people have said of hosts and partitions into the picture of the fleet.
    pub(super) fn obey(&mut self) {
        self.inventory.retired = self.orders.all(Kind::Decommissioned).map(|(s, _)| s.to_string()).collect();
        self.rebuild_inventory();
    }

    /// What stands is among the open alerts, so that nobody wonders why nothing moves; what is decommissioned and
    /// holds work all the same is a warning.
    pub(super) fn keep_orders_told(&mut self, now: Timestamp) {
        let standing = self.orders.vetoes(now).0;
        for (subject, by) in &standing {
            let text =
                format!("{by} has forbidden to touch it: nothing is moved from or to it until the veto ends");
            self.alerts.raise(now, Severity::Info, subject, "veto", text);
        }
        for subject in self.alerts.subjects("veto").iter().filter(|s| !standing.contains_key(*s)) {
            self.alerts.clear(now, subject, "veto");
        }
        let retired: Vec<String> =
            self.orders.all(Kind::Decommissioned).map(|(s, _)| s.to_string()).collect();
        for subject in retired {
            let places = self.places_of(&subject);
            let held = self.held_on(&places).next().map(str::to_string);
            match held {
                Some(held) => {
                    let text = format!(
                        "is out of service for good, but {held} is on it, so it is watched as any other: evacuate \
                         it, or take it into service again"
                    );
                    self.alerts.raise(now, Severity::Warning, &subject, "decommissioned", text);
                }
                None => self.alerts.clear(now, &subject, "decommissioned"),
            }
        }
    }

    /// Whether a partition is out of service for good.
    pub(super) fn is_retired(&self, partition: &PartitionId) -> bool {
        let partition = self.topology().partition(partition);
        partition.is_some_and(|p| p.serving == ServingState::Decommissioned)
    }

    /// Whether all that runs on a host is out of service for good.
    pub(super) fn is_host_retired(&self, host: &HostId) -> bool {
        let mut places = self.topology().partitions.iter().filter(|p| &p.host == host).peekable();
        places.peek().is_some() && places.all(|p| p.serving == ServingState::Decommissioned)
    }

    fn places_of(&self, subject: &str) -> Vec<PartitionId> {
        let named = |p: &&Partition| p.id.as_str() == subject || p.host.as_str() == subject;
        self.topology().partitions.iter().filter(named).map(|p| p.id.clone()).collect()
    }

    fn held_on<'a>(&'a self, places: &'a [PartitionId]) -> impl Iterator<Item = &'a str> {
        let on = self.topology().workloads.iter().filter(|w| places.contains(&w.partition));
        on.map(|w| w.id.as_str())
    }

    fn told_to_runner(&mut self, now: Timestamp) {
        let topology = self.topology().clone();
        self.show_world(&topology, now);
        self.keep_orders_told(now);
    }
}
