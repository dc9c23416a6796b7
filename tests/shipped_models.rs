//! The models that come with the program.

use foreshift::cli::train::{train_shipped, write_shipped};

/// Makes `assets/models` anew: `FORESHIFT_SHIP=1 cargo test --release --test shipped_models`, the same
/// as `foreshift train --shipped --out assets/models`.
#[test]
fn shipped_models_can_be_made_anew() {
    if std::env::var("FORESHIFT_SHIP").is_err() {
        println!("skipped: needs FORESHIFT_SHIP=1, and writes assets/models");
        return;
    }
    let mut last = String::new();
    let files = train_shipped(900, 1, &mut |p| {
        if p.what != last {
            println!("{}", p.what);
            last = p.what;
        }
    })
    .unwrap();
    for file in &files {
        println!(
            "{}: {} bytes, {}\n{:?}\n{:?}",
            file.name,
            file.onnx.len(),
            file.card.chosen,
            file.card.quality,
            file.card.measures
        );
    }
    write_shipped(&files, std::path::Path::new("assets/models")).unwrap();
}
