//! What people see: every screen at three sizes in text, and the looks that carry meaning.

#[path = "support/console.rs"]
mod console;

use console::{Console, fleet};
use foreshift::protocol::Mode;
use foreshift::tui::theme::{Depth, Token};
use ratatui::style::{Color, Modifier};

const SIZES: [(u16, u16); 3] = [(80, 24), (110, 32), (200, 60)];

/// Every screen: its name and the keys that lead to it from the pulse.
const SCREENS: [(&str, &str); 18] = [
    ("pulse", ""),
    ("hosts", "2"),
    ("partitions", "3"),
    ("workloads", "4"),
    ("proposals", "5"),
    ("migrations", "6"),
    ("audit", "8"),
    ("models", "9"),
    ("partition", "gg<enter>"),
    ("proposal", "5<enter>"),
    ("commands", "5<enter>d"),
    ("migration", "6<enter>"),
    ("held", "6j<enter>"),
    ("approve", "5<enter>a"),
    ("evacuate_auto", "gge"),
    ("help", "?"),
    ("palette", ":fra-r6"),
    ("filter", "3/state=suspect"),
];

fn at(size: (u16, u16), keys: &str) -> Console {
    let mut console = Console::new(fleet(), size);
    console.run(keys);
    console
}

#[test]
fn every_screen_looks_as_recorded() {
    for (name, keys) in SCREENS {
        for size in SIZES {
            insta::assert_snapshot!(format!("{name}_{}x{}", size.0, size.1), at(size, keys).text());
        }
    }
}

/// The look of the first cell of `text` in the picture.
fn look_of(console: &Console, text: &str) -> (Color, Modifier) {
    let picture = console.picture();
    let width = picture.area.width as usize;
    for row in picture.content.chunks(width) {
        let line: String = row.iter().map(|c| c.symbol()).collect();
        if let Some(at) = line.find(text) {
            let cell = &row[line[..at].chars().count()];
            return (cell.fg, cell.modifier);
        }
    }
    panic!("{text:?} is not on the screen:\n{}", console.text());
}

#[test]
fn what_fails_is_red_and_what_is_well_is_not() {
    let console = at((110, 32), "");
    assert_eq!(look_of(&console, "✖  fra-r6-07/p2").0, Color::Red);
    assert_eq!(look_of(&console, "71 %").0, Color::Red);
    assert_eq!(look_of(&console, "▲  fra-r4-05/p1").0, Color::Yellow);
    assert_eq!(look_of(&console, "● healthy").0, Color::Green);
}

#[test]
fn the_selected_row_is_seen_without_any_colour() {
    let mut console = Console::dressed(fleet(), (110, 32), "dark", Depth::None);
    console.run("3jj");
    let picture = console.picture();
    assert!(picture.content.iter().all(|c| c.fg == Color::Reset && c.bg == Color::Reset));
    let reversed = picture.content.iter().filter(|c| c.modifier.contains(Modifier::REVERSED)).count();
    assert!(reversed >= 109, "{reversed} cells of the row are reversed");
    assert!(console.text().contains("▸"));
}

#[test]
fn every_state_is_a_glyph_and_a_word() {
    let mut console = at((200, 60), "3");
    let text = console.text() + &console.run("G").text();
    for word in ["✖", "▲", "?", "⇄", "○", "◐", "●"] {
        assert!(text.contains(word), "{word}");
    }
    for word in ["predictive failure", "suspect", "unknown", "migrating", "standby", "probation", "healthy"] {
        assert!(text.contains(word), "{word}");
    }
    let text = console.run("?").text();
    assert!(text.contains("ON THIS SCREEN (partitions)"), "{text}");
}

#[test]
fn what_is_not_possible_is_grey_and_says_why_when_pressed() {
    let mut console = at((110, 32), "6<enter>");
    let disabled = console.model.look()[Token::Disabled].fg.unwrap();
    assert_eq!(look_of(&console, "r resume").0, disabled);
    console.run("r");
    assert!(console.text().contains("resume: it is not held"), "{}", console.text());
    let mut console = at((110, 32), "5j<enter>");
    console.run("a");
    assert!(console.text().contains("approve: 2 of 2 concurrent moves are in use"), "{}", console.text());
    assert!(console.performed().is_empty());
}

#[test]
fn the_header_says_that_the_data_is_old_and_why() {
    let mut snapshot = fleet();
    snapshot.data.failing = Some((
        "connection refused (metrics.prod-eu:8086)".to_string(),
        console::NOW + foreshift::fleet::Span::seconds(20),
    ));
    snapshot.mode = Mode::ReadOnly;
    for size in SIZES {
        for keys in ["", "3", "5<enter>"] {
            let mut console = Console::new(snapshot.clone(), size);
            let text = console.run(keys).text();
            let header = text.lines().next().unwrap();
            assert!(header.contains("data 4 s old: connection refused"), "{header}");
            assert!(header.contains("READ-ONLY"), "{header}");
        }
    }
}

#[test]
fn nothing_that_can_be_done_disappears_at_80_by_24() {
    let console = at((80, 24), "5<enter>");
    for key in ["a approve", "x reject", "! stop all", "d commands", "esc back", "? help"] {
        assert!(console.text().contains(key), "{key}\n{}", console.text());
    }
    let console = at((80, 24), "6<enter>");
    for key in [". next step", "p hold", "P promote", "u undo", "esc back"] {
        assert!(console.text().contains(key), "{key}\n{}", console.text());
    }
}

#[test]
fn text_from_outside_cannot_steer_the_terminal() {
    let mut snapshot = fleet();
    std::sync::Arc::make_mut(&mut snapshot.alerts)[0].text = "boo\x1b[2J\u{202e}evil\r\n".to_string();
    snapshot.fleet_name = "x\x07y".to_string();
    let console = Console::new(snapshot, (110, 32));
    assert!(console.picture().content.iter().all(|c| !c.symbol().chars().any(char::is_control)));
    assert!(console.text().contains("boo·[2J·evil"), "{}", console.text());
}

#[test]
fn a_terminal_that_is_too_small_says_so() {
    assert!(Console::new(fleet(), (59, 24)).text().contains("too small: 59×24, needs 60×16"));
    Console::new(fleet(), (1, 1)).text();
}

#[test]
fn the_way_back_is_read_to_its_end_on_a_narrow_screen() {
    let mut fleet = fleet();
    let words = "a mirrored move to beta/7102, nothing is lost; the way back is proved while it is watched, then undone";
    let migrations = std::sync::Arc::make_mut(&mut fleet.migrations);
    let first = migrations.iter_mut().find(|m| m.id.0 == 977).expect("it runs");
    first.way_back = words.to_string();
    first.waiting = words.replace("way back", "other side");
    let mut console = Console::new(fleet, (80, 24));
    let shown = console.run("6<enter>").text();
    let told: Vec<&str> = shown.split_whitespace().collect();
    let told = told.join(" ");
    assert!(told.contains(words) && told.contains(&words.replace("way back", "other side")), "{shown}");
    assert!(shown.contains("WHAT HAPPENED"), "{shown}");
}
