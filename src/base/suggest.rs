//! "Did you mean …?" for keys, kinds and names.

/// The candidate nearest to `word`, if one is near enough to be a likely slip: Damerau-Levenshtein
/// distance of at most a third of the longer word (and always at least 1), ignoring case and the
/// difference between `-` and `_`.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |s: &str| s.to_lowercase().replace('-', "_");
    let word = plain(word);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word, &plain(candidate)), candidate))
        .filter(|(distance, candidate)| *distance <= (word.len().max(candidate.len()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `; did you mean `x`?`, or nothing.
pub fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, candidates).map(|c| format!("; did you mean `{c}`?")).unwrap_or_default()
}

/// A key as a path shows it: in quotes where it is not a plain word.
pub fn key_segment(key: &str) -> String {
    if key.is_empty() || key.contains(['.', '[', ']', '"', ' ']) { format!("\"{key}\"") } else { key.to_string() }
}

/// `` `a`, `b` or `c` ``.
pub fn one_of<'a>(values: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = values.into_iter().map(|v| format!("`{v}`")).collect();
    match quoted.split_last() {
        None => "nothing".into(),
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_is_found_and_the_far_is_not() {
        let keys = ["hidden", "dropout", "kind"];
        assert_eq!(nearest("hiden", keys), Some("hidden"));
        assert_eq!(nearest("knid", keys), Some("kind"));
        assert_eq!(nearest("learning_rate", keys), None);
        assert_eq!(did_you_mean("Drop-out", ["drop_out"]), "; did you mean `drop_out`?");
        assert_eq!(one_of(["a", "b", "c"]), "`a`, `b` or `c`");
    }
}
