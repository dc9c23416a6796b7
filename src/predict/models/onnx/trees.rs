//! Forests as ONNX tree ensembles (`ai.onnx.ml` version 3). Branches are `BRANCH_LEQ` on 32-bit
//! thresholds; covers stand in `nodes_hitrates`.

use super::build::{Reader, float_list, int, int_list, node, text, text_list};
use super::proto::{AttributeProto, NodeProto};
use crate::predict::models::error::ModelError;
use crate::predict::models::trees::{Forest, Node, Tree};

/// The node `TreeEnsembleRegressor` or `TreeEnsembleClassifier` of a forest.
pub(super) fn ensemble(forest: &Forest, op: &str, input: &str, outputs: &[&str]) -> NodeProto {
    let all = || {
        forest
            .trees
            .iter()
            .enumerate()
            .flat_map(|(t, tree)| tree.nodes.iter().enumerate().map(move |(n, node)| (t, n, node)))
    };
    let ints = |of: &dyn Fn(usize, usize, &Node) -> i64| -> Vec<i64> {
        all().map(|(t, n, node)| of(t, n, node)).collect()
    };
    let leaves = || all().filter(|(_, _, node)| node.is_leaf());
    let mode = |node: &Node| if node.is_leaf() { b"LEAF".to_vec() } else { b"BRANCH_LEQ".to_vec() };
    let classifier = op == "TreeEnsembleClassifier";
    let (part, post) = if classifier { ("class", "LOGISTIC") } else { ("target", "NONE") };
    let mut attributes: Vec<AttributeProto> = vec![
        float_list("base_values", vec![forest.base]),
        int_list("nodes_treeids", ints(&|t, _, _| t as i64)),
        int_list("nodes_nodeids", ints(&|_, n, _| n as i64)),
        int_list("nodes_featureids", ints(&|_, _, node| i64::from(node.feature))),
        float_list("nodes_values", all().map(|(_, _, node)| node.threshold).collect()),
        text_list("nodes_modes", all().map(|(_, _, node)| mode(node)).collect()),
        int_list("nodes_truenodeids", ints(&|_, _, node| i64::from(node.left))),
        int_list("nodes_falsenodeids", ints(&|_, _, node| i64::from(node.right))),
        int_list("nodes_missing_value_tracks_true", ints(&|_, _, node| i64::from(node.missing_left))),
        float_list("nodes_hitrates", all().map(|(_, _, node)| node.cover).collect()),
        int_list(&format!("{part}_treeids"), leaves().map(|(t, _, _)| t as i64).collect()),
        int_list(&format!("{part}_nodeids"), leaves().map(|(_, n, _)| n as i64).collect()),
        int_list(&format!("{part}_ids"), leaves().map(|_| 0).collect()),
        float_list(&format!("{part}_weights"), leaves().map(|(_, _, node)| node.value).collect()),
        text("post_transform", post),
    ];
    if classifier {
        attributes.push(int_list("classlabels_int64s", vec![0, 1]));
    } else {
        attributes.push(int("n_targets", 1));
        attributes.push(text("aggregate_function", "SUM"));
    }
    node(op, &[input], outputs, attributes)
}

/// The forest of such a node.
pub(super) fn forest_of(reader: &Reader<'_>, op: &str, width: usize) -> Result<Forest, ModelError> {
    let node = reader.node(op)?;
    let ints = |name: &str| reader.attribute(node, name).map(|a| a.ints.as_slice());
    let floats = |name: &str| reader.attribute(node, name).map(|a| a.floats.as_slice());
    let part = if op == "TreeEnsembleClassifier" { "class" } else { "target" };
    let trees = ints("nodes_treeids")?;
    let count = trees.len();
    let (ids, features) = (ints("nodes_nodeids")?, ints("nodes_featureids")?);
    let (left, right) = (ints("nodes_truenodeids")?, ints("nodes_falsenodeids")?);
    let missing = ints("nodes_missing_value_tracks_true")?;
    let (thresholds, covers) = (floats("nodes_values")?, floats("nodes_hitrates")?);
    for (name, len) in [
        ("nodes_nodeids", ids.len()),
        ("nodes_featureids", features.len()),
        ("nodes_truenodeids", left.len()),
        ("nodes_falsenodeids", right.len()),
        ("nodes_missing_value_tracks_true", missing.len()),
        ("nodes_values", thresholds.len()),
        ("nodes_hitrates", covers.len()),
    ] {
        if len != count {
            return Err(reader.wrong(format!("{count} nodes, but {name} has {len}")));
        }
    }
    let small = |x: i64, name: &str| {
        u32::try_from(x).map_err(|_| reader.wrong(format!("{name}: {x} is out of range")))
    };
    let base = floats("base_values")?.first().copied().unwrap_or(0.0);
    let mut forest = Forest { width, base, trees: Vec::new() };
    let mut starts = Vec::new();
    for at in 0..count {
        if ids[at] == 0 && trees[at] == forest.trees.len() as i64 {
            forest.trees.push(Tree::default());
            starts.push(at);
        }
        let Some(tree) = forest.trees.last_mut() else {
            return Err(reader.foreign("its trees do not begin at 0"));
        };
        if ids[at] != tree.nodes.len() as i64 {
            return Err(reader.foreign("its nodes are not in order"));
        }
        tree.nodes.push(Node {
            feature: small(features[at], "nodes_featureids")?,
            threshold: thresholds[at],
            left: small(left[at], "nodes_truenodeids")?,
            right: small(right[at], "nodes_falsenodeids")?,
            missing_left: missing[at] != 0,
            value: 0.0,
            cover: covers[at],
        });
    }
    let (leaf_trees, leaf_nodes) = (ints(&format!("{part}_treeids"))?, ints(&format!("{part}_nodeids"))?);
    let weights = floats(&format!("{part}_weights"))?;
    if leaf_trees.len() != weights.len() || leaf_nodes.len() != weights.len() {
        return Err(reader.wrong(format!("{} leaves, but {} values", leaf_nodes.len(), weights.len())));
    }
    for ((&t, &n), &weight) in leaf_trees.iter().zip(leaf_nodes).zip(weights) {
        let (t, n) = (small(t, "tree")? as usize, small(n, "leaf")? as usize);
        let Some(node) = forest.trees.get_mut(t).and_then(|tree| tree.nodes.get_mut(n)) else {
            return Err(reader.wrong(format!("a value for node {n} of tree {t}, which is not there")));
        };
        node.value = weight;
    }
    forest.check().map_err(|detail| reader.wrong(detail))?;
    Ok(forest)
}
