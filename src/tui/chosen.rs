//! What is chosen: the thing that the screen is about, or the one under the cursor. Actions act on
//! it, and nothing else.

use super::action::Kind;
use super::field::ListKind;
use super::model::{Model, Screen};
use super::screens::pulse;
use crate::fleet::HostId;
use crate::protocol::{HostView, MigrationView, PartitionView, ProposalView, WorkloadView};

impl Model {
    /// The proposal on the screen or under the cursor.
    pub fn chosen_proposal(&self) -> Option<&ProposalView> {
        match self.screen() {
            Screen::Proposal(id) => self.snapshot.proposals.iter().find(|p| p.id == *id),
            Screen::WhatIf => self.what_if.as_deref(),
            Screen::Top(Kind::Proposals) => {
                self.list(ListKind::Proposals).chosen().and_then(|i| self.snapshot.proposals.get(i))
            }
            Screen::Top(Kind::Pulse) => match self.pulse.chosen() {
                Some(pulse::Row::Waiting(i)) => self.snapshot.proposals.get(i as usize),
                _ => None,
            },
            Screen::Partition(id) => {
                let host = id.host();
                self.snapshot
                    .proposals
                    .iter()
                    .find(|p| p.open && p.moves.iter().any(|m| m.source == *id || m.source.host() == host))
            }
            _ => None,
        }
    }

    /// The open proposal that has taken the place of the one on the screen, which was overtaken.
    pub fn successor(&self) -> Option<&ProposalView> {
        let Screen::Proposal(_) = self.screen() else { return None };
        let shown = self.chosen_proposal().filter(|p| !p.open)?;
        let same_host = |p: &ProposalView| {
            p.moves.iter().any(|m| shown.moves.iter().any(|s| s.source.host() == m.source.host()))
        };
        self.snapshot.proposals.iter().find(|p| p.open && same_host(p))
    }

    /// The migration on the screen or under the cursor.
    pub fn chosen_migration(&self) -> Option<&MigrationView> {
        match self.screen() {
            Screen::Migration(id) => self.snapshot.migrations.iter().find(|m| m.id == *id),
            Screen::Top(Kind::Migrations) => {
                self.list(ListKind::Migrations).chosen().and_then(|i| self.snapshot.migrations.get(i))
            }
            Screen::Top(Kind::Pulse) => match self.pulse.chosen() {
                Some(pulse::Row::Moving(i) | pulse::Row::Asking(i)) => {
                    self.snapshot.migrations.get(i as usize)
                }
                _ => None,
            },
            _ => None,
        }
    }

    /// The partition on the screen or under the cursor.
    pub fn chosen_partition(&self) -> Option<&PartitionView> {
        match self.screen() {
            Screen::Partition(id) => self.partition(id),
            Screen::Top(Kind::Partitions) => {
                self.list(ListKind::Partitions).chosen().and_then(|i| self.snapshot.partitions.get(i))
            }
            Screen::Top(Kind::Pulse) => match self.pulse.chosen() {
                Some(pulse::Row::Risk(i)) => self.snapshot.partitions.get(i as usize),
                _ => None,
            },
            _ => None,
        }
    }

    /// The host under the cursor, or that of the partition there.
    pub fn chosen_host(&self) -> Option<HostId> {
        if *self.screen() == Screen::Top(Kind::Hosts) {
            return self.chosen_host_row().map(|h| h.id.clone());
        }
        self.chosen_partition().map(|p| p.host.clone())
    }

    /// The row under the cursor in the table of hosts.
    pub fn chosen_host_row(&self) -> Option<&HostView> {
        self.list(ListKind::Hosts).chosen().and_then(|i| self.snapshot.hosts.get(i))
    }

    /// The workload under the cursor.
    pub fn chosen_workload(&self) -> Option<&WorkloadView> {
        self.list(ListKind::Workloads).chosen().and_then(|i| self.snapshot.workloads.get(i))
    }
}
