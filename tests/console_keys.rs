//! What keys do: scripts of keys against the model, what is sent to the engine, what never is.

#[path = "support/console.rs"]
mod console;

use std::sync::Arc;

use console::{Console, NOW, fleet};
use foreshift::fleet::{MigrationId, Phase, ProposalId};
use foreshift::protocol::{Command, Mode, Refusal, Reply, Role, Snapshot, StepState};
use foreshift::tui::action::Kind;
use foreshift::tui::key::{Code, Key};
use foreshift::tui::model::{Popup, Screen};
use foreshift::tui::terminal::input::Input;
use foreshift::tui::update::{Effect, Msg};
use proptest::prelude::*;

fn console() -> Console {
    Console::new(fleet(), (110, 32))
}

#[test]
fn a_proposal_is_approved_by_keys_with_the_plan_that_was_shown() {
    let mut c = console();
    c.run("<enter>");
    assert_eq!(*c.model.screen(), Screen::Proposal(ProposalId(218)));
    c.run("a");
    assert!(c.text().contains("approve P-218?"));
    c.run("y<enter>");
    let plan = "9f3ca1d07be24c55a0e1".to_string();
    assert_eq!(c.performed(), [Command::Approve { proposal: ProposalId(218), plan, reason: String::new() }]);
    assert!(c.model.popup.is_none());
}

#[test]
fn cancel_is_the_default() {
    let mut c = console();
    c.run("<enter>a<enter>");
    assert!(c.model.popup.is_none());
    assert!(c.performed().is_empty());
}

#[test]
fn the_canary_is_stepped_held_promoted_and_undone_by_keys() {
    let id = MigrationId(977);
    let cases = [
        (".<enter>", Command::NextStep { migration: id }),
        ("p<enter>", Command::Pause { migration: id }),
        ("Py<enter>", Command::Promote { migration: id }),
        ("uy<enter>", Command::RollBack { migration: id }),
    ];
    for (keys, command) in cases {
        let mut c = console();
        c.run("6<enter>").run(keys);
        assert_eq!(c.performed(), [command], "{keys}");
    }
}

#[test]
fn after_the_cut_promoting_says_that_it_stays_and_undoing_wants_its_name_typed() {
    let id = MigrationId(977);
    let mut fleet = fleet();
    let held = Arc::make_mut(&mut fleet.migrations).iter_mut().find(|m| m.id == id).unwrap();
    held.phase = Phase::Hold;
    for step in &mut held.steps {
        let ahead = step.name.starts_with("watch") || step.name == "retire";
        step.state = if ahead { StepState::Ahead } else { StepState::Done };
    }
    (held.can.promote, held.can.roll_back) = (None, None);
    let mut c = Console::new(fleet, (110, 32));
    c.run("6<enter>P");
    let text = c.text();
    assert!(text.contains("keep M-977?") && text.contains("which serves"), "{text}");
    c.run("y<enter>");
    assert_eq!(c.performed(), [Command::Promote { migration: id }]);
    c.run("u");
    assert!(c.text().contains("Ownership goes back to the source"), "{}", c.text());
}

#[test]
fn a_rejection_carries_its_reason() {
    let mut c = console();
    c.run("<enter>xnot tonight<enter>");
    let reason = "not tonight".to_string();
    assert_eq!(c.performed(), [Command::Reject { proposal: ProposalId(218), reason }]);
}

#[test]
fn one_key_and_enter_stop_everything_from_every_screen() {
    for keys in ["", "2", "3", "4", "5", "6", "7", "8", "9", "<enter>", "gg<enter>"] {
        let mut c = console();
        c.run(keys).run("!<enter>");
        assert_eq!(c.performed(), [Command::StopEverything], "{keys:?}");
    }
}

#[test]
fn the_models_before_come_back_by_key_where_there_are_any() {
    let mut c = console();
    c.run("9uy<enter>");
    assert!(c.performed().is_empty(), "the shipped models have none before them");
    let mut snapshot = (*c.model.snapshot).clone();
    snapshot.sequence += 1;
    snapshot.models.way_back = Some("version 3".into());
    snapshot.models.shadow = vec!["version 3 runs beside version 4".into()];
    c.happens(Msg::Snapshot(Arc::new(snapshot)));
    c.run("9u");
    assert!(c.text().contains("said by version 3"), "{}", c.text());
    c.run("y<enter>");
    assert_eq!(c.performed(), [Command::RevertModels]);
    assert!(c.text().contains("version 3 runs beside version 4"), "{}", c.text());
}

#[test]
fn raising_to_automatic_needs_the_name_of_the_fleet() {
    let mut c = console();
    c.run("my<enter>");
    assert!(c.performed().is_empty());
    c.run("<C-u>prod-eu<enter>");
    assert_eq!(c.performed(), [Command::SetMode { mode: Mode::Auto }]);
}

#[test]
fn escape_never_quits_and_q_goes_back() {
    let mut c = console();
    c.run("3<enter><esc><esc><esc><esc>qqq");
    assert_eq!(*c.model.screen(), Screen::Top(Kind::Pulse));
    assert!(!c.effects.contains(&Effect::Quit));
    // Migrations run in the embedded engine: leaving asks.
    c.run("Q");
    assert!(matches!(c.model.popup, Some(Popup::Confirm(_))));
    c.run("y<enter>");
    assert!(c.effects.contains(&Effect::Quit));
}

#[test]
fn control_c_twice_leaves_and_once_says_so() {
    let mut c = console();
    c.model.engine = foreshift::tui::Engine::Remote;
    c.run("<C-c>");
    assert!(!c.effects.contains(&Effect::Quit));
    assert!(c.text().contains("press C-c again to leave"));
    c.run("<C-c>");
    assert!(c.effects.contains(&Effect::Quit));
}

#[test]
fn a_proposal_that_comes_is_under_the_cursor_of_who_has_not_moved_it() {
    let mut before = fleet();
    let proposals = std::mem::take(&mut before.proposals);
    before.migrations = Arc::default();
    let mut after = before.clone();
    (after.sequence, after.proposals) = (before.sequence + 1, proposals);
    for (moved, lands) in [("", true), ("j", false)] {
        let mut c = Console::new(before.clone(), (110, 32));
        c.run(moved);
        assert!(c.model.chosen_partition().is_some());
        c.happens(Msg::Snapshot(Arc::new(after.clone())));
        assert_eq!(c.model.chosen_proposal().is_some(), lands, "after {moved:?}");
    }
}

#[test]
fn from_an_overtaken_proposal_one_key_leads_to_the_one_in_its_place() {
    let mut s = fleet();
    {
        let proposals = Arc::make_mut(&mut s.proposals);
        let mut old = proposals[0].clone();
        (old.id, old.open, old.status) = (ProposalId(200), false, "stale: the plan changed".to_string());
        proposals.push(old);
    }
    let mut c = Console::new(s, (110, 32));
    c.run(":P-200<enter>");
    assert_eq!(*c.model.screen(), Screen::Proposal(ProposalId(200)));
    assert!(c.text().contains("enter: P-218"), "{}", c.text());
    c.run("<enter>");
    assert_eq!(*c.model.screen(), Screen::Proposal(ProposalId(218)));
    c.run("<esc>");
    assert_eq!(*c.model.screen(), Screen::Top(Kind::Pulse));
}

#[test]
fn one_looks_back_changes_nothing_there_and_comes_back_to_now() {
    let mut c = console();
    for (sequence, seconds) in [(5_000, 10), (5_001, 20)] {
        let mut next = fleet();
        next.sequence = sequence;
        next.at += foreshift::fleet::Span::seconds(seconds);
        next.next_cycle += foreshift::fleet::Span::seconds(seconds);
        c.happens(Msg::Snapshot(Arc::new(next)));
    }
    let now = c.model.snapshot.sequence;
    c.run("<<");
    assert!(c.model.snapshot.sequence < now && c.text().contains("20 s AGO"), "{}", c.text());
    c.run("5a");
    assert!(c.model.popup.is_none(), "nothing is decided in the past");
    assert!(c.text().contains("this is how it was 20 s ago"), "{}", c.text());
    // What comes in meanwhile waits; the way forward ends at now.
    let mut next = fleet();
    next.sequence = 5_002;
    next.at += foreshift::fleet::Span::seconds(30);
    next.next_cycle += foreshift::fleet::Span::seconds(30);
    c.happens(Msg::Snapshot(Arc::new(next)));
    c.run(">>>");
    assert_eq!(c.model.snapshot.sequence, 5_002);
    assert!(!c.model.frozen && !c.text().contains("AGO"));
    // A stop is about now, wherever one looks.
    c.run("<").run("!<enter>");
    assert_eq!(c.performed(), [Command::StopEverything]);
    assert!(!c.model.frozen);
}

#[test]
fn a_plan_over_several_hosts_needs_its_name_and_a_reason() {
    let mut s = fleet();
    {
        let p = &mut Arc::make_mut(&mut s.proposals)[0];
        let mut other = p.moves[0].clone();
        other.source = "ams-r1-01/p1".into();
        p.moves.push(other);
    }
    let mut c = Console::new(s, (110, 32));
    c.run("<enter>ay<enter>");
    assert!(c.performed().is_empty());
    c.run("<C-u>P-218<enter>");
    assert!(c.performed().is_empty(), "a name alone is not enough");
    c.run("rack loses power<enter>");
    let sent = c.performed();
    assert!(
        matches!(&sent[..], [Command::Approve { reason, .. }] if reason == "rack loses power"),
        "{sent:?}"
    );
}

#[test]
fn the_selection_stays_on_the_same_thing_when_the_order_changes() {
    let mut c = console();
    c.run("3jjj");
    let chosen = c.model.chosen_partition().unwrap().id.clone();
    let mut next = fleet();
    next.sequence += 1;
    Arc::make_mut(&mut next.partitions).iter_mut().for_each(|p| p.failure.reverse());
    c.happens(Msg::Snapshot(Arc::new(next)));
    assert_eq!(c.model.chosen_partition().unwrap().id, chosen);
}

#[test]
fn filters_take_words_fields_and_numbers_and_escape_brings_the_old_one_back() {
    let mut c = console();
    c.run("3/state=suspect p1h>8%<enter>");
    let list = c.model.list(foreshift::tui::field::ListKind::Partitions);
    assert_eq!(list.rows.len(), 1);
    assert_eq!(c.model.chosen_partition().unwrap().id.as_str(), "fra-r4-05/p1");
    c.run("/ helth<9");
    assert!(c.text().contains("did you mean health?"), "{}", c.text());
    c.run("<esc>");
    assert_eq!(c.model.list(foreshift::tui::field::ListKind::Partitions).filter, "state=suspect p1h>8%");
    c.run("\\");
    assert_eq!(
        c.model.list(foreshift::tui::field::ListKind::Partitions).rows.len(),
        fleet().partitions.len()
    );
}

#[test]
fn the_palette_goes_anywhere_by_name() {
    let mut c = console();
    c.run(":m-977<enter>");
    assert_eq!(*c.model.screen(), Screen::Migration(MigrationId(977)));
    c.run(":hosts<enter>");
    assert_eq!(*c.model.screen(), Screen::Top(Kind::Hosts));
    c.run(":theme dark<enter>");
    assert_eq!(c.model.look().name, "dark");
    c.run(":fra-r6-07/p2<enter>");
    assert_eq!(c.model.screen().kind(), Kind::Partition);
}

#[test]
fn what_was_stopped_is_released_by_that_name_from_the_palette() {
    use foreshift::tui::palette::offers;
    let running = console();
    assert!(offers(&running.model, "release").iter().all(|o| o.name != "release"), "nothing stands still");
    let stopped = Snapshot { stopped: Some(("ana".to_string(), NOW)), ..fleet() };
    let mut c = Console::new(stopped, (110, 32));
    c.run(":release<enter>");
    assert!(c.text().contains("ana stopped everything"), "{}", c.text());
}

#[test]
fn an_empty_host_is_taken_out_of_service_by_name_with_a_reason_and_one_that_holds_work_is_not() {
    let mut fleet = fleet();
    let rows = Arc::make_mut(&mut fleet.partitions);
    let (busy, empty) = (rows[0].host.clone(), rows.last().unwrap().host.clone());
    for row in rows.iter_mut() {
        row.workloads = u32::from(row.host == busy);
    }
    let mut c = Console::new(fleet, (110, 32));
    c.run(&format!("2/{busy}<enter>:decommission<enter>"));
    assert!(c.text().contains("holds work: evacuate it first"), "{}", c.text());
    c.run(&format!("\\\\/{empty}<enter>:decommission<enter>"));
    let text = c.text();
    assert!(text.contains(&format!("decommission {empty}?")) && text.contains("--undo"), "{text}");
    c.run("sold<enter>");
    let subject = empty.to_string();
    assert_eq!(c.performed(), [Command::Decommission { subject, reason: "sold".into() }]);
}

#[test]
fn pasted_text_never_triggers_an_action() {
    let mut c = console();
    c.run("<enter>");
    c.happens(Msg::Input(Input::Paste("ay\r!\ry\r".to_string())));
    c.run("a");
    c.happens(Msg::Input(Input::Paste("y\r".to_string())));
    c.run("<enter>");
    assert!(c.performed().is_empty());
}

#[test]
fn answers_and_refusals_are_said() {
    let mut c = console();
    let asked = Box::new(Command::StopEverything);
    let said = Ok(Reply::Done { said: "everything stopped".to_string() });
    c.happens(Msg::Answer { asked: asked.clone(), said: Box::new(said) });
    assert!(c.text().contains("✔ everything stopped"));
    let said = Err(Refusal::NotNow { reason: "the leader changed".to_string() });
    c.happens(Msg::Answer { asked, said: Box::new(said) });
    assert!(c.text().contains("✖ not now: the leader changed"));
}

#[test]
fn ages_grow_though_no_snapshot_comes_and_nothing_ticks_faster_than_that() {
    let mut c = console();
    let before = c.picture();
    c.happens(Msg::Tick);
    assert_eq!(c.picture(), before, "half a second changes nothing");
    for _ in 0..80 {
        c.happens(Msg::Tick);
    }
    let text = c.text();
    assert!(text.contains("data 44 s") && text.contains("engine silent 40 s"), "{text}");
}

#[test]
fn a_viewer_is_told_what_role_it_takes() {
    let mut c = console();
    c.model.actor.role = Role::Viewer;
    c.run("<enter>a");
    assert!(c.text().contains("approve: this needs the role operator"), "{}", c.text());
    assert!(c.model.popup.is_none());
}

fn any_key() -> impl Strategy<Value = Key> {
    prop_oneof![
        8 => (0x20u8..0x7f).prop_map(|b| Key::char(b as char)),
        1 => (b'a'..=b'z').prop_map(|b| Key::ctrl(b as char)),
        3 => Just(Key::plain(Code::Enter)),
        2 => Just(Key::char('y')),
        1 => Just(Key::plain(Code::Tab)),
        1 => Just(Key::plain(Code::Down)),
        1 => Just(Key::plain(Code::PageDown)),
        1 => Just(Key::plain(Code::Esc)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn no_keys_change_anything_in_read_only_mode(keys in proptest::collection::vec(any_key(), 0..160)) {
        let mut snapshot = fleet();
        snapshot.mode = Mode::ReadOnly;
        let mut c = Console::new(snapshot, (80, 24));
        for key in keys {
            c.press(key);
        }
        prop_assert!(c.performed().is_empty());
        let asks_for_change = |e: &Effect| matches!(e, Effect::Look(command) if command.is_mutating());
        prop_assert!(!c.effects.iter().any(asks_for_change));
    }

    #[test]
    fn no_single_key_ever_changes_anything(key in any_key(), screen in 0usize..9) {
        let mut c = console();
        c.run(&(screen + 1).to_string());
        c.press(key);
        prop_assert!(c.performed().is_empty());
    }
}
