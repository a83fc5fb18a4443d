//! Where the last record of every object is: oid to position, eight bytes an object, read without locks.
//!
//! Oids are handed out one after the other, so they lie close together. A page holds the positions of
//! 1024 neighbours; a page that would be mostly empty does not exist yet, and its few objects wait in an
//! ordered map until there are [`PAGE_OBJECTS_MIN`] of them. Any number of threads read while one writes.

mod pages;

use pages::{PAGE_SIZE, Page, Pages};
use std::{
    collections::BTreeMap,
    sync::{
        PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicU64, Ordering},
    },
};
use zeolith_types::Oid;

/// Oid to position of the object's last record.
#[derive(Default)]
pub(crate) struct Index {
    pages: Pages,
    sparse: RwLock<Sparse>,
    count: AtomicU64,
    oid_max: AtomicU64,
    /// Changes when objects move from the map into a page, so that a cursor looks again.
    promotions: AtomicU64,
}

/// Objects that the directory of pages does not show.
#[derive(Default)]
struct Sparse {
    objects: BTreeMap<u64, u64>,
    /// Pages whose number is too high for the directory.
    far: BTreeMap<u64, Page>,
    /// The page that the last new object belongs to, and how many of its objects are here.
    crowd: (u64, usize),
}

impl Index {
    /// The position of the object's last record.
    pub(crate) fn get(&self, oid: Oid) -> Option<u64> {
        let (number, slot) = split(oid.get());
        if let Some(page) = self.pages.get(number) {
            return page.get(slot);
        }
        let sparse = self.read_sparse();
        if let Some(page) = sparse.far.get(&number) {
            return page.get(slot);
        }
        if let Some(position) = sparse.objects.get(&oid.get()) {
            return Some(*position);
        }
        // The page may have been made between the two looks.
        self.pages.get(number).and_then(|page| page.get(slot))
    }

    /// Enters a position, and gives back the one before. Only one thread at a time may write.
    pub(crate) fn set(&self, oid: Oid, position: u64) -> Option<u64> {
        assert!(position != 0, "0 is the magic and means absent");
        let (number, slot) = split(oid.get());
        let previous = match self.pages.get(number) {
            Some(page) => page.set(slot, position),
            None => self.set_sparse(oid.get(), position),
        };
        if previous.is_none() {
            self.count_in(1, oid);
        }
        previous
    }

    /// Counts new objects, of which `last` has the largest oid.
    fn count_in(&self, new: u64, last: Oid) {
        // Nobody else writes, so a plain addition, which costs a tenth, loses nothing.
        self.count.store(self.count.load(Ordering::Relaxed) + new, Ordering::Relaxed);
        self.oid_max.store(self.oid_max.load(Ordering::Relaxed).max(last.get()), Ordering::Relaxed);
    }

    /// Enters many positions at once, in rising order of oids: dense runs go straight into pages.
    pub(crate) fn set_run(&self, run: &[(Oid, u64)]) {
        for group in run.chunk_by(|a, b| split(a.0.get()).0 == split(b.0.get()).0) {
            if group.len() < PAGE_OBJECTS_MIN || !self.set_page(group) {
                for (oid, position) in group {
                    self.set(*oid, *position);
                }
            }
        }
    }

    /// Makes a page of objects that all belong there, unless there is something on it already.
    fn set_page(&self, group: &[(Oid, u64)]) -> bool {
        let Some((last, _)) = group.last() else { return true };
        let (number, _) = split(last.get());
        let mut sparse = self.sparse.write().unwrap_or_else(PoisonError::into_inner);
        let is_new = self.pages.get(number).is_none()
            && !sparse.far.contains_key(&number)
            && sparse.objects.range(page_range(number)).next().is_none();
        if !is_new {
            return false;
        }
        let page = Page::of(group.iter().map(|(oid, position)| (split(oid.get()).1, *position)));
        if let Err(page) = self.pages.put(number, page) {
            sparse.far.insert(number, page);
        }
        self.promotions.fetch_add(1, Ordering::Relaxed);
        self.count_in(group.len() as u64, *last);
        true
    }

    /// How many objects have a position.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// The largest oid that has a position, or 0.
    pub(crate) fn oid_max(&self) -> Oid {
        Oid::new(self.oid_max.load(Ordering::Relaxed))
    }

    /// Goes through all objects in the order of their oids, from `start` on. Objects that are entered
    /// meanwhile may be missed; others are not.
    pub(crate) const fn iter_from(&self, start: Oid) -> Iter<'_> {
        Iter { index: self, next: Some(start.get()), in_pages: InPages::Unknown, page: None, promotions: 0 }
    }

    fn set_sparse(&self, oid: u64, position: u64) -> Option<u64> {
        let (number, slot) = split(oid);
        let mut sparse = self.sparse.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(page) = sparse.far.get(&number) {
            return page.set(slot, position);
        }
        let previous = sparse.objects.insert(oid, position);
        if previous.is_none() && sparse.crowd_of(number) >= PAGE_OBJECTS_MIN {
            self.promote(&mut sparse, number);
        }
        previous
    }

    /// Gives a page to objects of the map. The map is locked, so nobody sees them in neither place.
    fn promote(&self, sparse: &mut Sparse, number: u64) {
        let page = Page::default();
        let oids: Vec<u64> = sparse
            .objects
            .range(page_range(number))
            .map(|(oid, position)| {
                page.set(split(*oid).1, *position);
                *oid
            })
            .collect();
        if let Err(page) = self.pages.put(number, page) {
            sparse.far.insert(number, page);
        }
        for oid in oids {
            sparse.objects.remove(&oid);
        }
        sparse.crowd = (number, 0);
        self.promotions.fetch_add(1, Ordering::Relaxed);
    }

    fn read_sparse(&self) -> RwLockReadGuard<'_, Sparse> {
        self.sparse.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sparse {
    /// How many objects of a page are here, of which one has just come.
    fn crowd_of(&mut self, number: u64) -> usize {
        self.crowd = match self.crowd {
            (same, count) if same == number && count > 0 => (number, count + 1),
            _ => (number, self.objects.range(page_range(number)).count()),
        };
        self.crowd.1
    }

    fn first_from(&self, start: u64) -> Option<(u64, u64)> {
        let object = self.objects.range(start..).next().map(|(oid, position)| (*oid, *position));
        let (number, slot) = split(start);
        let far = self.far.range(number..).find_map(|(page_number, page)| {
            let first = if *page_number == number { slot } else { 0 };
            page.first_from(first).map(|(slot, position)| (join(*page_number, slot), position))
        });
        [object, far].into_iter().flatten().min()
    }
}

/// Goes through the objects of an index in the order of their oids.
pub(crate) struct Iter<'a> {
    index: &'a Index,
    next: Option<u64>,
    in_pages: InPages,
    /// The page of the last object, with its number. What belongs on a page of the directory is nowhere else.
    page: Option<(u64, &'a Page)>,
    promotions: u64,
}

/// What the directory of pages has to offer next, remembered since a look across a gap is long.
#[derive(Clone, Copy)]
enum InPages {
    Unknown,
    Object(u64),
    Nothing,
}

impl Iterator for Iter<'_> {
    type Item = (Oid, u64);

    fn next(&mut self) -> Option<(Oid, u64)> {
        let start = self.next?;
        let (number, slot) = split(start);
        if let Some((_, page)) = self.page.filter(|(same, _)| *same == number)
            && let Some((slot, position)) = page.first_from(slot)
        {
            let oid = join(number, slot);
            self.next = oid.checked_add(1);
            return Some((Oid::new(oid), position));
        }
        let sparse = self.index.read_sparse();
        let promotions = self.index.promotions.load(Ordering::Relaxed);
        let stale = match self.in_pages {
            InPages::Unknown => true,
            InPages::Object(oid) => oid < start || promotions != self.promotions,
            InPages::Nothing => promotions != self.promotions,
        };
        if stale {
            self.in_pages = match self.index.pages.first_from(start) {
                Some((oid, _)) => InPages::Object(oid),
                None => InPages::Nothing,
            };
            self.promotions = promotions;
        }
        let paged = match self.in_pages {
            InPages::Object(oid) => {
                let (number, slot) = split(oid);
                self.page = self.index.pages.get(number).map(|page| (number, page));
                self.page.and_then(|(_, page)| page.get(slot)).map(|position| (oid, position))
            }
            InPages::Unknown | InPages::Nothing => None,
        };
        let found = [paged, sparse.first_from(start)].into_iter().flatten().min();
        self.next = found.and_then(|(oid, _)| oid.checked_add(1));
        found.map(|(oid, position)| (Oid::new(oid), position))
    }
}

/// The number of an oid's page, and its place there.
const fn split(oid: u64) -> (u64, usize) {
    (oid / PAGE_SIZE as u64, (oid % PAGE_SIZE as u64) as usize)
}

const fn join(number: u64, slot: usize) -> u64 {
    number * PAGE_SIZE as u64 + slot as u64
}

const fn page_range(number: u64) -> std::ops::RangeInclusive<u64> {
    join(number, 0)..=join(number, PAGE_SIZE - 1)
}

/// So many objects make a page worth its 8 KiB.
const PAGE_OBJECTS_MIN: usize = 64;

#[cfg(test)]
mod tests;
