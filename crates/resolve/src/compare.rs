//! Compares values as Python does: numbers across their types, texts, sequences item by item.
//!
//! Python says of two values that one is less, or that they are equal, or raises. Here there is a fourth answer:
//! that only Python knows, because a class has its say. Nothing here recurses; values that are nested too
//! deeply, or mention each other too often, are not known either.

use std::cmp::Ordering;
use zeolith_pickle::state::{Graph, Node, NodeId};

/// What is asked of two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Less,
    Equal,
    Greater,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CompareError {
    /// Python raises.
    Python(&'static str),
    /// Only Python knows.
    Unknown,
}

/// Two sequences that are being compared, up to the first items that differ.
struct Pair<'a> {
    operator: Operator,
    left: &'a [NodeId],
    right: &'a [NodeId],
    at: usize,
}

/// What can be said of two values at once.
enum Answer<'a> {
    Known(bool),
    /// They are sequences, and it depends on their items.
    Items(&'a [NodeId], &'a [NodeId]),
}

/// `left < right`, `left == right` or `left > right`, as `PyObject_RichCompareBool` has it.
pub(crate) fn compare(
    graph: &Graph,
    operator: Operator,
    left: NodeId,
    right: NodeId,
) -> Result<bool, CompareError> {
    let mut pairs: Vec<Pair<'_>> = Vec::new();
    let mut question = (operator, left, right);
    for _ in 0..COMPARISONS_MAX {
        let (operator, left, right) = question;
        let mut answer = match at_once(graph, operator, left, right)? {
            Answer::Known(answer) => answer,
            Answer::Items(left, right) => {
                if pairs.len() >= DEPTH_MAX {
                    return Err(CompareError::Unknown);
                }
                pairs.push(Pair { operator, left, right, at: 0 });
                match pairs.last().and_then(Pair::question) {
                    Some(next) => {
                        question = next;
                        continue;
                    }
                    None => false,
                }
            }
        };
        // Hand the answer up until a pair of sequences has another question.
        loop {
            let Some(pair) = pairs.last_mut() else { return Ok(answer) };
            if pair.is_over() {
                answer = pair.by_length();
                pairs.pop();
                continue;
            }
            if answer {
                pair.at += 1;
                if let Some(next) = pair.question() {
                    question = next;
                    break;
                }
                continue;
            }
            let (operator, left, right) = (pair.operator, pair.left[pair.at], pair.right[pair.at]);
            pairs.pop();
            if operator != Operator::Equal {
                question = (operator, left, right);
                break;
            }
        }
    }
    Err(CompareError::Unknown)
}

impl Pair<'_> {
    fn is_over(&self) -> bool {
        self.at >= self.left.len().min(self.right.len())
    }

    /// Whether the next items are equal.
    fn question(&self) -> Option<(Operator, NodeId, NodeId)> {
        (!self.is_over()).then(|| (Operator::Equal, self.left[self.at], self.right[self.at]))
    }

    /// The answer when all items that both have are equal.
    fn by_length(&self) -> bool {
        self.operator.holds(self.left.len().cmp(&self.right.len()))
    }
}

impl Operator {
    const fn holds(self, ordering: Ordering) -> bool {
        match self {
            Self::Less => ordering.is_lt(),
            Self::Equal => ordering.is_eq(),
            Self::Greater => ordering.is_gt(),
        }
    }
}

fn at_once(
    graph: &Graph,
    operator: Operator,
    left: NodeId,
    right: NodeId,
) -> Result<Answer<'_>, CompareError> {
    if operator == Operator::Equal && left == right {
        return Ok(Answer::Known(true));
    }
    let known = |ordering: Ordering| Ok(Answer::Known(operator.holds(ordering)));
    match (graph.node(left), graph.node(right)) {
        (Node::Object(_) | Node::Global(..), _) | (_, Node::Object(_) | Node::Global(..)) => {
            Err(CompareError::Unknown)
        }
        (Node::Reference(a), Node::Reference(b)) if left == right || a.is_same_object(b) => {
            known(Ordering::Equal)
        }
        (Node::Reference(_), _) | (_, Node::Reference(_)) => {
            Err(CompareError::Python("can't reliably compare against different PersistentReferences"))
        }
        (Node::Str(a), Node::Str(b)) | (Node::Bytes(a), Node::Bytes(b)) => known(a.cmp(b)),
        (Node::List(a), Node::List(b)) if operator == Operator::Equal && a.len() != b.len() => {
            Ok(Answer::Known(false))
        }
        (Node::Tuple(a), Node::Tuple(b)) | (Node::List(a), Node::List(b)) => Ok(Answer::Items(a, b)),
        (Node::None, Node::None) if operator == Operator::Equal => Ok(Answer::Known(true)),
        // Whether two dicts are equal is a question of hashes.
        (Node::Dict(_), Node::Dict(_)) if operator == Operator::Equal => Err(CompareError::Unknown),
        (a, b) => match (Number::of(a), Number::of(b)) {
            (Some(a), Some(b)) => {
                Ok(Answer::Known(a.cmp(b).is_some_and(|ordering| operator.holds(ordering))))
            }
            _ if operator == Operator::Equal => Ok(Answer::Known(false)),
            _ => Err(CompareError::Python("the values have no order")),
        },
    }
}

/// A number of any of Python's types.
#[derive(Clone, Copy)]
enum Number {
    Int(i128),
    Float(f64),
}

impl Number {
    fn of(node: &Node) -> Option<Self> {
        match node {
            Node::Int(value) => Some(Self::Int(*value)),
            Node::Bool(value) => Some(Self::Int(i128::from(*value))),
            Node::Float(value) => Some(Self::Float(*value)),
            _ => None,
        }
    }

    /// By value, exactly; `None` if one is not a number.
    fn cmp(self, other: Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => Some(a.cmp(&b)),
            (Self::Float(a), Self::Float(b)) => a.partial_cmp(&b),
            (Self::Int(a), Self::Float(b)) => int_with_float(a, b),
            (Self::Float(a), Self::Int(b)) => int_with_float(b, a).map(Ordering::reverse),
        }
    }
}

fn int_with_float(int: i128, float: f64) -> Option<Ordering> {
    if float.is_nan() {
        return None;
    }
    if float >= INT_END {
        return Some(Ordering::Less);
    }
    if float < -INT_END {
        return Some(Ordering::Greater);
    }
    let whole = float.floor();
    // The floor of a float in this range is an integer of 128 bits, exactly.
    let by_whole = int.cmp(&(whole as i128));
    Some(if by_whole.is_eq() && float > whole { Ordering::Less } else { by_whole })
}

/// 2 to the power of 127: what is too large for an integer of 128 bits.
const INT_END: f64 = 170_141_183_460_469_231_731_687_303_715_884_105_728.0;
/// Python itself gives up at about a thousand.
const DEPTH_MAX: usize = 200;
/// So many items may be looked at for one answer.
const COMPARISONS_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(build: impl FnOnce(&mut Graph) -> (NodeId, NodeId)) -> [Result<bool, CompareError>; 3] {
        let mut graph = Graph::new();
        let (left, right) = build(&mut graph);
        [Operator::Less, Operator::Equal, Operator::Greater]
            .map(|operator| compare(&graph, operator, left, right))
    }

    fn nodes(left: Node, right: Node) -> [Result<bool, CompareError>; 3] {
        ask(|graph| (graph.add(left), graph.add(right)))
    }

    const LESS: [Result<bool, CompareError>; 3] = [Ok(true), Ok(false), Ok(false)];
    const EQUAL: [Result<bool, CompareError>; 3] = [Ok(false), Ok(true), Ok(false)];
    const GREATER: [Result<bool, CompareError>; 3] = [Ok(false), Ok(false), Ok(true)];

    #[test]
    fn numbers_compare_by_value_whatever_their_type() {
        assert_eq!(nodes(Node::Bool(true), Node::Int(1)), EQUAL);
        assert_eq!(nodes(Node::Int(1), Node::Float(1.0)), EQUAL);
        assert_eq!(nodes(Node::Int((1 << 53) + 1), Node::Float((1_u64 << 53) as f64)), GREATER);
        assert_eq!(nodes(Node::Float(-0.5), Node::Int(0)), LESS);
        assert_eq!(nodes(Node::Int(-1), Node::Float(-0.5)), LESS);
        assert_eq!(nodes(Node::Int(i128::MAX), Node::Float(f64::INFINITY)), LESS);
        assert_eq!(nodes(Node::Int(i128::MIN), Node::Float(-INT_END)), EQUAL);
        assert_eq!(nodes(Node::Int(0), Node::Float(f64::NAN)), [Ok(false); 3]);
    }

    #[test]
    fn sequences_compare_by_their_first_difference_and_then_by_length() {
        let tuple = |graph: &mut Graph, numbers: &[i128]| {
            let items = numbers.iter().map(|number| graph.add(Node::Int(*number))).collect();
            graph.add(Node::Tuple(items))
        };
        assert_eq!(ask(|graph| (tuple(graph, &[1, 2]), tuple(graph, &[1, 3]))), LESS);
        assert_eq!(ask(|graph| (tuple(graph, &[1, 2]), tuple(graph, &[1]))), GREATER);
        assert_eq!(ask(|graph| (tuple(graph, &[]), tuple(graph, &[]))), EQUAL);
        let nested = |graph: &mut Graph, numbers: &[i128]| {
            let (inner, last) = (tuple(graph, numbers), graph.add(Node::Int(7)));
            graph.add(Node::Tuple(vec![inner, last]))
        };
        assert_eq!(ask(|graph| (nested(graph, &[1, 2]), nested(graph, &[1, 2]))), EQUAL);
        assert_eq!(ask(|graph| (nested(graph, &[1, 2]), nested(graph, &[1, 1]))), GREATER);
    }

    #[test]
    fn types_without_an_order_are_unequal_and_raise_when_asked_for_one() {
        let [less, equal, greater] = nodes(Node::Int(1), Node::Str("1".into()));
        assert_eq!(equal, Ok(false));
        assert!(matches!((less, greater), (Err(CompareError::Python(_)), Err(CompareError::Python(_)))));
        let [less, equal, _] = nodes(Node::None, Node::None);
        assert_eq!(equal, Ok(true));
        assert!(less.is_err());
    }

    #[test]
    fn a_list_that_contains_itself_ends_the_comparison() {
        let mut graph = Graph::new();
        // ([...],) twice: two lists, each its own item.
        let record = bytes::Bytes::from_static(b"N.](]q\x00h\x00a]q\x01h\x01ae.");
        let state = graph.read(&record).unwrap().state;
        let Node::List(items) = graph.node(state) else { panic!("a list was pickled") };
        assert_eq!(compare(&graph, Operator::Equal, items[0], items[1]), Err(CompareError::Unknown));
    }
}
