//! What the console says when something has gone wrong: a host that died, a migration that needs a person.

#[path = "support/console.rs"]
mod console;

use std::sync::Arc;

use console::{Console, NOW, fleet};
use foreshift::fleet::{HealthScore, Phase, PredictionState, ServingState, ShownState, Span};
use foreshift::protocol::{Command, HostSure, PartitionView, Reply, Snapshot, StepState, StepView, Sure};
use foreshift::tui::model::Popup;
use foreshift::tui::update::Msg;

const SIZES: [(u16, u16); 3] = [(80, 24), (110, 32), (200, 60)];
const DEAD: &str = "ams-r3-01";

fn dies(p: &mut PartitionView) {
    p.serving = ServingState::Fenced;
    p.prediction = PredictionState::Unknown;
    p.shown = ShownState::Fenced;
    p.since = NOW - Span::minutes(4);
    p.health = None;
    p.failure.clear();
    p.because = "no answer from its system".to_string();
}

/// The fleet after a host has died.
fn after_a_death() -> Snapshot {
    let mut s = fleet();
    Arc::make_mut(&mut s.partitions).iter_mut().filter(|p| p.host.as_str() == DEAD).for_each(dies);
    Arc::make_mut(&mut s.hosts).iter_mut().filter(|h| h.id.as_str() == DEAD).for_each(|h| h.risk = None);
    s
}

fn line<'a>(text: &'a str, of: &str) -> &'a str {
    text.lines().find(|l| l.contains(of)).unwrap_or_else(|| panic!("{of:?} is not shown:\n{text}"))
}

#[test]
fn a_dead_host_is_the_first_thing_on_the_pulse() {
    for size in SIZES {
        let text = Console::new(after_a_death(), size).text();
        let at = |what: &str| text.find(what).unwrap_or_else(|| panic!("{what}\n{text}"));
        assert!(at("⊘  ams-r3-01/p1") < at("✖  fra-r6-07/p2"), "{text}");
        assert!(line(&text, "⊘  ams-r3-01/p1").contains("since 03:08: no"), "{text}");
        assert!(line(&text, "● healthy").contains("⊘ fenced 3"), "{text}");
        assert!(!text.contains("nothing: every partition"), "{text}");
    }
}

#[test]
fn nothing_is_at_risk_only_while_all_is_well() {
    let mut s = fleet();
    let all = Arc::make_mut(&mut s.partitions);
    for p in all.iter_mut() {
        (p.prediction, p.shown) = (PredictionState::Healthy, ShownState::Active);
        (p.health, p.instability) = (HealthScore::clamped(95.0), Some(1.0));
        p.failure.clear();
    }
    let text = Console::new(s.clone(), (80, 24)).text();
    assert!(text.contains("● nothing: every partition is within its own normal"), "{text}");
    Arc::make_mut(&mut s.partitions)[0].shown = ShownState::Decommissioned;
    let text = Console::new(s.clone(), (80, 24)).text();
    assert!(text.contains("1 decommissioned; every other partition"), "{text}");
    dies(&mut Arc::make_mut(&mut s.partitions)[1]);
    let text = Console::new(s, (80, 24)).text();
    assert!(!text.contains("every partition") && !text.contains("every other"), "{text}");
}

#[test]
fn a_healthy_partition_that_is_far_from_its_normal_is_listed() {
    let mut s = fleet();
    for p in Arc::make_mut(&mut s.partitions).iter_mut() {
        (p.prediction, p.shown) = (PredictionState::Healthy, ShownState::Active);
        (p.health, p.instability) = (HealthScore::clamped(95.0), Some(1.0));
        p.failure = vec![console::p(0.001); 3];
    }
    for (health, instability) in [(7.0, 1.0), (95.0, 7.6)] {
        let mut s = s.clone();
        let odd = &mut Arc::make_mut(&mut s.partitions)[4];
        (odd.health, odd.instability) = (HealthScore::clamped(health), Some(instability));
        odd.because = "disk latency ×6".to_string();
        let id = odd.id.to_string();
        for size in SIZES {
            let text = Console::new(s.clone(), size).text();
            assert!(line(&text, &id).contains(&format!("{health}")), "{text}");
            assert!(!text.contains("own normal") && !text.contains("nothing: "), "{text}");
        }
    }
    Arc::make_mut(&mut s.partitions)[4].health = HealthScore::clamped(64.0);
    let id = s.partitions[4].id.to_string();
    let text = Console::new(s, (110, 32)).text();
    assert!(text.contains(&format!("none is at risk; the least healthy is {id}, 64 of 100")), "{text}");
    assert!(!text.contains("every partition"), "{text}");
}

#[test]
fn what_does_not_fit_under_the_strip_is_what_nobody_is_in() {
    let mut s = after_a_death();
    for p in Arc::make_mut(&mut s.partitions).iter_mut() {
        if matches!(p.shown, ShownState::PredictiveFailure | ShownState::Unknown) {
            p.shown = ShownState::Active;
        }
    }
    let text = Console::new(s, (80, 24)).text();
    let legend = line(&text, "● healthy");
    for state in ["suspect 2", "fenced 3", "migrating 1", "probation 1"] {
        assert!(legend.contains(state), "{legend}");
    }
    assert!(!legend.contains("predictive failure 0"), "{legend}");
}

#[test]
fn by_risk_the_host_that_is_out_of_service_comes_first() {
    let mut console = Console::new(after_a_death(), (80, 24));
    let text = console.run("2").text();
    let first = text.lines().find(|l| l.contains("-r")).unwrap();
    assert!(first.contains(DEAD) && first.contains("fenced") && first.contains("out"), "{text}");
    assert!(!first.contains("0 %"), "nobody is sure of nothing: {first}");
}

#[test]
fn why_of_a_dead_partition_says_that_it_is_dead() {
    for keys in ["ggw", "gg<enter>w"] {
        let text = Console::new(after_a_death(), (110, 32)).run(keys).text();
        assert!(text.contains("fenced: out of service since 03:08:40"), "{text}");
        assert!(text.contains("why: no answer from its system"), "{text}");
        for untrue in ["no failure probability", "base:", "judged by"] {
            assert!(!text.contains(untrue), "{untrue}\n{text}");
        }
    }
}

/// The points that a text shows, with their sign.
fn points(text: &str) -> Vec<i32> {
    let signed = text.split_whitespace().filter(|word| word.starts_with(['+', '−']));
    signed.filter_map(|word| word.replace('−', "-").parse().ok()).collect()
}

/// The sentences of the popup that explains.
fn why(console: &Console) -> String {
    match &console.model.popup {
        Some(Popup::Why { sentences, .. }) => sentences.join("\n"),
        _ => panic!("nothing is explained:\n{}", console.text()),
    }
}

#[test]
fn the_reasons_that_are_shown_sum_to_the_number_over_them() {
    for size in SIZES {
        let text = Console::new(fleet(), size).run("gg<enter>").text();
        let why = text.split("WHY 71 % WITHIN 1 H").nth(1).unwrap_or_else(|| panic!("{text}"));
        let (failure, health) = why.split_once("HEALTH 31 OF 100").unwrap_or((why, ""));
        assert_eq!(points(failure).iter().sum::<i32>(), 71, "{text}");
        assert!(health.is_empty() || points(health).iter().sum::<i32>() == -69, "{text}");
        assert!(!points(&text).contains(&0), "{text}");
    }
}

#[test]
fn why_of_a_partition_names_what_counts_and_how_sure_it_is() {
    let text = why(Console::new(fleet(), (110, 32)).run("gg<enter>w"));
    assert!(text.contains("what makes up the 71 % within 1 h, in points:"), "{text}");
    assert!(text.contains("+34 disk write latency") && !text.contains("\n0 "), "{text}");
    assert!(
        text.contains("12 % within 15 m: +8 disk write latency, +5 I/O errors, 10 min, −1 all else"),
        "{text}"
    );
    assert!(text.contains("confidence 83 %: 90 % for how much is known of its normal"), "{text}");
    assert!(text.contains("calibrated on this fleet"), "{text}");
}

#[test]
fn why_of_a_host_names_its_partitions_and_how_sure_that_is() {
    let mut s = fleet();
    let host = Arc::make_mut(&mut s.hosts).iter_mut().find(|h| h.id.as_str() == "fra-r6-07").unwrap();
    let parts = Sure { known: 0.9, there: 1.0, calibrated: 0.8, inside: 1.0 };
    let known = host.partitions.len() as u32;
    let least = "fra-r6-07/p2".into();
    host.confidence = 0.72;
    host.sure = Some(HostSure { within: Span::hours(1), least, parts, known });
    let mut console = Console::new(s, (110, 32));
    let words = why(console.run("2ggw"));
    for sentence in [
        "within 1 h: the chance that at least one of its",
        "fra-r6-07/p2 71 %, health 31: disk latency ×6, I/O errors",
        "confidence 72 %: that of fra-r6-07/p2, the least sure of them",
        "80 % for a model that is calibrated on other fleets",
    ] {
        assert!(words.contains(sentence), "{sentence}\n{words}");
    }
    assert!(words.find("fra-r6-07/p2 71 %") < words.find("fra-r6-07/p1 "), "the likeliest first\n{words}");
    assert!(console.text().contains("why: fra-r6-07"), "{}", console.text());
    assert!(Console::new(fleet(), (110, 32)).run("2").text().lines().last().unwrap().contains("w why"));
}

/// The fleet with a migration that could not be switched back.
fn one_that_asks() -> Snapshot {
    let mut s = fleet();
    let m = &mut Arc::make_mut(&mut s.migrations)[1];
    m.phase = Phase::Hold;
    m.waiting = "could not be switched back: the source does not answer; the destination serves".to_string();
    m.can.promote = None;
    m.steps =
        vec![StepView { name: "redirect".to_string(), state: StepState::Done, evidence: String::new() }];
    s
}

#[test]
fn a_migration_that_needs_a_person_waits_for_you_with_its_keys() {
    for size in SIZES {
        let text = Console::new(one_that_asks(), size).text();
        let at = |what: &str| text.find(what).unwrap_or_else(|| panic!("{what}\n{text}"));
        assert!(at("WAITING FOR YOU") < at("M-978") && at("M-978") < at("P-218"), "{text}");
        let moving = text[at("MOVING")..].split("ALERTS").next().unwrap_or_default();
        assert!(!moving.contains("M-978"), "{text}");
        let row = line(&text, "M-978");
        for key in ["u undo", "r resume", "P keep"] {
            assert!(row.contains(key), "{key}: {row}");
        }
    }
    let text = Console::new(one_that_asks(), (110, 32)).run("kP").text();
    assert!(text.contains("keep M-978"), "{text}");
}

#[test]
fn why_of_a_migration_names_the_keys_that_lead_on() {
    let mut console = Console::new(one_that_asks(), (110, 32));
    let asked = Box::new(Command::Why { subject: "M-978".to_string() });
    let said = Box::new(Ok(Reply::Why { sentences: vec!["M-978 is in hold".to_string()] }));
    console.happens(Msg::Answer { asked, said });
    let text = console.text();
    for sentence in ["M-978 is in hold", "P keeps it at ams-r3-01/p1", "r lets it go on", "u undoes it: "] {
        assert!(text.contains(sentence), "{sentence}\n{text}");
    }
}

#[test]
fn the_pulse_offers_no_filter() {
    let mut console = Console::new(fleet(), (110, 32));
    let before = console.text();
    assert_eq!(console.run("/").text(), before);
    assert!(!console.text().contains("/ filter"), "{before}");
    let help = console.run("?").text();
    assert!(!help.contains("show only rows that match"), "{help}");
}

#[test]
fn the_safe_keys_of_a_migration_stay_in_the_footer_at_80_by_24() {
    for keys in ["6<enter>", "6j<enter>"] {
        let mut console = Console::new(one_that_asks(), (80, 24));
        let text = console.run(keys).text();
        let footer = text.lines().last().unwrap();
        let at = |what: &str| footer.find(what).unwrap_or_else(|| panic!("{what}: {footer}"));
        assert!(at("u undo") < at("w why") && at("w why") < at("P promote"), "{footer}");
        if keys == "6j<enter>" {
            assert!(at("r resume") < at("P promote"), "{footer}");
        }
    }
}
