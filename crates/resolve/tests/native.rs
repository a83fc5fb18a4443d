//! Conflicts that Python's classes have resolved or refused, record by record, and records that are none.

#![allow(clippy::unwrap_used, reason = "a panic in a test is its report")]

use bytes::Bytes;
use proptest::{collection::vec, prelude::*};
use zeolith_resolve::NativeResolver;
use zeolith_storage::{BTreesConflict, Disagreement, Resolution, ResolveRequest, Resolver};
use zeolith_types::{Oid, Tid};

fn resolve(old: &Bytes, committed: &Bytes, new: &Bytes) -> Resolution {
    let (oid, committed_tid, read_tid) = (Oid::new(1), Tid::new(2), Tid::new(1));
    let resolution =
        NativeResolver.resolve(&ResolveRequest { oid, committed_tid, read_tid, old, committed, new });
    let may_know = NativeResolver.may_know(oid, new);
    assert!(may_know || resolution == Resolution::NotMine, "who is not asked has nothing to say");
    resolution
}

fn record(class: &str, state: &[u8]) -> Bytes {
    let (module, name) = class.rsplit_once('.').unwrap();
    [b"\x80\x03c", module.as_bytes(), b"\n", name.as_bytes(), b"\nq\x00.\x80\x03", state, b"."]
        .concat()
        .into()
}

fn of(class: &str, [old, committed, new]: [&[u8]; 3]) -> Resolution {
    let [old, committed, new] = [old, committed, new].map(|state| record(class, state));
    resolve(&old, &committed, &new)
}

fn resolved(class: &str, state: &[u8]) -> Resolution {
    Resolution::Resolved(record(class, state))
}

fn refused(positions: [i32; 3], reason: u8) -> Resolution {
    let [old, committed, new] = positions;
    Resolution::Refused(Disagreement::BTrees(BTreesConflict { old, committed, new, reason }))
}

fn is_other_error(resolution: &Resolution) -> bool {
    matches!(resolution, Resolution::Refused(Disagreement::Other(_)))
}

#[test]
fn two_inserts_into_a_bucket_are_both_kept() {
    let states: [&[u8]; 3] =
        [b"K\x01K\x0a\x86\x85", b"(K\x01K\x0aK\x02K\x14t\x85", b"(K\x01K\x0aK\x03K\x1et\x85"];
    let merged = b"(K\x01K\x0aK\x02K\x14K\x03K\x1etq\x01\x85q\x02";
    assert_eq!(of("BTrees.IIBTree.IIBucket", states), resolved("BTrees.IIBTree.IIBucket", merged));
    assert_eq!(of("BTrees.LOBTree.LOBucket", states), resolved("BTrees.LOBTree.LOBucket", merged));
}

#[test]
fn a_tree_with_one_bucket_is_merged_as_its_bucket_is() {
    let states: [&[u8]; 3] = [b"N", b"X\x01\0\0\0bN\x86\x85\x85\x85", b"X\x01\0\0\0aN\x86\x85\x85\x85"];
    let merged = b"(X\x01\0\0\0aq\x01NX\x01\0\0\0bq\x02Ntq\x03\x85q\x04\x85q\x05\x85q\x06";
    assert_eq!(of("BTrees.OOBTree.OOBTree", states), resolved("BTrees.OOBTree.OOBTree", merged));
}

#[test]
fn a_tree_of_several_buckets_is_refused() {
    let several = b"K\x05K\x06\x86K\x07\x86";
    let result = of("BTrees.IITreeSet", [b"N", b"N", b"N"]);
    assert_eq!(result, Resolution::NotMine, "a class that there is not");
    let result = of("BTrees.IIBTree.IITreeSet", [several, b"N", b"N"]);
    assert_eq!(result, refused([-1; 3], 11));
}

#[test]
fn each_rule_of_the_merge_gives_its_reason() {
    // Sets over {1, 2, 3}: what the committed and the new one leave or add.
    for (old, committed, new, expected) in [
        (&[1, 2, 3][..], &[1, 2, 3, 5][..], &[1, 2, 3, 5][..], refused([-1, 4, 4], 6)),
        (&[1, 2, 3], &[1, 3], &[1, 3], refused([2, 2, 2], 4)),
        (&[1, 2, 3, 4], &[1, 3, 4], &[1, 4], refused([2, 2, 2], 5)),
        (&[1, 2, 3], &[2, 3], &[1, 2, 3], refused([1, 1, 1], 13)),
        (&[1, 2, 3], &[], &[1, 2, 3], refused([-1; 3], 12)),
        (&[1, 3], &[1, 2, 3], &[1, 2, 3], refused([2, 2, 2], 4)),
        (&[1, 2, 3], &[1, 2], &[1, 2], refused([3, -1, -1], 9)),
        (&[1, 2, 3, 4], &[1, 2], &[1, 2, 4], refused([3, -1, 3], 8)),
        (&[1, 2, 3, 4], &[1, 2, 4], &[1, 2], refused([3, 3, -1], 7)),
    ] {
        let state = |keys: &[u8]| {
            let keys = keys.iter().flat_map(|key| [b'K', *key]);
            [b"(".to_vec(), keys.collect(), b"t\x85".to_vec()].concat()
        };
        let (old, committed, new) = (state(old), state(committed), state(new));
        assert_eq!(
            of("BTrees.IIBTree.IISet", [&old, &committed, &new]),
            expected,
            "{old:?} {committed:?} {new:?}"
        );
    }
}

#[test]
fn a_value_changed_by_both_or_deleted_by_one_is_refused() {
    let bucket = |items: &[u8]| [b"(", items, b"t\x85"].concat();
    let old = bucket(b"K\x01K\x01K\x02K\x01");
    let (changed, otherwise) = (bucket(b"K\x01K\x01K\x02K\x02"), bucket(b"K\x01K\x01K\x02K\x03"));
    let shorter = bucket(b"K\x01K\x01K\x03K\x01");
    let class = "BTrees.IIBTree.IIBucket";
    assert_eq!(of(class, [&old, &changed, &otherwise]), refused([2, 2, 2], 1));
    assert_eq!(of(class, [&old, &changed, &shorter]), refused([2, 2, 2], 2));
    assert_eq!(of(class, [&old, &shorter, &changed]), refused([2, 2, 2], 3));
    assert_eq!(of(class, [&old, &changed, &changed]), refused([2, 2, 2], 1), "the same change twice");
}

#[test]
fn buckets_that_split_are_refused() {
    let state = |next: u8| [b"K\x01\x85C\x08\0\0\0\0\0\0\0", &[next][..], b"Q\x86"].concat();
    let class = "BTrees.OOBTree.OOSet";
    assert_eq!(of(class, [&state(8), &state(8), &state(9)]), refused([-1; 3], 0));
}

#[test]
fn keys_without_an_order_are_refused_without_a_reason() {
    let class = "BTrees.OOBTree.OOSet";
    let states: [&[u8]; 3] = [b"K\x01\x85\x85", b"X\x01\0\0\0a\x85\x85", b"K\x01K\x02\x86\x85"];
    assert!(is_other_error(&of(class, states)));
}

#[test]
fn keys_of_the_wrong_type_or_size_are_refused_without_a_reason() {
    let too_large: &[u8] = b"\x8a\x05\0\0\0\0\x01\x85\x85";
    let small: &[u8] = b"K\x01\x85\x85";
    for class in ["BTrees.IIBTree.IISet", "BTrees.UUBTree.UUSet", "BTrees.fsBTree.fsSet"] {
        assert!(is_other_error(&of(class, [small, small, too_large])), "{class}");
    }
    let merged = b"K\x01\x8a\x05\0\0\0\0\x01\x86q\x01\x85q\x02";
    let both: &[u8] = b"K\x01\x8a\x05\0\0\0\0\x01\x86\x85";
    assert_eq!(of("BTrees.LLBTree.LLSet", [small, small, both]), resolved("BTrees.LLBTree.LLSet", merged));
}

#[test]
fn floats_are_narrowed_as_c_narrows_them() {
    let old: &[u8] = b"K\x01G\x3f\xb9\x99\x99\x99\x99\x99\x9a\x86\x85";
    let new: &[u8] = b"(K\x01G\x3f\xb9\x99\x99\x99\x99\x99\x9aK\x02K\x03t\x85";
    let merged = b"(K\x01G\x3f\xb9\x99\x99\xa0\0\0\0K\x02G\x40\x08\0\0\0\0\0\0tq\x01\x85q\x02";
    assert_eq!(of("BTrees.IFBTree.IFBucket", [old, old, new]), resolved("BTrees.IFBTree.IFBucket", merged));
}

#[test]
fn lengths_add_up() {
    let class = "BTrees.Length.Length";
    assert_eq!(of(class, [b"K\x0a", b"K\x0f", b"K\x07"]), resolved(class, b"K\x0c"));
    assert_eq!(
        of(class, [b"K\x0a", b"\x88", b"G\x3f\xe0\0\0\0\0\0\0"]),
        resolved(class, b"G\xc0\x21\0\0\0\0\0\0")
    );
    assert!(is_other_error(&of(class, [b"K\x0a", b"N", b"K\x01"])));
}

#[test]
fn the_larger_maximum_and_the_smaller_minimum_win() {
    let states: [&[u8]; 3] = [b"K\x01", b"K\x05", b"K\x03"];
    let (maximum, minimum) = ("zope.minmax._minmax.Maximum", "zope.minmax._minmax.Minimum");
    assert_eq!(of(maximum, states), resolved(maximum, b"K\x05"));
    assert_eq!(of(minimum, states), resolved(minimum, b"K\x03"));
    assert!(is_other_error(&of(maximum, [b"K\x01", b"N", b"K\x03"])));
}

#[test]
fn what_only_python_could_compare_is_left_to_others() {
    let class = "zope.minmax._minmax.Maximum";
    let date: &[u8] = b"cdatetime\ndate\nC\x04\x07\xe8\x01\x01\x85R";
    assert_eq!(of(class, [date, date, date]), Resolution::NotMine);
    assert_eq!(of("app.models.Counter", [b"K\x01", b"K\x02", b"K\x03"]), Resolution::NotMine);
    assert!(!NativeResolver.may_know(Oid::new(1), &record("app.models.Counter", b"K\x01")));
    let compressed = Bytes::from_static(b".zx\x9c");
    assert_eq!(resolve(&compressed, &compressed, &compressed), Resolution::NotMine);
}

proptest! {
    #[test]
    fn garbage_for_a_state_is_refused_and_never_panics(
        states in vec(vec(proptest::sample::select(&b"().]}NK\x01\x02\x85\x86tauQCXh\x00q\x88G"[..]), 0..40), 3),
        class in proptest::sample::select(&[
            "BTrees.OOBTree.OOBTree", "BTrees.IFBTree.IFBucket", "BTrees.fsBTree.fsTreeSet", "BTrees.Length.Length",
            "zope.minmax._minmax.Minimum",
        ][..]),
    ) {
        let [old, committed, new] = [0, 1, 2].map(|side| record(class, &states[side]));
        if let Resolution::Resolved(record) = resolve(&old, &committed, &new) {
            // A resolved record is one that can be resolved again, or refused, but is understood.
            prop_assert_ne!(resolve(&record, &record, &record), Resolution::NotMine);
        }
    }
}
