use super::*;

const HORIZON: i32 = 3;

/// 80 drives over 25 days, of five models: the first fifty fail one after the other from day 4 on, with
/// sectors remapped on the five days before; three more look alike for a while and live, two go away.
fn text() -> String {
    let mut out = String::from(
        "date,serial_number,model,capacity_bytes,failure,smart_1_raw,smart_5_raw,smart_9_raw,smart_194_raw,smart_197_raw\n",
    );
    for drive in 0..80 {
        let fails = (drive < 50).then_some(4 + drive * 8 % 21);
        let ends = if (55..57).contains(&drive) { 12 } else { fails.unwrap_or(24) };
        for day in 0..=ends {
            let ill = fails.is_some_and(|f| f - day <= 5) || ((50..53).contains(&drive) && day % 9 > 4);
            let (failed, remapped) = (u8::from(fails == Some(day)), if ill { 40 + drive } else { 0 });
            out.push_str(&format!(
                "2023-01-{:02},S{drive},M{},4000787030016,{failed},{},{remapped},{},{},0\n",
                day + 1,
                drive % 5,
                drive * 31 % 17,
                drive * 100 + day * 24,
                20 + drive % 9
            ));
        }
    }
    out
}

fn folder(text: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("drives.csv"), text).unwrap();
    folder
}

fn few() -> Candidates {
    let mut few = candidates(1);
    few.forests[0].trees = 10;
    few
}

#[test]
fn nothing_after_the_eve_of_the_test_changes_what_is_learnt() {
    let table = table::read(folder(&text()).path()).unwrap();
    let split = Split::of(&table, HORIZON);
    let learnt = format!("{:?}", Learnt::of(&table, &split, &few()).unwrap());
    let mut erased = table.clone();
    for drive in &mut erased.drives {
        drive.days.retain(|d| d.day < *split.test.start());
        drive.failed = drive.failed.filter(|f| f < split.test.start());
    }
    assert_ne!(format!("{:?}", table.drives), format!("{:?}", erased.drives));
    assert!(learnt == format!("{:?}", Learnt::of(&erased, &split, &few()).unwrap()), "the test told");
    erased.drives.retain(|d| !d.days.is_empty() && d.days[0].day <= *split.known.end());
    assert!(learnt == format!("{:?}", Learnt::of(&erased, &split, &few()).unwrap()), "later drives told");
}

#[test]
fn any_order_of_rows_gives_the_same_report() {
    let text = text();
    let (header, rows) = text.split_once('\n').unwrap();
    let mut by_date: Vec<&str> = rows.lines().rev().collect();
    by_date.sort_by_key(|row| &row[..10]);
    let told = |text: &str| {
        let (mut series, _) = run(folder(text).path(), HORIZON as usize, 1).unwrap();
        series[0].measures.retain(|name, _| name != "train_s" && name != "score_points_per_s");
        series
    };
    let series = told(&text);
    assert_eq!(series, told(&format!("{header}\n{}\n", by_date.join("\n"))));
    let m = &series[0].measures;
    assert!(m["auprc"] > 0.5 && m["auprc_low"] <= m["auprc"] && m["auprc"] <= m["auprc_high"], "{m:?}");
    assert!(m["units"] > 0.0 && m["units_caught"] > 0.0, "{m:?}");
}

#[test]
fn an_action_on_a_drive_that_lives_on_is_false_and_one_on_a_drive_that_left_is_unknown() {
    let table = table::read(folder(&text()).path()).unwrap();
    let models = Models::of(&table, 24);
    let rows = Rows::of(&table, &models, 10..=16, HORIZON, 24);
    let tracks = rows.tracks(&vec![1.0; rows.labels.len()], 13);
    let done = super::super::actions::act(&tracks, 0.5, HORIZON as usize);
    assert_eq!(done.actions, tracks.iter().filter(|t| t.run_in < t.probabilities.len()).count());
    assert_eq!(done.units_caught, done.units, "each had its days before the test");
    assert!(done.false_actions >= 28, "{done:?}");
    let rows = Rows::of(&table, &models, 10..=12, HORIZON, 24);
    let done = super::super::actions::act(&rows.tracks(&vec![1.0; rows.labels.len()], 12), 0.5, 3);
    assert_eq!(done.unknown_actions, 2, "two drives left without having failed");
}

#[test]
fn a_test_without_a_failure_says_so_and_gives_no_figure_that_needs_one() {
    let quiet = |line: &str| {
        let later = line.starts_with("2023-01-2") || line.starts_with("2023-01-3");
        if later { line.replace(",4000787030016,1,", ",4000787030016,0,") } else { line.to_owned() }
    };
    let text: Vec<String> = text().lines().map(quiet).collect();
    let (series, notes) = run(folder(&text.join("\n")).path(), HORIZON as usize, 1).unwrap();
    assert!(notes.iter().any(|n| n.starts_with("no drive fails within 3 days of 2023-01-20")), "{notes:?}");
    let m = &series[0].measures;
    assert!(
        ["auprc", "auprc_low", "recall"].iter().all(|name| m[*name].is_nan()) && !m["false_actions"].is_nan(),
        "{m:?}"
    );
}

#[test]
fn too_few_days_a_gap_and_nothing_to_learn_are_told_apart() {
    let said = |text: &str, horizon: usize| run(folder(text).path(), horizon, 1).unwrap_err().to_string();
    let text = text();
    let error = said(&text, 10);
    assert!(
        error.contains("25 days, 2023-01-01 to 2023-01-25; at a horizon of 10 days at least 31"),
        "{error}"
    );
    let gap: Vec<&str> = text.lines().filter(|l| !("2023-01-20".."2023-01-23").contains(&&l[..10])).collect();
    let error = said(&gap.join("\n"), 3);
    assert!(error.contains("no rows of 2023-01-20 to 2023-01-22, the days of the test"), "{error}");
    let error = said(&text.replace(",4000787030016,1,", ",4000787030016,0,"), 3);
    assert!(error.contains("drives that fail within 3 days of 2023-01-01 to 2023-01-16"), "{error}");
}
