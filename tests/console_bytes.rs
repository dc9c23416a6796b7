//! What goes over the wire: exactly what the picture says, as few bytes as that takes, none where
//! nothing changed; no size and no data that breaks a screen.

#[path = "support/console.rs"]
mod console;

use std::sync::Arc;

use console::{Console, fleet, large};
use foreshift::fleet::{HealthScore, PartitionId, Probability, Span, Timestamp};
use foreshift::protocol::Snapshot;
use foreshift::tui::terminal::FrugalBackend;
use foreshift::tui::theme::Depth;
use foreshift::tui::update::Msg;
use proptest::prelude::*;
use ratatui::buffer::Buffer;
use ratatui::style::{Color, Modifier};

/// What a terminal shows after the bytes must be the picture: text, colours, attributes.
fn assert_shows(parser: &vt100::Parser, picture: &Buffer) {
    let screen = parser.screen();
    let colour = |c: Color| match c {
        Color::Reset => vt100::Color::Default,
        Color::Rgb(r, g, b) => vt100::Color::Rgb(r, g, b),
        Color::Indexed(n) => vt100::Color::Idx(n),
        Color::Black => vt100::Color::Idx(0),
        Color::Red => vt100::Color::Idx(1),
        Color::Green => vt100::Color::Idx(2),
        Color::Yellow => vt100::Color::Idx(3),
        Color::Blue => vt100::Color::Idx(4),
        Color::Magenta => vt100::Color::Idx(5),
        Color::Cyan => vt100::Color::Idx(6),
        Color::Gray => vt100::Color::Idx(7),
        Color::DarkGray => vt100::Color::Idx(8),
        Color::LightRed => vt100::Color::Idx(9),
        Color::LightGreen => vt100::Color::Idx(10),
        Color::LightYellow => vt100::Color::Idx(11),
        Color::LightBlue => vt100::Color::Idx(12),
        Color::LightMagenta => vt100::Color::Idx(13),
        Color::LightCyan => vt100::Color::Idx(14),
        Color::White => vt100::Color::Idx(15),
    };
    for y in 0..picture.area.height {
        for x in 0..picture.area.width {
            let want = &picture[(x, y)];
            let got = screen.cell(y, x).expect("the cell is on the screen");
            if got.is_wide_continuation() {
                continue;
            }
            let text = if got.contents().is_empty() { " " } else { got.contents() };
            assert_eq!(text, want.symbol(), "text at {x},{y}");
            assert_eq!(got.fgcolor(), colour(want.fg), "foreground at {x},{y} {text:?}");
            assert_eq!(got.bgcolor(), colour(want.bg), "background at {x},{y} {text:?}");
            assert_eq!(got.bold(), want.modifier.contains(Modifier::BOLD), "bold at {x},{y} {text:?}");
            assert_eq!(
                got.inverse(),
                want.modifier.contains(Modifier::REVERSED),
                "reverse at {x},{y} {text:?}"
            );
            assert_eq!(got.underline(), want.modifier.contains(Modifier::UNDERLINED), "underline at {x},{y}");
        }
    }
}

fn terminal(columns: u16, rows: u16) -> vt100::Parser {
    let size = |n| std::num::NonZeroU16::new(n).expect("a terminal has a size");
    vt100::Parser::new(size(rows), size(columns), 0)
}

const WALK: [&str; 16] = [
    "", "j", "3", "jjjjj", "<enter>", "f", "<esc>", "/sus", "<esc>", "5", "<enter>", "a", "<esc>",
    "6<enter>", "?", "<esc>1",
];

#[test]
fn the_bytes_show_the_picture_in_every_depth_and_theme() {
    for (theme, depth) in [
        ("base16", Depth::Sixteen),
        ("dark", Depth::True),
        ("light", Depth::Indexed),
        ("high-contrast", Depth::Sixteen),
        ("dark", Depth::None),
    ] {
        for size in [(80, 24), (121, 41)] {
            let mut c = Console::dressed(fleet(), size, theme, depth);
            let mut backend = FrugalBackend::new();
            let mut parser = terminal(size.0, size.1);
            for keys in WALK {
                c.run(keys);
                let picture = c.picture();
                parser.process(backend.frame(&picture));
                assert_shows(&parser, &picture);
                assert!(backend.frame(&picture).is_empty());
            }
        }
    }
}

#[test]
fn bytes_stay_within_their_budgets_at_120_by_40() {
    let mut c = Console::new(fleet(), (120, 40));
    let mut backend = FrugalBackend::new();
    let mut spent = |c: &Console| backend.frame(&c.picture()).len();
    let first = spent(&c);
    assert!(first < 6_000, "first paint {first}");
    let mut next = fleet();
    next.sequence += 1;
    next.data.newest = Some(console::NOW - Span::seconds(5));
    c.happens(Msg::Snapshot(Arc::new(next)));
    let clock = spent(&c);
    assert!(clock <= 14, "a digit {clock}");
    c.run("3");
    spent(&c);
    c.run("j");
    let select = spent(&c);
    println!("first paint {first}, digit {clock}, selection {select}");
    assert!(select <= 600, "a move of the selection {select}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_picture_after_any_other_is_shown_exactly(
        cells in proptest::collection::vec((0u16..30, 0u16..6, "[ a-c●é]", 0u8..16, 0u8..8), 0..120),
        cut in 0usize..120,
    ) {
        let mut backend = FrugalBackend::new();
        let mut parser = terminal(30, 6);
        let mut picture = Buffer::empty(ratatui::layout::Rect::new(0, 0, 30, 6));
        for (i, (x, y, text, colour, mods)) in cells.into_iter().enumerate() {
            if i == cut {
                parser.process(backend.frame(&picture));
                assert_shows(&parser, &picture);
            }
            let style = ratatui::style::Style::new()
                .fg(if colour == 0 { Color::Reset } else { Color::Indexed(colour + 100) })
                .bg(if colour % 3 == 0 { Color::Reset } else { Color::Indexed(colour + 20) })
                .remove_modifier(Modifier::all())
                .add_modifier(Modifier::from_bits_truncate(u16::from(mods) & 0b101 | if mods & 2 > 0 { 0x40 } else { 0 }));
            picture.set_stringn(x, y, &text, 2, style);
        }
        parser.process(backend.frame(&picture));
        assert_shows(&parser, &picture);
    }
}

/// Data as no engine should send it.
fn hostile() -> impl Strategy<Value = Snapshot> {
    (0usize..40, any::<i64>(), any::<u64>(), prop_oneof![Just(f32::NAN), Just(f32::INFINITY), any::<f32>()])
        .prop_map(|(n, time, seed, value)| {
            let mut random = foreshift::fleet::rng::Random::new(seed);
            let mut s = fleet();
            s.at = Timestamp(time);
            s.next_cycle = Timestamp(time.wrapping_mul(31));
            s.windows.truncate(n % 4);
            let all = Arc::make_mut(&mut s.partitions);
            all.truncate(n);
            for p in all.iter_mut() {
                match random.below(6) {
                    0 => p.id = PartitionId::from("日本/パーティション\u{202e}\x1b[31m".to_string()),
                    1 => p.trend = vec![value; random.below(40)],
                    2 => p.failure = vec![Probability::clamped(random.unit()).unwrap(); random.below(6)],
                    3 => p.health = HealthScore::clamped(random.between(0.0, 100.0)),
                    4 => p.because = "x".repeat(random.below(500)),
                    _ => p.since = Timestamp(i64::MIN + 7),
                }
            }
            if seed % 3 == 0 {
                s.hosts = Arc::default();
                s.workloads = Arc::default();
            }
            for m in Arc::make_mut(&mut s.migrations) {
                m.started = Timestamp(random.bits() as i64);
                m.steps.truncate(random.below(5));
                m.left = Some(Span(random.bits() as i64));
            }
            for p in Arc::make_mut(&mut s.proposals) {
                p.expires = Timestamp(random.bits() as i64);
                p.moves.truncate(random.below(3));
                p.risk = (f64::NAN, f64::INFINITY);
            }
            s
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn no_size_and_no_data_break_a_screen(snapshot in hostile(), size in (1u16..300, 1u16..100), keys in "[1-9jkGa-z:/?!.<> PEQ]{0,24}") {
        let mut c = Console::new(snapshot.clone(), size);
        for key in keys.chars() {
            c.press(foreshift::tui::key::Key::char(key));
        }
        c.picture();
        c.run("<esc><esc>3<enter>");
        c.picture();
        c.happens(Msg::Snapshot(Arc::new(Snapshot::default())));
        c.picture();
        c.happens(Msg::Resize(size.1, size.0.min(100)));
        c.run("<enter>");
        c.picture();
    }
}

#[test]
fn every_screen_survives_every_small_size() {
    for keys in [
        "",
        "2",
        "3",
        "4",
        "5",
        "6",
        "7",
        "8",
        "9",
        "gg<enter>",
        "5<enter>",
        "6<enter>",
        "5<enter>a",
        "?",
        ":x",
        "m",
    ] {
        let mut c = Console::new(fleet(), (110, 32));
        c.run(keys);
        for columns in (1..=130).step_by(9) {
            for rows in (1..=40).step_by(3) {
                c.happens(Msg::Resize(columns, rows));
                c.picture();
            }
        }
    }
}

#[test]
fn ten_thousand_partitions_fit_on_one_screen() {
    let c = Console::new(large(10_000), (110, 32));
    let text = c.text();
    assert!(text.contains("a cell is the worst of"), "{text}");
    assert!(text.contains("WAITING FOR YOU"), "{text}");
}
