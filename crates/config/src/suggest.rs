//! Finds the known name that somebody may have meant.

/// A sentence that names the nearest of the known names, if one is near.
pub(crate) fn suggest<'a>(wrong: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    if wrong.len() > NAME_LEN_MAX {
        return None;
    }
    let (nearest, distance) =
        known.map(|name| (name, distance(wrong, name))).min_by_key(|(_, distance)| *distance)?;
    let bound = (nearest.len() / 3).clamp(1, 3);
    (distance <= bound).then(|| format!("Did you mean '{nearest}'?"))
}

/// How many letters must be added, removed, changed or swapped with a neighbour.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    let mut previous = None;
    for (i, l) in left.chars().enumerate() {
        let mut next = vec![i + 1];
        for (j, r) in right.iter().enumerate() {
            let mut best = (row[j] + usize::from(l != *r)).min(row[j + 1] + 1).min(next[j] + 1);
            if j > 0 && previous == Some(*r) && right[j - 1] == l {
                best = best.min(before[j - 1] + 1);
            }
            next.push(best);
        }
        before = std::mem::replace(&mut row, next);
        previous = Some(l);
    }
    row[right.len()]
}

const NAME_LEN_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_recognised() {
        let known = ["address", "read-only", "quota"];
        let meant = |wrong| suggest(wrong, known.iter().copied());
        assert_eq!(meant("adress").as_deref(), Some("Did you mean 'address'?"));
        assert_eq!(meant("raed-only").as_deref(), Some("Did you mean 'read-only'?"));
        assert_eq!(meant("read_only").as_deref(), Some("Did you mean 'read-only'?"));
        assert_eq!(meant("zzz"), None);
        assert_eq!(meant(&"a".repeat(1000)), None);
    }

    #[test]
    fn distances_count_single_changes() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", "abc"), 0);
        assert_eq!(distance("acb", "abc"), 1);
        assert_eq!(distance("xbcd", "abc"), 2);
    }
}
