//! The index against an ordered map, and what a reader may rely on while it changes.

use super::*;
use proptest::prelude::*;

fn index_of(oids: impl IntoIterator<Item = u64>) -> Index {
    let index = Index::default();
    for oid in oids {
        index.set(Oid::new(oid), oid.wrapping_mul(3) | 1);
    }
    index
}

#[test]
fn dense_oids_leave_the_map_almost_empty() {
    let index = index_of(0..100_000);
    assert_eq!(index.count(), 100_000);
    assert_eq!(index.oid_max(), Oid::new(99_999));
    assert!(index.read_sparse().objects.len() < PAGE_OBJECTS_MIN);
    assert_eq!(index.get(Oid::new(77_777)), Some((77_777 * 3) | 1));
    assert_eq!(index.get(Oid::new(100_000)), None);
}

#[test]
fn one_oid_far_out_costs_no_page() {
    let index = index_of([0, 1 << 40, u64::MAX]);
    assert_eq!(index.read_sparse().objects.len(), 3);
    assert_eq!(index.iter_from(Oid::ZERO).count(), 3);
    assert_eq!(index.get(Oid::new(u64::MAX)), Some(u64::MAX.wrapping_mul(3) | 1));
}

#[test]
fn a_dense_region_far_out_gets_pages_of_its_own() {
    let far = 1_u64 << 50;
    let index = index_of((far..far + 5_000).chain(0..10));
    assert!(index.read_sparse().far.len() >= 4);
    let oids: Vec<u64> = index.iter_from(Oid::new(5)).map(|(oid, _)| oid.get()).collect();
    assert_eq!(oids, (5..10).chain(far..far + 5_000).collect::<Vec<_>>());
}

#[test]
fn a_cursor_sees_what_moves_into_a_page_under_it() {
    let index = index_of((0..200).chain((5_000..5_060).step_by(2)).chain(9_000..9_200));
    let mut cursor = index.iter_from(Oid::ZERO);
    let mut seen: Vec<u64> = cursor.by_ref().take(200).map(|(oid, _)| oid.get()).collect();
    seen.extend(cursor.next().map(|(oid, _)| oid.get()));
    // The objects around 5000 get a page of their own now.
    for oid in 5_100..5_200 {
        index.set(Oid::new(oid), 1);
    }
    seen.extend(cursor.map(|(oid, _)| oid.get()));
    for oid in (0..200).chain((5_000..5_060).step_by(2)).chain(9_000..9_200) {
        assert!(seen.contains(&oid), "{oid} was missed");
    }
}

#[test]
fn a_reader_never_misses_an_object_that_moves() {
    let index = Index::default();
    index.set(Oid::new(5), 55);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| (0..200_000).all(|_| index.get(Oid::new(5)) == Some(55)));
        for oid in 6..2_000 {
            index.set(Oid::new(oid), 1);
        }
        assert!(reader.join().unwrap());
    });
}

fn any_oid() -> impl Strategy<Value = u64> {
    prop_oneof![0..3_000_u64, 1_000_000..1_001_000_u64, (1 << 45)..((1 << 45) + 900_u64), any::<u64>()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]
    #[test]
    fn the_index_is_an_ordered_map(
        entries in prop::collection::vec((any_oid(), 1..1_000_u64), 0..3_000),
        start in any_oid(),
        bulk in any::<bool>(),
    ) {
        let index = Index::default();
        let model: BTreeMap<u64, u64> = entries.iter().copied().collect();
        if bulk {
            let run: Vec<(Oid, u64)> = model.iter().map(|(oid, position)| (Oid::new(*oid), *position)).collect();
            index.set_run(&run);
        } else {
            for (oid, position) in &entries {
                index.set(Oid::new(*oid), *position);
            }
        }
        prop_assert_eq!(index.count(), model.len() as u64);
        prop_assert_eq!(index.oid_max().get(), model.keys().last().copied().unwrap_or(0));
        let listed: Vec<(u64, u64)> = index.iter_from(Oid::new(start)).map(|(o, p)| (o.get(), p)).collect();
        prop_assert_eq!(listed, model.range(start..).map(|(o, p)| (*o, *p)).collect::<Vec<_>>());
        for oid in model.keys() {
            prop_assert_eq!(index.get(Oid::new(*oid)), model.get(oid).copied());
        }
    }
}
