//! What clients store: records of any bytes, looked at for their class and references, and read whole to resolve.

use bytes::Bytes;
use zeolith_pickle::{class_name, references, state::Graph};
use zeolith_resolve::NativeResolver;
use zeolith_storage::{Resolution, ResolveRequest, Resolver};
use zeolith_types::{Oid, Tid};

/// A record tells its class and references or an error; one that can be read as a graph is written so that
/// it reads as the same, and refers to the same objects.
pub(crate) fn record(input: &[u8]) {
    let named = class_name(input);
    let referred = references(input);
    let mut graph = Graph::new();
    let Ok(read) = graph.read(&Bytes::copy_from_slice(input)) else { return };
    let Some(written) = graph.write(read) else { return };
    let written = Bytes::from(written);
    let mut again = Graph::new();
    let reread = again.read(&written).expect("what we write can be read");
    let rewritten = again.write(reread).expect("what was written once can be written again");
    assert_eq!(Bytes::from(rewritten), written, "a graph reads as it was written");
    if let (Some(before), Some(after)) = (named, class_name(&written)) {
        assert_eq!(before, after, "the class stays the same");
    }
    if let (Ok(before), Ok(after)) = (referred, references(&written)) {
        // Of equal references the graph keeps one, and it drops what the pickle makes and throws away.
        assert!(after.iter().all(|oid| before.contains(oid)), "no reference comes out of nowhere");
    }
}

/// Three records are merged or not; what comes out is a record that can be read.
pub(crate) fn conflict(input: &[u8]) {
    let Some((lens, rest)) = input.split_first_chunk::<4>() else { return };
    let [a, b, c, d] = *lens;
    let old = usize::from(u16::from_le_bytes([a, b]));
    let committed = usize::from(u16::from_le_bytes([c, d]));
    let (old, rest) = rest.split_at(old.min(rest.len()));
    let (committed, new) = rest.split_at(committed.min(rest.len()));
    let [old, committed, new] = [old, committed, new].map(Bytes::copy_from_slice);
    let request = ResolveRequest {
        oid: Oid::new(1),
        committed_tid: Tid::new(2),
        read_tid: Tid::new(1),
        old: &old,
        committed: &committed,
        new: &new,
    };
    match NativeResolver.resolve(&request) {
        Resolution::Resolved(merged) => {
            assert_eq!(class_name(&merged), class_name(&new), "what is merged has the class of what is new");
            Graph::new().read(&merged).expect("what we write can be read");
        }
        Resolution::Refused(why) => assert!(!why.to_string().is_empty(), "a refusal says why"),
        Resolution::NotMine => {}
    }
}
