//! Bytes that were tampered with.

use proptest::prelude::*;

use super::{Model, decode, encode};
use crate::fleet::rng::Random;
use crate::predict::models::FeatureMatrix;
use crate::predict::models::lstm::autoencoder::train_autoencoder;
use crate::predict::models::lstm::forecaster::train_forecaster;
use crate::predict::models::lstm::train::Training;
use crate::predict::models::runtime::Runtime;
use crate::predict::models::runtime::kernels::Kernels;
use crate::predict::models::trees::{Growth, grow};

fn small() -> Vec<Vec<u8>> {
    let mut random = Random::new(1);
    let rows = FeatureMatrix::from_values(3, (0..600).map(|_| random.normal() as f32).collect());
    let labels: Vec<f32> = (0..200).map(|r| f32::from(rows.row(r)[0] > 0.0)).collect();
    let growth = Growth { trees: 3, leaves: 5, ..Growth::default() };
    let forest = grow(&rows, &labels, &[], None, &growth);
    let linear = crate::predict::models::linear::fit(&rows, &labels, &[], 1.0);
    let training = Training { hidden: 2, epochs: 0, steps: 3, ..Training::default() };
    let autoencoder = train_autoencoder(rows.values(), 3, &training, &mut |_, _, _| {});
    let forecaster = train_forecaster((3, 2), &training, 0, &mut |_, _, _| {}, &mut |_, _, _| {});
    vec![
        encode(&Model::Blend(forest.clone(), linear)),
        encode(&Model::Classifier(forest)),
        encode(&Model::Autoencoder(autoencoder)),
        encode(&Model::Forecaster(forecaster)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn bytes_that_were_tampered_with_are_refused_or_run_but_never_panic(
        which in 0usize..4,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        cut in any::<prop::sample::Index>(),
        shorten in any::<bool>(),
    ) {
        let mut bytes = small().remove(which);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if shorten {
            bytes.truncate(cut.index(bytes.len()));
        }
        match Kernels.load(&bytes, "m.onnx") {
            Err(error) => prop_assert!(error.to_string().starts_with("m.onnx:")),
            Ok(mut session) => {
                let inputs: Vec<_> = session.inputs().iter().map(|slot| {
                    let shape: Vec<usize> = slot.shape.iter().map(|d| d.unwrap_or(2)).collect();
                    let count = shape.iter().product();
                    crate::predict::models::runtime::Tensor::new(shape, vec![0.5; count])
                }).collect();
                prop_assert!(session.run(&inputs).is_ok());
            }
        }
    }
}

#[test]
fn a_graph_that_says_another_thing_than_its_kind_is_foreign() {
    let model = decode(&small().remove(2), "m.onnx").unwrap();
    let Model::Autoencoder(inner) = &model else { panic!("an autoencoder") };
    let mut proto = <super::ModelProto as prost::Message>::decode(encode(&model).as_slice()).unwrap();
    proto.graph.as_mut().unwrap().node[6].op_type = Some("MatMul".into());
    let bytes = prost::Message::encode_to_vec(&proto);
    let error = decode(&bytes, "m.onnx").unwrap_err().to_string();
    assert!(error.contains("install ONNX Runtime"), "{error}");
    proto.metadata_props.clear();
    let error = decode(&prost::Message::encode_to_vec(&proto), "m.onnx").unwrap_err().to_string();
    assert!(error.contains("was not written by foreshift"), "{error}");
    assert_eq!(inner.steps, 3);
}
