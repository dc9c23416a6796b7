//! HAProxy over its runtime socket: weights, drain and maintenance of servers, on every instance,
//! read back from every one. HAProxy forgets all of it at a reload and has no compare-and-set; so a
//! call reads what is there, sends what is missing, and reads again until it is as wanted.

mod options;
mod socket;
mod table;

use std::collections::BTreeMap;

use async_trait::async_trait;
use futures::future::join_all;

pub use options::HaproxyOptions;

use self::socket::{AGAIN, Instance};
use self::table::{Server, Wanted};
use super::error::{DriverError, Retry};
use super::mover::Permit;
use super::router::{Router, ServerState, Weight};
use crate::fleet::{Epoch, PartitionId, Share, WorkloadId};

/// How often a call sends what is missing before it gives up.
const TRIES: usize = 3;

/// The router of one group of HAProxy instances that send traffic to the same servers.
pub struct HaproxyRouter {
    options: HaproxyOptions,
    instances: Vec<Instance>,
}

impl HaproxyRouter {
    /// A router over all instances of `options.sockets`; connects at every call.
    pub fn new(options: HaproxyOptions) -> Self {
        let instance = |socket: &String| Instance { socket: socket.clone(), patience: options.timeout };
        Self { instances: options.sockets.iter().map(instance).collect(), options }
    }

    /// The servers of a backend but its backups, which get traffic only where nobody else can take it and are
    /// left alone.
    async fn servers(
        &self,
        instance: &Instance,
        backend: &str,
    ) -> Result<BTreeMap<String, Server>, DriverError> {
        let command = format!("show servers state {backend}");
        let answer = instance.ask(&command).await.map_err(reading)?;
        let mut servers =
            table::read_servers(&answer).map_err(|why| instance.error(Retry::Permanent, &command, why))?;
        let backups = table::read_backups(&instance.ask("show stat").await.map_err(reading)?, backend);
        servers.retain(|name, _| !backups.contains(name));
        Ok(servers)
    }

    async fn sessions(
        &self,
        instance: &Instance,
        backend: &str,
    ) -> Result<BTreeMap<String, u64>, DriverError> {
        Ok(table::read_sessions(&instance.ask("show stat").await.map_err(reading)?, backend))
    }

    /// Brings one instance to what is wanted and reads it back.
    async fn converge(&self, instance: &Instance, backend: &str, wanted: &Wanted) -> Result<(), DriverError> {
        let mut left = Vec::new();
        for _ in 0..TRIES {
            let now = self.servers(instance, backend).await?;
            // The weights say where all of the workload's traffic goes: nobody else gets any.
            let others = now.keys().filter(|name| !wanted.contains_key(*name)).cloned();
            let idle = Server { weight: 0, state: ServerState::Drain };
            let wanted: &Wanted =
                &wanted.clone().into_iter().chain(others.map(|name| (name, idle))).collect();
            left = table::commands(backend, &now, wanted)
                .map_err(|why| instance.error(Retry::Permanent, "set server", why))?;
            if left.is_empty() {
                return Ok(());
            }
            for command in &left {
                instance.tell(command).await?;
            }
            let now = self.servers(instance, backend).await?;
            left = table::commands(backend, &now, wanted)
                .map_err(|why| instance.error(Retry::Permanent, "set server", why))?;
            if left.is_empty() {
                return Ok(());
            }
            tokio::time::sleep(AGAIN).await;
        }
        Err(instance.error(
            Retry::Retryable,
            "set server",
            format!(
                "read back after {TRIES} tries it still differs: {}; does somebody else write?",
                left.join("; ")
            ),
        ))
    }

    /// Refuses where a newer leader has written to an instance; else leaves our epoch there.
    async fn claim(&self, instance: &Instance, backend: &str, epoch: Epoch) -> Result<(), DriverError> {
        let Some(map) = &self.options.epochs else { return Ok(()) };
        let shown = instance.ask(&format!("show map {map}")).await.map_err(reading)?;
        let entry = shown.lines().find_map(|line| {
            let mut fields = line.split_ascii_whitespace().skip(1);
            (fields.next()? == backend).then(|| fields.next()?.parse::<u64>().ok())
        });
        match entry {
            Some(Some(newer)) if newer > epoch.0 => Err(instance.error(
                Retry::Permanent,
                "set map",
                format!(
                    "the leader of epoch e{newer} has written here, ours is {epoch}: this engine is deposed"
                ),
            )),
            Some(Some(same)) if same == epoch.0 => Ok(()),
            Some(_) => instance.tell(&format!("set map {map} {backend} {}", epoch.0)).await,
            None => instance.tell(&format!("add map {map} {backend} {}", epoch.0)).await,
        }
    }
}

/// A lost answer to a question is no danger.
fn reading(mut error: DriverError) -> DriverError {
    if error.retry == Retry::Unknown {
        error.retry = Retry::Retryable;
    }
    error
}

#[async_trait]
impl Router for HaproxyRouter {
    fn class(&self) -> &str {
        "haproxy"
    }

    async fn weights(&self, workload: &WorkloadId) -> Result<Vec<Weight>, DriverError> {
        let backend = self.options.backend(workload);
        let answers = join_all(self.instances.iter().map(|instance| async {
            let (servers, sessions) =
                futures::join!(self.servers(instance, &backend), self.sessions(instance, &backend));
            Ok::<_, DriverError>((servers?, sessions?))
        }))
        .await;
        let mut first: Option<BTreeMap<String, Server>> = None;
        let mut sessions: BTreeMap<String, u64> = BTreeMap::new();
        for (instance, answer) in self.instances.iter().zip(answers) {
            let (servers, open) = answer?;
            for (name, count) in open {
                *sessions.entry(name).or_default() += count;
            }
            match &first {
                None => first = Some(servers),
                Some(first) if *first == servers => {}
                Some(first) => {
                    return Err(instance.error(
                        Retry::Retryable,
                        "show servers state",
                        format!(
                            "it disagrees with {}: {servers:?} against {first:?}; set the weights again",
                            self.instances[0].socket
                        ),
                    ));
                }
            }
        }
        let servers = first.unwrap_or_default();
        let weight = |(name, share): (String, f64)| Weight {
            partition: self.options.partition(&name, &[]),
            share: Share::clamped(share).unwrap_or(Share::MIN),
            state: servers[&name].state,
            sessions: sessions.get(&name).copied(),
        };
        Ok(table::shares(&servers).into_iter().map(weight).collect())
    }

    async fn set(
        &self,
        workload: &WorkloadId,
        weights: &[Weight],
        permit: &Permit,
    ) -> Result<(), DriverError> {
        let backend = self.options.backend(workload);
        let asked: Vec<PartitionId> = weights.iter().map(|w| w.partition.clone()).collect();
        let shares = weights.iter().map(|w| (self.options.server(&w.partition), w.share.get())).collect();
        let whole = table::weights_of(&shares);
        let wanted: Wanted = weights
            .iter()
            .map(|w| {
                let name = self.options.server(&w.partition);
                let weight = whole.get(&name).copied().unwrap_or(0);
                (name, Server { weight, state: w.state })
            })
            .collect();
        if wanted.len() != asked.len() || !weights.iter().any(|w| w.state == ServerState::Ready) {
            return Err(DriverError::new(
                Retry::Permanent,
                format!("haproxy {}", self.options.sockets.join(", ")),
                format!("setting weights of {workload}"),
                "expected different servers, at least one of them ready; as asked, nobody would get traffic",
            ));
        }
        let answers = join_all(self.instances.iter().map(|instance| async {
            self.claim(instance, &backend, permit.epoch()).await?;
            self.converge(instance, &backend, &wanted).await
        }))
        .await;
        let done = answers.iter().filter(|a| a.is_ok()).count();
        let all = answers.len();
        answers.into_iter().find_map(Result::err).map_or(Ok(()), |mut error| {
            if done > 0 {
                // Some instances are changed and some are not: only reading all of them tells.
                error.retry = Retry::Unknown;
                error.detail.push_str(&format!("; {done} of {all} instances confirmed"));
            }
            Err(error)
        })
    }
}
