//! The nodes that a pickle builds, and their way from a shared graph to a plain tree.
//!
//! A pickle can mention one node many times and fill it after it was mentioned, so nodes live in
//! one arena and point at each other by number until the last opcode has run. Turning the graph into a
//! tree copies what is shared; the limits on values, depth and text are what keeps a few bytes
//! from becoming gigabytes, and what ends a node that contains itself.

use crate::{Limits, PickleError, global::Global};
use bytes::Bytes;
use std::ops::Range;
use zeolith_types::Value;

/// The number of a node in its graph.
pub(crate) type NodeId = u32;

/// One value under construction.
pub(crate) enum Node {
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    /// A range of the pickle.
    Bytes(Range<usize>),
    OwnedBytes(Bytes),
    /// A range of the pickle that is valid UTF-8.
    Text(Range<usize>),
    OwnedText(String),
    Tuple(Vec<NodeId>),
    List(Vec<NodeId>),
    Set(Vec<NodeId>),
    Dict(Vec<(NodeId, NodeId)>),
    Global(Global),
    /// A `Prefix` and the state it was given.
    UndoPrefix(Option<NodeId>),
}

/// What remains to be done on the way to a tree: look at a node, or make a value of those that are done.
enum Step {
    Visit { node: NodeId, depth: usize },
    Tuple(usize),
    List(usize),
    Set(usize),
    Dict(usize),
    UndoPrefix,
}

/// Makes the tree under `root`; byte strings become slices of `pickle`.
pub(crate) fn into_value(
    nodes: &[Node],
    root: NodeId,
    pickle: &Bytes,
    limits: Limits,
) -> Result<Value, PickleError> {
    let mut steps = Vec::with_capacity(16);
    let mut values = Vec::with_capacity(8);
    let mut budget = Budget::new(pickle.len(), limits);
    steps.push(Step::Visit { node: root, depth: 0 });
    while let Some(step) = steps.pop() {
        let value = match step {
            Step::Visit { node, depth } => {
                match visit(nodes, node, depth, pickle, &mut budget, &mut steps)? {
                    Some(value) => value,
                    None => continue,
                }
            }
            Step::Tuple(len) => Value::Tuple(take(&mut values, len)),
            Step::List(len) => Value::List(take(&mut values, len)),
            Step::Set(len) => Value::Set(take(&mut values, len)),
            Step::Dict(len) => {
                let mut items = take(&mut values, 2 * len).into_iter();
                let mut pairs = Vec::with_capacity(len);
                while let (Some(key), Some(value)) = (items.next(), items.next()) {
                    pairs.push((key, value));
                }
                Value::Dict(pairs)
            }
            Step::UndoPrefix => undo_prefix(values.pop().unwrap_or(Value::None))?,
        };
        values.push(value);
    }
    Ok(values.pop().expect("the root's visit leaves one value"))
}

/// The value of a leaf, or the steps that make the value of a node with children.
fn visit(
    nodes: &[Node],
    node: NodeId,
    depth: usize,
    pickle: &Bytes,
    budget: &mut Budget,
    steps: &mut Vec<Step>,
) -> Result<Option<Value>, PickleError> {
    let children = |children: &[NodeId], budget: &mut Budget, steps: &mut Vec<Step>| {
        budget.spend_values(children.len())?;
        budget.check_depth(depth)?;
        steps.extend(children.iter().rev().map(|node| Step::Visit { node: *node, depth: depth + 1 }));
        Ok::<_, PickleError>(())
    };
    Ok(Some(match &nodes[node as usize] {
        Node::None => Value::None,
        Node::Bool(value) => Value::Bool(*value),
        Node::Int(value) => Value::Int(*value),
        Node::Float(value) => Value::Float(*value),
        Node::Bytes(range) => {
            budget.spend_text(range.len())?;
            Value::Bytes(pickle.slice(range.clone()))
        }
        Node::OwnedBytes(bytes) => {
            budget.spend_text(bytes.len())?;
            Value::Bytes(bytes.clone())
        }
        Node::Text(range) => {
            budget.spend_text(range.len())?;
            let text = std::str::from_utf8(&pickle[range.clone()]);
            Value::Str(text.expect("a text node is valid UTF-8").to_owned())
        }
        Node::OwnedText(text) => {
            budget.spend_text(text.len())?;
            Value::Str(text.clone())
        }
        Node::Tuple(items) => {
            steps.push(Step::Tuple(items.len()));
            children(items, budget, steps)?;
            return Ok(None);
        }
        Node::List(items) => {
            steps.push(Step::List(items.len()));
            children(items, budget, steps)?;
            return Ok(None);
        }
        Node::Set(items) => {
            steps.push(Step::Set(items.len()));
            children(items, budget, steps)?;
            return Ok(None);
        }
        Node::Dict(pairs) => {
            budget.spend_values(2 * pairs.len())?;
            budget.check_depth(depth)?;
            steps.push(Step::Dict(pairs.len()));
            for (key, value) in pairs.iter().rev() {
                steps.push(Step::Visit { node: *value, depth: depth + 1 });
                steps.push(Step::Visit { node: *key, depth: depth + 1 });
            }
            return Ok(None);
        }
        Node::UndoPrefix(Some(state)) => {
            steps.push(Step::UndoPrefix);
            children(&[*state], budget, steps)?;
            return Ok(None);
        }
        Node::UndoPrefix(None) => {
            return Err(PickleError::Construct { callable: "Prefix", what: "nothing" });
        }
        Node::Global(global) => {
            return Err(PickleError::Construct { callable: global.name(), what: "a mention without a call" });
        }
    }))
}

fn take(values: &mut Vec<Value>, len: usize) -> Vec<Value> {
    values.split_off(values.len() - len)
}

/// The `Prefix` whose state this is: `{'length': n, 'path': [part, ...]}`.
fn undo_prefix(state: Value) -> Result<Value, PickleError> {
    let refused = |what| PickleError::Construct { callable: "Prefix", what };
    let Value::Dict(pairs) = state else {
        return Err(refused("a state that is no dict"));
    };
    let path = pairs.iter().rev().find(|(key, _)| *key == Value::Str("path".to_owned()));
    let Some(parts) = path.and_then(|(_, value)| value.as_sequence()) else {
        return Err(refused("a state without a path"));
    };
    let parts = parts.iter().map(|part| match part {
        Value::Str(part) => Ok(part.clone()),
        _ => Err(refused("a path part that is no text")),
    });
    Ok(Value::UndoPrefix(parts.collect::<Result<_, _>>()?))
}

/// What a tree may still cost.
struct Budget {
    values: usize,
    text: usize,
    depth_max: usize,
}

impl Budget {
    fn new(pickle_len: usize, limits: Limits) -> Self {
        // What is not shared is never longer than the pickle itself.
        let text = pickle_len.saturating_add(TEXT_SHARED_MAX);
        Self { values: limits.values_max, text, depth_max: limits.depth_max }
    }

    fn spend_values(&mut self, count: usize) -> Result<(), PickleError> {
        let left = self.values.checked_sub(count);
        self.values = left.ok_or(PickleError::TooMany("values"))?;
        Ok(())
    }

    fn spend_text(&mut self, len: usize) -> Result<(), PickleError> {
        let left = self.text.checked_sub(len);
        self.text = left.ok_or(PickleError::TooMany("repeated texts"))?;
        Ok(())
    }

    fn check_depth(&self, depth: usize) -> Result<(), PickleError> {
        if depth >= self.depth_max { Err(PickleError::TooMany("levels of nesting")) } else { Ok(()) }
    }
}

/// How many bytes of text may come from mentioning the same text again.
const TEXT_SHARED_MAX: usize = 1 << 20;
