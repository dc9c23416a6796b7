//! The one table of actions. Dispatch, footer, help, palette and the configurable keymap are all
//! drawn from it, so none of them can say something that another does not do.

/// The kinds of screens; an action says on which of them it exists.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Kind {
    /// Is anything wrong, and what should I do?
    Pulse,
    /// All hosts.
    Hosts,
    /// All partitions.
    Partitions,
    /// Who runs what where.
    Workloads,
    /// What waits for a decision.
    Proposals,
    /// What moves.
    Migrations,
    /// The program's own log.
    Log,
    /// Who asked for what.
    Audit,
    /// Models, data, alerts.
    Models,
    /// One partition.
    Partition,
    /// One proposal.
    Proposal,
    /// One migration.
    Migration,
}

impl Kind {
    /// Every kind; the first nine bear the number keys 1 to 9.
    pub const ALL: [Kind; 12] = [
        Kind::Pulse,
        Kind::Hosts,
        Kind::Partitions,
        Kind::Workloads,
        Kind::Proposals,
        Kind::Migrations,
        Kind::Log,
        Kind::Audit,
        Kind::Models,
        Kind::Partition,
        Kind::Proposal,
        Kind::Migration,
    ];

    /// Its name in the palette and in headings.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Pulse => "pulse",
            Kind::Hosts => "hosts",
            Kind::Partitions => "partitions",
            Kind::Workloads => "workloads",
            Kind::Proposals => "proposals",
            Kind::Migrations => "migrations",
            Kind::Log => "log",
            Kind::Audit => "audit",
            Kind::Models => "models",
            Kind::Partition => "partition",
            Kind::Proposal => "proposal",
            Kind::Migration => "migration",
        }
    }

    const fn bit(self) -> u16 {
        1 << self as u16
    }
}

/// A set of kinds of screens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct On(u16);

impl On {
    const EVERYWHERE: On = On(u16::MAX);

    const fn these(kinds: &[Kind]) -> On {
        let (mut bits, mut i) = (0, 0);
        while i < kinds.len() {
            bits |= kinds[i].bit();
            i += 1;
        }
        On(bits)
    }

    /// Whether `kind` is in the set.
    pub fn has(self, kind: Kind) -> bool {
        self.0 & kind.bit() != 0
    }

    /// Whether the sets share a kind.
    pub fn meets(self, other: On) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether it is the set of all.
    pub fn everywhere(self) -> bool {
        self == On::EVERYWHERE
    }
}

/// What an action does to the fleet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach {
    /// Nothing: it looks, or changes the view.
    View,
    /// It asks the engine to change something, after a confirmation.
    Change,
}

/// One row of the table.
#[derive(Debug)]
pub struct Row {
    /// The action.
    pub action: Action,
    /// Its name in the palette and in the configuration.
    pub name: &'static str,
    /// A word or two for the footer; empty = not shown there.
    pub short: &'static str,
    /// A sentence for help and palette.
    pub words: &'static str,
    /// The keys it has when the configuration says nothing.
    pub keys: &'static [&'static str],
    /// Where it exists.
    pub on: On,
    /// Whether it changes something.
    pub reach: Reach,
}

macro_rules! actions {
    ($($(#[$doc:meta])* $action:ident $name:literal $short:literal $keys:tt $on:expr, $reach:ident, $words:literal;)*) => {
        /// Everything that can be done from the keyboard.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Action {
            $($(#[$doc])* $action,)*
        }

        /// The table, in the order in which footer and help show it: what takes back or holds stands before what
        /// goes further.
        pub static TABLE: &[Row] = &[
            $(Row { action: Action::$action, name: $name, short: $short, words: $words, keys: &$keys, on: $on, reach: Reach::$reach },)*
        ];
    };
}

use Kind as K;

const TABLES: On =
    On::these(&[K::Hosts, K::Partitions, K::Workloads, K::Proposals, K::Migrations, K::Audit, K::Models]);
const OPENS: On = On::these(&[
    K::Pulse,
    K::Hosts,
    K::Partitions,
    K::Workloads,
    K::Proposals,
    K::Proposal,
    K::Migrations,
    K::Models,
]);
const DECIDES: On = On::these(&[K::Pulse, K::Proposals, K::Proposal]);
const MOVES: On = On::these(&[K::Pulse, K::Migrations, K::Migration]);
const PLACES: On = On::these(&[K::Pulse, K::Hosts, K::Partitions, K::Partition]);
const WHY: On = On::these(&[
    K::Pulse,
    K::Hosts,
    K::Partitions,
    K::Partition,
    K::Workloads,
    K::Proposals,
    K::Proposal,
    K::Migrations,
    K::Migration,
]);
const ALL: On = On::EVERYWHERE;

actions! {
    /// Opens the selected row.
    Open "open" "open" ["enter", "l", "right"] OPENS, View, "open what is selected; of an overtaken proposal, the one in its place";
    /// Approves a proposal.
    Approve "approve" "approve" ["a"] DECIDES, Change, "approve the proposal as it is shown";
    /// Rejects a proposal.
    Reject "reject" "reject" ["x"] DECIDES, Change, "reject the proposal, with a reason";
    /// Undoes.
    Undo "undo" "undo" ["u"] MOVES, Change, "undo the migration, from wherever it is";
    /// Stands still.
    Hold "hold" "hold" ["p"] MOVES, Change, "stand still at the next safe point";
    /// Goes on.
    Resume "resume" "resume" ["r"] MOVES, Change, "go on after a hold";
    /// Explains.
    Why "why" "why" ["w"] WHY, View, "explain: what drives this number, what blocks this move";
    /// Next canary step.
    NextStep "next-step" "next step" ["."] MOVES, Change, "go to the next canary step now";
    /// Skips the rest of the canary, or ends a hold after the cut.
    Promote "promote" "promote" ["P"] MOVES, Change, "skip the rest of the canary; after the cut, keep it there";
    /// The partition's proposal.
    ToProposal "to-proposal" "proposal" ["p"] On::these(&[K::Partition]), View, "open the proposal that concerns this partition";
    /// Empties a host.
    Evacuate "evacuate" "evacuate" ["e"] PLACES, Change, "propose to empty the host, without waiting for a prediction";
    /// What emptying would do.
    WhatIf "what-if" "what if" ["E"] PLACES, View, "show what emptying the host would do; touches nothing";
    /// A person's veto.
    Veto "veto" "" ["v"] On::these(&[K::Hosts, K::Partitions, K::Partition, K::Workloads]), Change, "forbid automatic acts here until released";
    /// Releases it.
    ReleaseVeto "release-veto" "" ["V"] On::these(&[K::Hosts, K::Partitions, K::Partition, K::Workloads]), Change, "release a veto";
    /// Out of service for good.
    Decommission "decommission" "" [] On::these(&[K::Hosts, K::Partitions, K::Partition]), Change, "take it out of service for good; its silence is no alert then";
    /// In service again.
    Recommission "recommission" "" [] On::these(&[K::Hosts, K::Partitions, K::Partition]), Change, "take it into service again";
    /// Records a failure.
    RecordFailure "record-failure" "" [] On::these(&[K::Partitions, K::Partition]), Change, "record that this partition failed, with the cause";
    /// The models before.
    RevertModels "revert-models" "models back" ["u"] On::these(&[K::Models]), Change, "go back to the models that spoke before";
    /// Commands of a proposal.
    Commands "commands" "commands" ["d"] On::these(&[K::Proposal]), View, "show the exact commands of each move";
    /// Next metric.
    NextMetric "next-metric" "next metric" ["f", "tab"] On::these(&[K::Partition]), View, "show the next metric in the large chart";
    /// Metric before.
    PreviousMetric "previous-metric" "" ["F", "backtab"] On::these(&[K::Partition]), View, "show the metric before in the large chart";
    /// Shorter history.
    ZoomIn "zoom-in" "zoom" ["+"] On::these(&[K::Partition]), View, "show less history, in more detail";
    /// Longer history.
    ZoomOut "zoom-out" "" ["-"] On::these(&[K::Partition]), View, "show more history";
    /// Filter line.
    Filter "filter" "filter" ["/", "F3", "F4"] TABLES, View, "show only rows that match: words, !word, state=suspect, p1h>0.3";
    /// Drops the filter.
    ClearFilter "clear-filter" "" ["\\"] TABLES, View, "show all rows again";
    /// Sort by the next column.
    Sort "sort" "sort" ["s", "F6"] TABLES, View, "sort by the next column";
    /// The other way round.
    Reverse "reverse" "" ["o"] TABLES, View, "sort the other way round";
    /// Log: levels.
    LogLess "log-less" "less" ["-"] On::these(&[K::Log]), View, "show fewer levels of the log";
    /// Log: levels.
    LogMore "log-more" "more" ["+"] On::these(&[K::Log]), View, "show more levels of the log";
    /// Up.
    Up "up" "" ["k", "up"] ALL, View, "one row up";
    /// Down.
    Down "down" "" ["j", "down"] ALL, View, "one row down";
    /// First.
    First "first" "" ["g g", "home"] ALL, View, "the first row";
    /// Last.
    Last "last" "" ["G", "end"] ALL, View, "the last row";
    /// Half a page.
    HalfUp "half-up" "" ["C-u"] ALL, View, "half a page up";
    /// Half a page.
    HalfDown "half-down" "" ["C-d"] ALL, View, "half a page down";
    /// A page.
    PageUp "page-up" "" ["pgup"] ALL, View, "a page up";
    /// A page.
    PageDown "page-down" "" ["pgdn"] ALL, View, "a page down";
    /// Back.
    Back "back" "back" ["esc", "q", "h", "left"] ALL, View, "back one level; never quits";
    /// Palette.
    Palette "command" "command" [":"] ALL, View, "type the name of any action, screen, host, partition or workload";
    /// Global stop.
    Stop "stop" "stop all" ["!"] ALL, Change, "halt every new step of everything, or release that";
    /// Help.
    Help "help" "help" ["?", "F1"] ALL, View, "every key of this screen";
    /// Mode.
    ChangeMode "mode" "" ["m"] ALL, Change, "change between advise and automatic";
    /// Copy.
    Copy "copy" "" ["y"] ALL, View, "copy the selected name to the clipboard";
    /// Theme.
    NextTheme "theme" "" ["t"] ALL, View, "the next theme";
    /// Freeze.
    Freeze "freeze" "" ["z"] ALL, View, "hold the picture still; data is collected on";
    /// Looks back.
    Earlier "earlier" "" ["<"] ALL, View, "look back: show everything as it was a cycle earlier";
    /// Comes forward.
    Later "later" "" [">"] ALL, View, "come forward a cycle, in the end to now";
    /// Mouse.
    Mouse "mouse" "" [] ALL, View, "turn the mouse on or off (off leaves selecting text to the terminal)";
    /// Repaint.
    Repaint "repaint" "" ["C-l", "F5"] ALL, View, "paint the whole screen anew";
    /// Suspend.
    Suspend "suspend" "" ["C-z"] ALL, View, "suspend to the shell";
    /// Screen 1.
    ToPulse "pulse" "" ["1"] ALL, View, "is anything wrong, and what should I do?";
    /// Screen 2.
    ToHosts "hosts" "" ["2"] ALL, View, "all hosts";
    /// Screen 3.
    ToPartitions "partitions" "" ["3"] ALL, View, "all partitions";
    /// Screen 4.
    ToWorkloads "workloads" "" ["4"] ALL, View, "who runs what where (the footprint)";
    /// Screen 5.
    ToProposals "proposals" "" ["5", "F7"] ALL, View, "what waits for a decision, and what was decided";
    /// Screen 6.
    ToMigrations "migrations" "" ["6"] ALL, View, "what moves and what moved";
    /// Screen 7.
    ToLog "log" "" ["7"] ALL, View, "the program's own log";
    /// Screen 8.
    ToAudit "audit" "" ["8"] ALL, View, "who asked for what, and what came of it";
    /// Screen 9.
    ToModels "models" "" ["9"] ALL, View, "alerts, data and models";
    /// Quit.
    Quit "quit" "" ["Q", "C-c C-c", "F10"] ALL, View, "leave the console";
}

impl Action {
    /// The action's row.
    pub fn row(self) -> &'static Row {
        // The table has one row an action, in the order of the enum.
        &TABLE[self as usize]
    }

    /// The action of that name.
    pub fn named(name: &str) -> Option<Action> {
        TABLE.iter().find(|row| row.name == name).map(|row| row.action)
    }

    /// The screen that it shows, for the nine that have a number.
    pub fn screen(self) -> Option<Kind> {
        Kind::ALL[..9].iter().copied().find(|kind| Action::named(kind.name()) == Some(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_has_its_own_row_and_name() {
        for (i, row) in TABLE.iter().enumerate() {
            assert_eq!(row.action as usize, i);
            assert_eq!(Action::named(row.name), Some(row.action), "{} is named twice", row.name);
            assert!(!row.words.is_empty());
        }
    }

    #[test]
    fn nothing_that_changes_the_fleet_is_on_a_control_letter_or_a_movement_key() {
        for row in TABLE.iter().filter(|row| row.reach == Reach::Change) {
            for key in row.keys {
                assert!(!key.starts_with("C-") && !"hjklgGnN".contains(*key), "{} is on {key}", row.name);
            }
        }
    }

    #[test]
    fn the_nine_screens_have_their_numbers() {
        for (kind, number) in Kind::ALL[..9].iter().zip(1..) {
            let action = Action::named(kind.name()).unwrap();
            assert_eq!(action.row().keys[0], number.to_string());
            assert_eq!(action.screen(), Some(*kind));
        }
        assert_eq!(Action::Quit.screen(), None);
    }
}
