//! `BTrees.Length`: what both added is added to what both began with.

use crate::{Failure, States};
use zeolith_pickle::state::{Graph, Node, NodeId};

/// `committed + new - old`, in Python's arithmetic.
pub(crate) fn length(graph: &mut Graph, states: States) -> Result<NodeId, Failure> {
    let [committed, new, old] = [states.committed, states.new, states.old].map(|id| graph.node(id));
    let sum = match (committed, new) {
        (Node::Float(a), b) => Node::Float(a + float(b)?),
        (a, Node::Float(b)) => Node::Float(float(a)? + b),
        (a, b) => Node::Int(int(a)?.checked_add(int(b)?).ok_or(Failure::Unknown)?),
    };
    let length = match (&sum, old) {
        (Node::Float(a), b) => Node::Float(a - float(b)?),
        (a, Node::Float(b)) => Node::Float(float(a)? - b),
        (a, b) => Node::Int(int(a)?.checked_sub(int(b)?).ok_or(Failure::Unknown)?),
    };
    Ok(graph.add(length))
}

fn float(node: &Node) -> Result<f64, Failure> {
    if let Node::Float(value) = node { Ok(*value) } else { int(node).map(|value| value as f64) }
}

fn int(node: &Node) -> Result<i128, Failure> {
    match node {
        Node::Int(value) => Ok(*value),
        Node::Bool(value) => Ok(i128::from(*value)),
        Node::Object(_) => Err(Failure::Unknown),
        _ => Err(Failure::Python("a length that is no number")),
    }
}
