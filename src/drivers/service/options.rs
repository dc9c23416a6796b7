//! Which services there are, where they can run, and how they are started, stopped and asked.

use std::collections::BTreeMap;

use crate::fleet::{ApplicationId, HostId, PartitionId, Span, WorkloadId};

/// How many processes of one service may run at the same time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Instances {
    /// Any number: the new one is started before the old one is stopped.
    Many,
    /// Never two: the old one is stopped before the new one is started.
    One,
}

/// How a service is started, stopped and asked whether it runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Control {
    /// A systemd unit.
    Unit(String),
    /// Programs with their arguments, in which `{host}`, `{service}` and `{epoch}` are filled in.
    Commands {
        /// Starts it and returns.
        start: Vec<String>,
        /// Stops it in good order and returns.
        stop: Vec<String>,
        /// Exit status 0 where it runs, 1 to 3 where it does not (as of LSB init scripts).
        status: Vec<String>,
    },
}

/// One service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Service {
    /// How it is started and stopped.
    pub control: Control,
    /// Where its health is asked, with `{host}`: `http://…` (any 2xx) or `tcp://HOST:PORT`.
    pub health: String,
}

/// A group of services and the hosts that can run them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServiceOptions {
    /// Class of its workloads: `service/NAME`.
    pub class: String,
    /// The driver's name; a host's partition is called `HOST/NAME`.
    pub name: String,
    /// The application that the services belong to.
    pub application: ApplicationId,
    /// Hosts that can run every one of the services.
    pub hosts: Vec<HostId>,
    /// Program and arguments that run a command on `{host}`; empty = here.
    pub via: Vec<String>,
    /// How many processes of one service may run at once.
    pub instances: Instances,
    /// How long an orderly stop may take, and how long open sessions are waited for before it.
    pub stop_within: Span,
    /// How long one command may take.
    pub command_timeout: Span,
    /// The services.
    pub services: BTreeMap<WorkloadId, Service>,
}

impl ServiceOptions {
    /// The driver `name` of the configuration; the application is called like it.
    pub fn new(
        name: &str,
        hosts: impl IntoIterator<Item = HostId>,
        services: impl IntoIterator<Item = (WorkloadId, Service)>,
    ) -> Self {
        Self {
            class: format!("service/{name}"),
            name: name.to_string(),
            application: ApplicationId::from(name),
            hosts: hosts.into_iter().collect(),
            via: Vec::new(),
            instances: Instances::Many,
            stop_within: Span::seconds(30),
            command_timeout: Span::seconds(5),
            services: services.into_iter().collect(),
        }
    }

    /// What `host` is called as a partition.
    pub(super) fn partition(&self, host: &HostId) -> PartitionId {
        PartitionId::of(host, &self.name)
    }

    /// The host that is called so.
    pub(super) fn host(&self, partition: &PartitionId) -> Option<&HostId> {
        self.hosts.iter().find(|host| self.partition(host) == *partition)
    }
}
