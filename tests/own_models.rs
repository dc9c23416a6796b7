//! A person's own autoencoder that misbehaves: `tests/fixtures/own_models` holds small ONNX graphs of the
//! input `x [any, 32, 16]`: `loop` ends on noughts and on nothing else, `nan` takes roots of negative numbers,
//! `maximum` gives one step for 32, `ident` gives back what it is given.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use foreshift::predict::failure::{open, open_whole};
use foreshift::predict::models::ModelError;
use foreshift::predict::models::runtime::check::{Trial, check_in_child};
use foreshift::predict::models::runtime::watched::DEADLINE;
use foreshift::predict::models::runtime::{Runtime, Tensor, locate, native::Native};
use foreshift::predict::rebuilt::Rebuilder;
use foreshift::predict::train::card::hash;
use foreshift::predict::train::failure::{HeadFile, file_name};
use foreshift::predict::train::registry::write_files;

/// ONNX Runtime, or `None` with a word where it is not installed.
fn native() -> Option<Native> {
    let configured = std::env::var_os("FORESHIFT_TEST_ONNXRUNTIME").map(PathBuf::from);
    match locate::find(configured.as_deref()) {
        Some(path) => Some(Native::open(&path).expect("a usable ONNX Runtime")),
        None => {
            println!("skipped: needs ONNX Runtime (pip install onnxruntime)");
            assert!(std::env::var("CI").is_err(), "CI installs ONNX Runtime");
            None
        }
    }
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/own_models").join(format!("{name}.onnx"))
}

fn trial(patience: Duration) -> Trial {
    let runtime = std::env::var_os("FORESHIFT_TEST_ONNXRUNTIME").map(PathBuf::from);
    Trial { program: env!("CARGO_BIN_EXE_foreshift").into(), runtime, patience }
}

#[test]
fn a_graph_that_never_ends_on_real_numbers_is_stopped() {
    let Some(native) = native() else { return };
    let bytes = std::fs::read(file("loop")).unwrap();
    let mut session = native.load(&bytes, "loop.onnx").unwrap();
    let windows = |x: f32| [Tensor::new([2, 32, 16], vec![x; 2 * 32 * 16])];
    assert_eq!(session.run(&windows(0.0)).unwrap()[0].shape, [2, 32, 16], "on noughts it ends");
    let begun = Instant::now();
    let error = session.run(&windows(1.0)).unwrap_err();
    assert!(matches!(error, ModelError::TooSlow { .. }), "{error}");
    assert!(begun.elapsed() < DEADLINE + Duration::from_secs(3), "{:?}", begun.elapsed());
}

#[test]
fn the_trial_finds_what_goes_wrong_on_real_numbers() {
    if native().is_none() {
        return;
    }
    let of = |name: &str| check_in_child(&trial(Duration::from_secs(60)), &file(name));
    let sound = of("ident").unwrap();
    assert_eq!(sound.inputs, sound.outputs.iter().map(|o| ("x".into(), o.1.clone())).collect::<Vec<_>>());
    let error = of("loop").unwrap_err().to_string();
    assert!(error.contains("no answer within"), "{error}");
    let error = of("nan").unwrap_err().to_string();
    assert!(error.contains("output y is not finite on ordinary numbers"), "{error}");
    let begun = Instant::now();
    let error = check_in_child(&trial(Duration::from_millis(200)), &file("loop")).unwrap_err().to_string();
    assert!(error.contains("no answer within") && begun.elapsed() < DEADLINE, "the child is killed: {error}");
}

#[test]
fn an_output_of_another_shape_is_refused_when_it_is_opened() {
    let Some(native) = native() else { return };
    let card = open(None).unwrap().autoencoder.unwrap().1;
    let of = |name: &str| Rebuilder::open(&native, name, &std::fs::read(file(name)).unwrap(), &card);
    of("ident").unwrap();
    let error = of("maximum").unwrap_err().to_string();
    assert!(
        error.contains("maximum: output y: expected the shape of its input, [any, 32, 16], got [any, 1, 16]"),
        "{error}"
    );
}

#[test]
fn the_shipped_autoencoder_stands_in_for_one_that_fails_its_trial() {
    if native().is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let shipped = open(None).unwrap();
    for (card, onnx) in shipped.cards.iter().zip(&shipped.files) {
        let name = file_name(card.within().unwrap());
        write_files(dir.path(), &HeadFile { name, onnx: onnx.clone(), card: card.clone() }).unwrap();
    }
    let put = |name: &str| {
        let (onnx, mut card) = (std::fs::read(file(name)).unwrap(), shipped.autoencoder.clone().unwrap().1);
        card.hash = hash(&onnx);
        write_files(dir.path(), &HeadFile { name: "autoencoder".into(), onnx, card }).unwrap();
        open_whole(Some(dir.path())).unwrap().tried(&trial(Duration::from_secs(60)))
    };
    let sound = put("ident");
    assert_eq!((sound.troubles.len(), sound.foreign), (0, Some(dir.path().join("autoencoder.onnx"))));
    let hangs = put("loop");
    assert_eq!(hangs.autoencoder, shipped.autoencoder);
    assert!(hangs.troubles[0].contains("the shipped autoencoder stands in"), "{:?}", hangs.troubles);
}
