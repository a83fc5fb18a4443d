//! The methods of the protocol: how a call of one becomes a request.

use crate::{arguments::Arguments, methods::METHODS, msgpack::PackedArguments};
use zeolith_types::{Refusal, Request, Value};

/// A method as clients call it.
pub(crate) struct Method {
    pub(crate) name: &'static str,
    pub(crate) parameters: &'static [&'static str],
    /// How many of the parameters have no default.
    pub(crate) required: usize,
    /// Reads the arguments, of which there are as many as the method takes.
    pub(crate) read: fn(&mut Arguments) -> Result<Request, Refusal>,
}

/// The method of this name.
pub(crate) fn find_method(name: &str) -> Option<&'static Method> {
    METHODS.iter().find(|method| method.name == name)
}

impl Method {
    /// The request that a call with these arguments is.
    pub(crate) fn request(&self, values: Vec<Value>) -> Result<Request, Refusal> {
        self.check_count(values.len())?;
        (self.read)(&mut Arguments::Values(values.into_iter()))
    }

    /// The same from arguments that still stand in the frame; `None` if something is wrong with them.
    pub(crate) fn packed_request(&self, packed: PackedArguments) -> Option<Request> {
        if !(self.required..=self.parameters.len()).contains(&packed.left()) {
            return None;
        }
        let mut arguments = Arguments::Packed(packed);
        let request = (self.read)(&mut arguments).ok()?;
        matches!(arguments, Arguments::Packed(packed) if packed.are_over()).then_some(request)
    }

    /// Says what Python says of a wrong count.
    fn check_count(&self, given: usize) -> Result<(), Refusal> {
        let (name, most) = (self.name, self.parameters.len());
        if let Some(missing @ [_, ..]) = self.parameters[..self.required].get(given..) {
            let quoted: Vec<String> = missing.iter().map(|name| format!("'{name}'")).collect();
            let (last, others) = quoted.split_last().expect("the pattern holds one at least");
            let list = match others {
                [] => last.clone(),
                [other] => format!("{other} and {last}"),
                _ => format!("{}, and {last}", others.join(", ")),
            };
            let (count, plural) = (missing.len(), if others.is_empty() { "" } else { "s" });
            return Err(Refusal::Type(format!(
                "{name}() missing {count} required positional argument{plural}: {list}"
            )));
        }
        if given > most {
            // Python counts `self` in.
            let takes = if self.required < most {
                format!("from {} to {}", self.required + 1, most + 1)
            } else {
                format!("{}", most + 1)
            };
            let (plural, given) = (if most == 0 { "" } else { "s" }, given + 1);
            return Err(Refusal::Type(format!(
                "{name}() takes {takes} positional argument{plural} but {given} were given"
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: [&str; 3] = ["pack_cancel", "pack_estimate", "transaction_outcome"];

    #[test]
    fn all_thirty_six_methods_and_ours_are_there_once() {
        let mut names: Vec<_> = METHODS.iter().map(|method| method.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 36 + OURS.len());
        assert!(OURS.iter().all(|name| names.contains(name)));
        assert!(METHODS.iter().all(|method| method.required <= method.parameters.len()));
    }

    #[test]
    fn a_request_bears_the_name_of_the_method_that_made_it() {
        let eight = Value::Bytes(vec![0; 8].into());
        let token = Value::Bytes(vec![0; 16].into());
        let candidates = [eight, token, Value::Int(1), Value::Str("1".into()), Value::Tuple(Vec::new())];
        for method in METHODS {
            // Each parameter is of one of five kinds; some combination of them fits.
            let count = method.required;
            let made = (0..candidates.len().pow(count as u32)).find_map(|number| {
                let digit = |place: usize| number / candidates.len().pow(place as u32) % candidates.len();
                let values = (0..count).map(|place| candidates[digit(place)].clone());
                method.request(values.collect()).ok()
            });
            assert_eq!(made.as_ref().map(Request::method), Some(method.name));
        }
    }
}
