//! Everything that can be checked before the first key goes, and the state of things after the last.

use std::collections::BTreeSet;

use redis::Value;

use super::super::mark::{Marked, Part};
use super::super::prepare::{artifact, mark_name};
use super::super::view::{Health, Info};
use super::super::{RedisMover, done, working};
use super::scene::Scene;
use super::survey::Survey;
use super::{RedisSlotMover, ranges};
use crate::drivers::error::{DriverError, Retry};
use crate::drivers::mover::{Answer, Evidence, Job};
use crate::fleet::Bytes;

impl RedisSlotMover {
    /// Looks whether the slots may go, and marks both nodes: a master that gives its last slot away would
    /// become a replica of whoever takes it, and could not take it back.
    pub(super) async fn prepare(&self, job: &Job) -> Result<Answer, DriverError> {
        let scene = self.inner.scene(job).await?;
        if scene.is_all_with(&scene.destination) {
            return Ok(done("the destination owns the slots already"));
        }
        if scene.has_begun() {
            return Ok(done("the move has begun and goes on"));
        }
        self.may_go(job, &scene).await?;
        let name = mark_name(job);
        let mut artifacts = Vec::new();
        for (node, partition) in [(&scene.source, &job.source), (&scene.destination, &job.destination)] {
            if self.inner.nodes.mark(&node.address, &name, Part::Stays).await? == Marked::NotAllowed {
                return Ok(done("CONFIG is not allowed here: a master without slots may become a replica"));
            }
            artifacts.push(artifact(job, partition));
        }
        let summary =
            format!("replica migration is off on {} and {}", scene.source.address, scene.destination.address);
        Ok(Answer::Done(Evidence { summary, artifacts, ..Evidence::default() }))
    }

    async fn may_go(&self, job: &Job, scene: &Scene) -> Result<(), DriverError> {
        let (source, destination) = (&scene.source, &scene.destination);
        let refuse = |retry, detail: String| {
            let doing = format!("preparing {}", job.workload);
            Err(RedisMover::at_node(destination, retry, &doing, detail))
        };
        if !scene.is_all_with(source) {
            return refuse(
                Retry::Permanent,
                format!(
                    "the slots are with {}, not with {}; the plan is out of date",
                    scene.said(),
                    source.address
                ),
            );
        }
        if !destination.is_master() {
            return refuse(
                Retry::Permanent,
                "it is a replica, which holds no slots of its own; choose a master".into(),
            );
        }
        for node in [source, destination] {
            if !scene.is_up(node) {
                return refuse(Retry::Retryable, format!("{} does not answer", node.address));
            }
        }
        if let Some((slot, who)) = scene.doubter(source) {
            return refuse(
                Retry::Retryable,
                format!(
                    "waiting for {who} to agree who owns slot {slot}; where that lasts, redis-cli --cluster fix"
                ),
            );
        }
        if let Some(open) = scene.foreign() {
            return refuse(
                Retry::Retryable,
                format!(
                    "{} calls slot {} half moved; finish its move first (redis-cli --cluster fix)",
                    open.at, open.slot
                ),
            );
        }
        if let Some(together) = self.together(scene).await?
            && let Some(other) = together.foreign(scene)
        {
            let asked = &together.offer.asked(source, destination).address;
            return refuse(
                Retry::Retryable,
                format!(
                    "{asked} moves some of these slots already, as {}; wait for it or call it off",
                    other.id
                ),
            );
        }
        // Redis 7.0 tells replicas nothing of a slot that has just come: one that is away when its master
        // dies would not know of it.
        if let Some(view) = scene.census.newest() {
            let mut away = [source, destination].into_iter().flat_map(|n| view.replicas_of(&n.id));
            if let Some(replica) = away.find(|n| n.health != Health::Alive) {
                return refuse(Retry::Retryable, format!("its replica {} does not answer", replica.address));
            }
        }
        self.fits(scene).await
    }

    /// Whether the destination can read what the source writes, and has room for it.
    async fn fits(&self, scene: &Scene) -> Result<(), DriverError> {
        let (source, destination) = (&scene.source, &scene.destination);
        let nodes = &self.inner.nodes;
        let (ours, theirs) = (nodes.info(&source.address).await?, nodes.info(&destination.address).await?);
        let refuse = |detail: String| {
            Err(RedisMover::at_node(destination, Retry::Permanent, "preparing a move of slots", detail))
        };
        let version = |info: &Info| -> Vec<u32> { info.version().into_iter().take(2).collect() };
        if version(&theirs) < version(&ours) {
            return refuse(format!(
                "it runs {}, the source {}: an older server cannot read what a newer one sends",
                theirs.text("redis_version").unwrap_or("?"),
                ours.text("redis_version").unwrap_or("?")
            ));
        }
        let data = Bytes(ours.whole("used_memory_dataset").unwrap_or(0));
        let share = ranges::share(nodes, scene.range, source, Some(ours.keys())).await;
        let needed = ranges::part(data, share);
        let (used, limit) =
            (theirs.whole("used_memory").unwrap_or(0), theirs.whole("maxmemory").unwrap_or(0));
        if limit > 0 && limit < used + needed.0 {
            return refuse(format!(
                "about {needed} come to its {}, its maxmemory is {}; raise it or choose another node",
                Bytes(used),
                Bytes(limit)
            ));
        }
        let have = self.libraries(&destination.address).await?;
        let missing: Vec<String> =
            self.libraries(&source.address).await?.difference(&have).cloned().collect();
        if !missing.is_empty() {
            return refuse(format!(
                "it does not know the functions that clients call at {}: {}; FUNCTION LOAD them there first",
                source.address,
                missing.join(", ")
            ));
        }
        Ok(())
    }

    /// Libraries of functions, which belong to a node and go with no slot; none where the server knows nothing
    /// of them (Redis 6) or does not say.
    async fn libraries(&self, address: &str) -> Result<BTreeSet<String>, DriverError> {
        let cmd = redis::cmd("FUNCTION").arg("LIST").to_owned();
        match self.inner.nodes.ask(address, &cmd).await {
            Ok(said) => Ok(library_names(&said)),
            Err(error) if error.retry == Retry::Permanent => Ok(BTreeSet::new()),
            Err(error) => Err(error),
        }
    }

    /// Looks at every key; nothing is copied before the cut. A key of any size may go with all others.
    pub(super) async fn survey(&self, job: &Job) -> Result<Answer, DriverError> {
        let key = || job.key("work");
        let known = self.works.with(key(), |w| (w.survey.take(), w.found.clone()));
        if let (None, Some(found)) = &known {
            return Ok(Answer::Done(Evidence {
                summary: format!(
                    "{} keys, {}, the largest {}; they go {} at the cut",
                    found.keys,
                    found.bytes,
                    found.largest,
                    if found.together { "together" } else { "one by one" }
                ),
                items: found.keys,
                ..Evidence::default()
            }));
        }
        let survey = match known.0 {
            Some(survey) => survey,
            None => {
                let scene = self.inner.scene(job).await?;
                if scene.has_begun() {
                    return Ok(done("the move has begun and goes on"));
                }
                let together = self.together(&scene).await?.is_some();
                Survey::start(self.inner.nodes.clone(), scene.source.address.clone(), scene.range, together)
            }
        };
        match survey.outcome().await {
            Ok(found) => {
                let found = found?;
                self.works.with(key(), |w| w.found = Some(found));
                Ok(working("every key was looked at"))
            }
            Err((survey, seen)) => {
                self.works.with(key(), |w| w.survey = Some(survey));
                Ok(working(format!("looks how large the keys are: {seen} so far")))
            }
        }
    }

    /// Finishes what has begun; where nothing has, there is nothing to let go.
    pub(super) async fn let_go(&self, job: &Job) -> Result<Answer, DriverError> {
        let scene = self.inner.scene(job).await?;
        match scene.has_begun() {
            true => self.advance(job).await,
            false => match self.call_off(&scene).await? {
                Some(answer) => Ok(answer),
                None => Ok(done("no write was held and no key has moved")),
            },
        }
    }

    /// Waits until every node that answers names the new owner of every slot.
    pub(super) async fn open(&self, job: &Job) -> Result<Answer, DriverError> {
        let scene = self.inner.scene(job).await?;
        let destination = &scene.destination;
        if !scene.is_all_with(destination) {
            let detail = format!("the slots are with {}; ask for the commit first", scene.said());
            return Err(RedisMover::at_node(destination, Retry::Retryable, "open", detail));
        }
        if let Some((slot, who)) = scene.doubter(destination) {
            self.convince(job, &scene).await?;
            return Ok(working(format!("{who} to know the new owner of slot {slot}")));
        }
        if let Some(open) = scene.open.first() {
            self.clear_marks(&scene).await?;
            return Ok(working(format!("{} to forget that slot {} moved", open.at, open.slot)));
        }
        Ok(done(format!(
            "all {} nodes that answer name {} as owner of {} slots",
            scene.census.views.len(),
            destination.address,
            ranges::count(scene.range)
        )))
    }

    /// Whether the slots could go back: a move of its own.
    pub(super) async fn way_back(&self, job: &Job) -> Result<Answer, DriverError> {
        let scene = self.inner.scene(job).await?;
        let source = &scene.source;
        if !scene.is_all_with(&scene.destination) {
            return Ok(done("the way back is a move of the slots; before the cut there is nothing to prove"));
        }
        if !scene.is_up(source) || !source.is_master() {
            return Ok(working(format!(
                "the old owner {} to be up, and a master: a replica takes no slots",
                source.address
            )));
        }
        let info = self.inner.nodes.cluster_info(&source.address).await?;
        match info.text("cluster_state") == Some("ok") {
            true => Ok(done(format!("{} is a master that can take the slots again", source.address))),
            false => Ok(working(format!("{} to find the cluster well", source.address))),
        }
    }
}

/// What stands behind every `library_name` of an answer to `FUNCTION LIST`.
fn library_names(said: &Value) -> BTreeSet<String> {
    let Value::Array(items) = said else { return BTreeSet::new() };
    let named = items.windows(2).filter(|pair| text_of(&pair[0]) == Some("library_name"));
    let own = named.filter_map(|pair| text_of(&pair[1])).map(str::to_string);
    own.chain(items.iter().flat_map(library_names)).collect()
}

fn text_of(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}
