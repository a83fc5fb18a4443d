//! Resolves conflicts of the classes that real databases conflict on, without Python.
//!
//! What comes out is what the classes' own `_p_resolveConflict` makes of the same three states, errors and their
//! reasons included: that of BTrees' C modules, where those and the Python ones differ. [`NativeResolver`]
//! looks at the class of the new record, reads the three states into one graph, and hands them to the file
//! that knows the class. Whatever only Python could know, such as how instances of an application's class
//! compare, is left to others.

mod bucket;
mod class;
mod column;
mod compare;
mod merge;
mod number;

use bucket::Collection;
use bytes::Bytes;
use class::NativeClass;
use compare::{CompareError, Operator};
use zeolith_pickle::{
    class_name,
    state::{Graph, Node, NodeId, Record},
};
use zeolith_storage::{BTreesConflict, Disagreement, Resolution, ResolveRequest, Resolver};
use zeolith_types::Oid;

/// Knows all collections of BTrees, `BTrees.Length`, and the maximum and minimum of `zope.minmax`.
#[derive(Clone, Copy, Debug, Default)]
pub struct NativeResolver;

impl Resolver for NativeResolver {
    fn may_know(&self, _: Oid, new: &Bytes) -> bool {
        known_class(new).is_some()
    }

    fn resolve(&self, conflict: &ResolveRequest<'_>) -> Resolution {
        let Some(class) = known_class(conflict.new) else { return Resolution::NotMine };
        let mut graph = Graph::new();
        match merge(&mut graph, class, conflict) {
            Ok(record) => match graph.write(record) {
                Some(record) => Resolution::Resolved(record.into()),
                None => Resolution::NotMine,
            },
            Err(Failure::BTrees(conflict)) => Resolution::Refused(Disagreement::BTrees(conflict)),
            Err(Failure::Python(text)) => Resolution::Refused(Disagreement::Other(text.into())),
            Err(Failure::Unknown) => Resolution::NotMine,
        }
    }
}

fn known_class(record: &[u8]) -> Option<NativeClass> {
    class_name(record).and_then(|(module, name)| NativeClass::find(&module, &name))
}

/// Why there is no resolved state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    /// `BTreesConflictError`
    BTrees(BTreesConflict),
    /// Python raises something else.
    Python(&'static str),
    /// Nobody here knows what Python would do.
    Unknown,
}

/// The three states of a conflict.
#[derive(Clone, Copy)]
struct States {
    old: NodeId,
    committed: NodeId,
    new: NodeId,
}

fn merge(graph: &mut Graph, class: NativeClass, conflict: &ResolveRequest<'_>) -> Result<Record, Failure> {
    // The new record first, as in ZODB: of several spellings of a reference the first one is kept.
    let new = read(graph, conflict.new)?;
    if !is_plain(graph, new.class) {
        return Err(Failure::Unknown);
    }
    let (old, committed) = (read(graph, conflict.old)?.state, read(graph, conflict.committed)?.state);
    let states = States { old, committed, new: new.state };
    let state = match class {
        NativeClass::Collection { columns, is_tree: false } => {
            Collection { columns }.resolve(graph, states)?
        }
        NativeClass::Collection { columns, is_tree: true } => {
            Collection { columns }.resolve_tree(graph, states)?
        }
        NativeClass::Length => number::length(graph, states)?,
        // Python's `max` and `min` keep the first one unless the second is beyond it.
        NativeClass::Maximum => extreme(graph, Operator::Greater, states)?,
        NativeClass::Minimum => extreme(graph, Operator::Less, states)?,
    };
    Ok(Record { class: new.class, state })
}

fn read(graph: &mut Graph, record: &bytes::Bytes) -> Result<Record, Failure> {
    graph.read(record).map_err(|_| Failure::Unknown)
}

/// Whether a class is described without arguments for its instance, which none of these classes takes.
fn is_plain(graph: &Graph, class: NodeId) -> bool {
    let Node::Tuple(parts) = graph.node(class) else { return true };
    let [_, arguments] = parts[..] else { return false };
    match graph.node(arguments) {
        Node::None => true,
        Node::Tuple(arguments) => arguments.is_empty(),
        _ => false,
    }
}

fn extreme(graph: &Graph, beyond: Operator, states: States) -> Result<NodeId, Failure> {
    let is_beyond = compare::compare(graph, beyond, states.new, states.committed)?;
    Ok(if is_beyond { states.new } else { states.committed })
}

impl From<CompareError> for Failure {
    fn from(error: CompareError) -> Self {
        match error {
            CompareError::Python(text) => Self::Python(text),
            CompareError::Unknown => Self::Unknown,
        }
    }
}
