//! Everything that the console knows: the snapshot it shows, where the person is, what is open on
//! top. Plain data with one owner; [`super::update`] changes it, the views read it.

use std::collections::VecDeque;
use std::sync::Arc;

use super::action::Kind;
use super::confirm::{Confirm, DISARMED_MS};
use super::field::ListKind;
use super::key::Key;
use super::keymap::Keymap;
use super::list::List;
use super::past::Past;
use super::screens::pulse;
use super::theme::Look;
use crate::fleet::{MigrationId, PartitionId, ProposalId, Span, Timestamp};
use crate::protocol::{Actor, PartitionDetail, PartitionView, ProposalView, Snapshot};

/// A moment of the console's own monotonic clock: milliseconds since it started.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Moment(pub u64);

impl Moment {
    /// The moment `ms` milliseconds later.
    pub fn after(self, ms: u64) -> Moment {
        Moment(self.0.saturating_add(ms))
    }

    /// Milliseconds since `earlier`.
    pub fn since(self, earlier: Moment) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A screen with what it is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Screen {
    /// One of the nine.
    Top(Kind),
    /// One partition.
    Partition(PartitionId),
    /// One proposal.
    Proposal(ProposalId),
    /// What emptying a host would do.
    WhatIf,
    /// One migration.
    Migration(MigrationId),
}

impl Screen {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Screen::Top(kind) => *kind,
            Screen::Partition(_) => Kind::Partition,
            Screen::Proposal(_) | Screen::WhatIf => Kind::Proposal,
            Screen::Migration(_) => Kind::Migration,
        }
    }
}

/// What is open over the screen; it takes the keys.
#[derive(Clone, PartialEq, Debug)]
pub enum Popup {
    /// Every key of this screen.
    Help {
        /// First visible line.
        scroll: u16,
    },
    /// The filter line.
    Filter {
        /// The filter before it was opened, for escape.
        before: String,
    },
    /// The command line.
    Palette {
        /// What was typed.
        typed: String,
        /// The selected offer.
        selected: usize,
    },
    /// An explanation.
    Why {
        /// About what.
        title: String,
        /// In sentences.
        sentences: Vec<String>,
    },
    /// What will happen, and whether it shall.
    Confirm(Box<Confirm>),
}

/// How a message at the bottom looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tone {
    /// It was done.
    Good,
    /// For information.
    Plain,
    /// It was refused or failed.
    Bad,
}

/// A message at the bottom that goes away by itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Toast {
    /// What it says.
    pub text: String,
    /// How it looks.
    pub tone: Tone,
    /// When it goes away.
    pub until: Moment,
}

/// Everything about the partition on the screen, as far as it has arrived.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Inspected {
    /// About which partition.
    pub id: Option<PartitionId>,
    /// What the engine said.
    pub detail: Option<Arc<PartitionDetail>>,
    /// Why it said nothing.
    pub failed: Option<String>,
    /// A question is under way.
    pub asking: bool,
    /// The snapshot for which it was asked.
    pub sequence: u64,
    /// The metric in the large chart.
    pub metric: usize,
    /// How much history the large chart shows, as a step of [`ZOOMS`].
    pub zoom: usize,
}

/// Spans of history that the large chart can show.
pub const ZOOMS: [Span; 5] =
    [Span::minutes(30), Span::hours(1), Span::hours(2), Span::hours(6), Span::hours(24)];

/// Whether the engine ends with the console.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Engine {
    /// It runs in this process.
    #[default]
    Embedded,
    /// It runs elsewhere and goes on.
    Remote,
}

/// The model.
#[derive(Clone, Debug)]
pub struct Model {
    /// What is shown.
    pub snapshot: Arc<Snapshot>,
    /// While the picture is frozen: the newest snapshot, not shown yet.
    pub behind: Option<Arc<Snapshot>>,
    /// The picture is frozen, at now or at an earlier time.
    pub frozen: bool,
    /// What was shown before.
    pub past: Past,
    /// When the snapshot arrived.
    pub arrived: Moment,
    /// Now.
    pub moment: Moment,
    /// The engine is gone: no snapshot will come any more.
    pub gone: bool,
    /// Columns and rows of the terminal.
    pub size: (u16, u16),
    /// Where the person is: the last is shown, escape goes back.
    pub stack: Vec<Screen>,
    /// The tables.
    pub lists: Vec<List>,
    /// Selected row of the pulse screen.
    pub pulse: pulse::Selection,
    /// What is open on top.
    pub popup: Option<Popup>,
    /// Messages at the bottom.
    pub toasts: VecDeque<Toast>,
    /// The partition on the screen.
    pub inspected: Inspected,
    /// The what-if on the screen.
    pub what_if: Option<Arc<ProposalView>>,
    /// First visible line of a screen that scrolls.
    pub scroll: u16,
    /// The proposal's exact commands are shown.
    pub commands: bool,
    /// Keys of a sequence that has begun.
    pub pending: Vec<Key>,
    /// The themes, fitted to the terminal, and which one is worn.
    pub looks: Arc<Vec<Look>>,
    /// Which of them.
    pub look: usize,
    /// The keys.
    pub keymap: Arc<Keymap>,
    /// Who sits here.
    pub actor: Actor,
    /// Whether the engine ends with the console.
    pub engine: Engine,
    /// Mouse reports are on.
    pub mouse: bool,
    /// State of the log's widget.
    pub log: super::screens::log::LogPane,
}

const LISTS: [ListKind; 7] = [
    ListKind::Hosts,
    ListKind::Partitions,
    ListKind::Workloads,
    ListKind::Proposals,
    ListKind::Migrations,
    ListKind::Audit,
    ListKind::Alerts,
];

impl Model {
    /// A console that has seen `snapshot` and nothing else.
    pub fn new(
        snapshot: Arc<Snapshot>,
        size: (u16, u16),
        looks: Arc<Vec<Look>>,
        keymap: Arc<Keymap>,
        actor: Actor,
    ) -> Self {
        let mut past = Past::default();
        past.keep(&snapshot);
        let mut model = Self {
            snapshot,
            behind: None,
            frozen: false,
            past,
            arrived: Moment::default(),
            moment: Moment::default(),
            gone: false,
            size,
            stack: vec![Screen::Top(Kind::Pulse)],
            lists: LISTS.into_iter().map(List::new).collect(),
            pulse: pulse::Selection::default(),
            popup: None,
            toasts: VecDeque::new(),
            inspected: Inspected { zoom: 2, ..Inspected::default() },
            what_if: None,
            scroll: 0,
            commands: false,
            pending: Vec::new(),
            looks,
            look: 0,
            keymap,
            actor,
            engine: Engine::Embedded,
            mouse: false,
            log: super::screens::log::LogPane::default(),
        };
        model.refresh_list();
        model
    }

    /// How things look.
    pub fn look(&self) -> &Look {
        &self.looks[self.look % self.looks.len().max(1)]
    }

    /// The screen that is shown.
    pub fn screen(&self) -> &Screen {
        self.stack.last().expect("the stack is never empty: `back` keeps its first screen")
    }

    /// The engine's time now: that of the snapshot, plus the time since it came in steps of ten
    /// seconds (of a minute after the first), so that ages grow while nothing is drawn in between.
    pub fn now(&self) -> Timestamp {
        self.snapshot.at + Span::millis(i64::try_from(self.silent_for()).unwrap_or(i64::MAX))
    }

    /// Milliseconds since the last snapshot, in the steps of [`Model::now`]; none while the picture is
    /// frozen: it stays as it was then.
    pub fn silent_for(&self) -> u64 {
        if self.frozen {
            return 0;
        }
        let ms = self.moment.since(self.arrived);
        if ms < 60_000 { ms / 10_000 * 10_000 } else { ms / 60_000 * 60_000 }
    }

    /// How far back the picture is; `None` where it is the newest.
    pub fn looking_back(&self) -> Option<Span> {
        let newest = self.behind.as_ref().filter(|_| self.frozen)?;
        Some(newest.at - self.snapshot.at).filter(|span| span.0 > 0)
    }

    /// When something on the screen changes by itself next.
    pub fn next_tick(&self) -> Moment {
        const HOUR_MS: u64 = 3_600_000;
        let age = if self.frozen {
            self.moment.after(HOUR_MS)
        } else {
            let ms = self.moment.since(self.arrived);
            let step = if ms < 60_000 { 10_000 } else { 60_000 };
            self.arrived.after((ms / step + 1) * step)
        };
        let arming = match &self.popup {
            Some(Popup::Confirm(c)) if !c.armed(self.moment) => Some(c.opened.after(DISARMED_MS)),
            _ => None,
        };
        self.toasts.iter().map(|t| t.until).chain(arming).fold(age, Moment::min)
    }

    /// The list of the screen, if it has one.
    pub fn list_kind(&self) -> Option<ListKind> {
        match self.screen() {
            Screen::Top(Kind::Hosts) => Some(ListKind::Hosts),
            Screen::Top(Kind::Partitions) => Some(ListKind::Partitions),
            Screen::Top(Kind::Workloads) => Some(ListKind::Workloads),
            Screen::Top(Kind::Proposals) => Some(ListKind::Proposals),
            Screen::Top(Kind::Migrations) => Some(ListKind::Migrations),
            Screen::Top(Kind::Audit) => Some(ListKind::Audit),
            Screen::Top(Kind::Models) => Some(ListKind::Alerts),
            _ => None,
        }
    }

    /// The list of a kind.
    pub fn list(&self, kind: ListKind) -> &List {
        &self.lists[LISTS.iter().position(|k| *k == kind).unwrap_or(0)]
    }

    /// The list of a kind.
    pub fn list_mut(&mut self, kind: ListKind) -> &mut List {
        &mut self.lists[LISTS.iter().position(|k| *k == kind).unwrap_or(0)]
    }

    /// Rows of a table that are visible at this size.
    pub fn page(&self) -> usize {
        usize::from(super::screens::table_rows(self))
    }

    /// Takes the rows of the screen's list from the snapshot.
    pub fn refresh_list(&mut self) {
        let snapshot = Arc::clone(&self.snapshot);
        if let Some(kind) = self.list_kind() {
            let page = self.page();
            let list = self.list_mut(kind);
            list.refresh(&snapshot);
            list.reveal(page);
        }
        if *self.screen() == Screen::Top(Kind::Pulse) {
            pulse::refresh(self);
        }
    }

    /// Says something at the bottom for a while.
    pub fn say(&mut self, tone: Tone, text: impl Into<String>) {
        const AT_ONCE: usize = 3;
        let stay = if tone == Tone::Bad { 10_000 } else { 5_000 };
        let text = text.into();
        self.toasts.retain(|t| t.text != text);
        while self.toasts.len() >= AT_ONCE {
            self.toasts.pop_front();
        }
        self.toasts.push_back(Toast { text, tone, until: self.moment.after(stay) });
    }

    /// The partition of that name.
    pub fn partition(&self, id: &PartitionId) -> Option<&PartitionView> {
        let all = &self.snapshot.partitions;
        // The engine sorts them by name; a recording may not.
        match all.binary_search_by(|p| p.id.cmp(id)) {
            Ok(i) => all.get(i),
            Err(_) => all.iter().find(|p| p.id == *id),
        }
    }

    /// Proposals that wait for a decision.
    pub fn waiting(&self) -> usize {
        self.snapshot.proposals.iter().filter(|p| p.open).count()
    }

    /// Migrations that stand until a person says how they go on.
    pub fn asking(&self) -> usize {
        self.snapshot.migrations.iter().filter(|m| super::screens::migration::asks(m)).count()
    }

    /// Migrations that have not ended.
    pub fn running(&self) -> usize {
        self.snapshot.migrations.iter().filter(|m| m.ended.is_none()).count()
    }
}
