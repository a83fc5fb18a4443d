//! States of buckets, sets and trees with one bucket: from nodes to columns and back.
//!
//! A bucket's state is `None` or `(items, next)`, where `items` holds keys and values in turn and `next` is left
//! out in the last bucket. A tree with one bucket has that state inside of two tuples; one with more is a pair.

use crate::{
    Failure, States,
    column::{Cell, Columns},
    merge::{Merge, conflict},
};
use zeolith_pickle::state::{Graph, Node, NodeId};

/// A kind of bucket or set.
pub(crate) struct Collection {
    pub(crate) columns: Columns,
}

/// A bucket or set, sorted by its keys if whoever wrote it kept the rules.
#[derive(Debug, Default)]
pub(crate) struct Bucket {
    pub(crate) keys: Vec<Cell>,
    /// Nothing in a set.
    pub(crate) values: Vec<Cell>,
    /// The bucket after this one.
    next: Option<NodeId>,
}

impl Collection {
    /// The merged state of a tree.
    pub(crate) fn resolve_tree(&self, graph: &mut Graph, states: States) -> Result<NodeId, Failure> {
        let States { old, committed, new } = states;
        let old = only_bucket(graph, old)?;
        let (committed, new) = (only_bucket(graph, committed)?, only_bucket(graph, new)?);
        let bucket = self.resolve(graph, States { old, committed, new })?;
        let inner = graph.add(Node::Tuple(vec![bucket]));
        Ok(graph.add(Node::Tuple(vec![inner])))
    }

    /// The merged state of a bucket or set.
    pub(crate) fn resolve(&self, graph: &mut Graph, states: States) -> Result<NodeId, Failure> {
        let old = self.bucket(graph, states.old)?;
        let (committed, new) = (self.bucket(graph, states.committed)?, self.bucket(graph, states.new)?);
        if !is_same(graph, old.next, committed.next)? || !is_same(graph, old.next, new.next)? {
            return Err(conflict([-1; 3], 0));
        }
        let merged = Merge::new(graph, self.columns, &old, &committed, &new).run()?;
        let mut items = Vec::with_capacity(merged.keys.len() + merged.values.len());
        let mut values = merged.values.iter();
        for key in &merged.keys {
            items.push(key.node(graph));
            items.extend(values.next().map(|value| value.node(graph)));
        }
        let items = graph.add(Node::Tuple(items));
        let state = std::iter::once(items).chain(old.next).collect();
        Ok(graph.add(Node::Tuple(state)))
    }

    /// Reads a state, as `__setstate__` does.
    fn bucket(&self, graph: &Graph, state: NodeId) -> Result<Bucket, Failure> {
        let (items, next) = match graph.node(state) {
            Node::None => return Ok(Bucket::default()),
            Node::Tuple(parts) => match parts[..] {
                [items] => (items, None),
                [items, next] => (items, Some(next)),
                _ => return Err(Failure::Python("a bucket's state has one or two parts")),
            },
            Node::Object(_) => return Err(Failure::Unknown),
            _ => return Err(Failure::Python("a bucket's state is a tuple")),
        };
        let Node::Tuple(items) = graph.node(items) else {
            return Err(Failure::Python("tuple required for first state element"));
        };
        let mut bucket = Bucket { next, ..Bucket::default() };
        let Some(values) = self.columns.values else {
            let keys = items.iter().map(|key| self.columns.keys.cell(graph, *key));
            bucket.keys = keys.collect::<Result<_, _>>()?;
            return Ok(bucket);
        };
        // C passes over a key without a value.
        for [key, value] in items.as_chunks::<2>().0 {
            bucket.keys.push(self.columns.keys.cell(graph, *key)?);
            bucket.values.push(values.cell(graph, *value)?);
        }
        Ok(bucket)
    }
}

/// Whether the buckets that follow are the same Python object: references are if they are written alike.
fn is_same(graph: &Graph, left: Option<NodeId>, right: Option<NodeId>) -> Result<bool, Failure> {
    let (Some(left), Some(right)) = (left, right) else { return Ok(left.is_none() && right.is_none()) };
    match (graph.node(left), graph.node(right)) {
        _ if left == right => Ok(true),
        (Node::Reference(_), _) | (_, Node::Reference(_)) => Ok(false),
        // No bucket: only Python knows which of its objects there is only one of.
        _ => Err(Failure::Unknown),
    }
}

/// The state of the only bucket of a tree.
fn only_bucket(graph: &Graph, state: NodeId) -> Result<NodeId, Failure> {
    let not_a_tree = || Failure::Python("a tree's state is a bucket's inside of two tuples");
    let parts = match graph.node(state) {
        Node::None => return Ok(state),
        Node::Tuple(parts) => parts,
        Node::Object(_) => return Err(Failure::Unknown),
        _ => return Err(not_a_tree()),
    };
    let [inner] = parts[..] else {
        return Err(if parts.len() == 2 { conflict([-1; 3], 11) } else { not_a_tree() });
    };
    match graph.node(inner) {
        Node::Tuple(parts) => match parts[..] {
            [bucket] if matches!(graph.node(bucket), Node::Tuple(_)) => Ok(bucket),
            _ => Err(not_a_tree()),
        },
        Node::Object(_) => Err(Failure::Unknown),
        _ => Err(not_a_tree()),
    }
}
