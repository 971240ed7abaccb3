//! Seeded, stratified choices of rows: fractions and subsets.

use crate::base::random::Stream;

/// Chooses `count` of `rows`, with the shares of their classes kept as well as whole rows allow, and
/// returns (chosen, rest), both in the order of `rows`.
///
/// Every class gets its exact share rounded down; what is then missing goes to the largest
/// remainders, the lower class number first among equals. Within a class a seeded shuffle decides.
/// The choice is a function of the seed, the purpose and the order of the rows.
pub fn choose(
    rows: &[u32],
    class_of: impl Fn(u32) -> u32,
    count: usize,
    seed: u64,
    purpose: &str,
) -> (Vec<u32>, Vec<u32>) {
    let count = count.min(rows.len());
    let mut classes: std::collections::BTreeMap<u32, Vec<usize>> = std::collections::BTreeMap::new();
    for (position, row) in rows.iter().enumerate() {
        classes.entry(class_of(*row)).or_default().push(position);
    }
    let total = rows.len().max(1) as u128;
    let mut shares: Vec<(u32, usize, u128)> = classes
        .iter()
        .map(|(class, members)| {
            let exact = members.len() as u128 * count as u128;
            (*class, (exact / total) as usize, exact % total)
        })
        .collect();
    let missing = count - shares.iter().map(|(_, share, _)| share).sum::<usize>();
    let mut by_remainder: Vec<usize> = (0..shares.len()).collect();
    by_remainder.sort_by_key(|&i| (std::cmp::Reverse(shares[i].2), shares[i].0));
    for &i in by_remainder.iter().take(missing) {
        shares[i].1 += 1;
    }
    let mut chosen = vec![false; rows.len()];
    for (class, share, _) in shares {
        let members = classes.get_mut(&class).map(std::mem::take).unwrap_or_default();
        let order = Stream::named(seed, &format!("data/{purpose}/{class}")).permutation(members.len());
        for index in order.into_iter().take(share) {
            chosen[members[index]] = true;
        }
    }
    let pick = |wanted: bool| rows.iter().zip(&chosen).filter(|(_, c)| **c == wanted).map(|(row, _)| *row).collect();
    (pick(true), pick(false))
}

/// One of `of` equal parts of `rows`, with the shares of the classes kept, and the rest, both in the order of
/// `rows`. The parts of all indices together are all rows.
pub fn fold(rows: &[u32], class_of: impl Fn(u32) -> u32, of: u32, index: u32, seed: u64) -> (Vec<u32>, Vec<u32>) {
    // Dealt out class by class in a random order, without a new start for each class, the parts differ by
    // one row at most, in all and in each class.
    let mut positions = Stream::named(seed, "data/fold").permutation(rows.len());
    positions.sort_by_key(|position| class_of(rows[*position]));
    let mut chosen = vec![false; rows.len()];
    for position in positions.iter().skip(index as usize).step_by(of.max(1) as usize) {
        chosen[*position] = true;
    }
    let pick = |wanted: bool| rows.iter().zip(&chosen).filter(|(_, c)| **c == wanted).map(|(row, _)| *row).collect();
    (pick(true), pick(false))
}

/// The number of rows in a fraction of `n`: the nearest, at least one, at most all but one.
pub fn fraction_of(n: usize, fraction: f64) -> usize {
    ((n as f64 * fraction).round() as usize).clamp(1.min(n), n.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(row: u32) -> u32 {
        u32::from(row % 10 < 3)
    }

    #[test]
    fn the_shares_of_the_classes_are_kept() {
        let rows: Vec<u32> = (0..1000).collect();
        let (chosen, rest) = choose(&rows, class, 250, 7, "test");
        assert_eq!((chosen.len(), rest.len()), (250, 750));
        assert_eq!(chosen.iter().filter(|row| class(**row) == 1).count(), 75);
        assert!(chosen.is_sorted() && rest.is_sorted());
        let mut all = [chosen, rest].concat();
        all.sort_unstable();
        assert_eq!(all, rows);
    }

    #[test]
    fn the_choice_depends_on_the_seed_and_the_purpose_only() {
        let rows: Vec<u32> = (0..100).collect();
        let chosen = |seed, purpose| choose(&rows, class, 25, seed, purpose).0;
        assert_eq!(chosen(1, "test"), chosen(1, "test"));
        assert_ne!(chosen(1, "test"), chosen(2, "test"));
        assert_ne!(chosen(1, "test"), chosen(1, "valid"));
    }

    #[test]
    fn the_choice_stays_the_same_from_build_to_build() {
        let rows: Vec<u32> = (0..20).collect();
        assert_eq!(choose(&rows, class, 5, 0, "test").0, GOLDEN);
    }

    const GOLDEN: [u32; 5] = [7, 12, 14, 17, 19];

    #[test]
    fn remainders_and_edges_are_shared_out() {
        let rows: Vec<u32> = (0..7).collect();
        // Classes of 3, 2 and 2 rows; 4 of 7 rows are shares of 1.71, 1.14 and 1.14.
        let (chosen, _) = choose(&rows, |row| row % 3, 4, 0, "test");
        let count = |c| chosen.iter().filter(|row| **row % 3 == c).count();
        assert_eq!((count(0), count(1), count(2)), (2, 1, 1));
        assert_eq!(choose(&rows, class, 99, 0, "test").0, rows);
        assert_eq!(choose(&[], class, 3, 0, "test"), (vec![], vec![]));
        assert_eq!(
            (fraction_of(10, 0.25), fraction_of(3, 0.01), fraction_of(3, 0.99), fraction_of(0, 0.5)),
            (3, 1, 2, 0)
        );
    }

    #[test]
    fn folds_are_equal_parts_of_all_rows() {
        let rows: Vec<u32> = (0..103).collect();
        let mut all = Vec::new();
        for index in 0..5 {
            let (part, rest) = fold(&rows, class, 5, index, 3);
            assert!((20..=21).contains(&part.len()) && part.len() + rest.len() == 103);
            assert!((6..=7).contains(&part.iter().filter(|row| class(**row) == 1).count()));
            all.extend(part);
        }
        all.sort_unstable();
        assert_eq!(all, rows);
        assert_ne!(fold(&rows, class, 5, 0, 3), fold(&rows, class, 5, 0, 4));
    }
}
