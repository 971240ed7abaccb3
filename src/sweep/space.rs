//! What varies in a sweep, and the choices that grids and dice make of it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::domain::Domain;
use crate::base::random::Stream;
use crate::base::{Digest, KeyWriter};

/// A key with the value it gets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    /// The key's path, such as `train.optimizer.lr`.
    pub path: String,
    /// Its value.
    pub value: Value,
}

impl Setting {
    /// Its value in few words: `mlp hidden=[64]` of a kind with its settings, `fold 3 of 5`, else as in JSON, texts
    /// without quotes and lists with spaces.
    pub fn in_words(&self) -> String {
        words(&self.value)
    }
}

fn words(value: &Value) -> String {
    let map = match value {
        Value::Object(map) => map,
        Value::Array(list) => return format!("[{}]", list.iter().map(words).collect::<Vec<_>>().join(", ")),
        other => return other.as_str().map_or_else(|| other.to_string(), String::from),
    };
    if let Some(fold) = map.get("fold") {
        let part = |key: &str| fold[key].as_u64();
        if let (Some(of), Some(index)) = (part("of"), part("index")) {
            return format!("fold {} of {of}", index + 1);
        }
    }
    let kind = map.get("kind").map(words);
    let rest = map.iter().filter(|(key, _)| *key != "kind").map(|(key, value)| format!("{key}={}", words(value)));
    kind.into_iter().chain(rest).collect::<Vec<_>>().join(" ")
}

/// One key that varies.
#[derive(Debug, Clone, PartialEq)]
pub struct Dimension {
    /// The key's path.
    pub path: String,
    /// What it may become.
    pub domain: Domain,
    /// Where the recipe says it, such as `sweep.parameters.lr`.
    pub written: String,
}

/// All that varies.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Space {
    /// The keys, in the order written.
    pub dimensions: Vec<Dimension>,
}

impl Space {
    /// The number of combinations, if they are finitely many.
    pub fn size(&self) -> Option<u64> {
        self.dimensions.iter().try_fold(1u64, |size, d| size.checked_mul(d.domain.all()?.len() as u64))
    }

    /// The combination of this number in a grid, in which the last key changes first; `None` past the end, or if
    /// there are endlessly many.
    pub fn combination(&self, number: u64) -> Option<Vec<Setting>> {
        let mut left = number;
        let mut settings = Vec::new();
        for dimension in self.dimensions.iter().rev() {
            let values = dimension.domain.all()?;
            let count = values.len() as u64;
            settings.push(dimension.set(values[(left % count) as usize].clone()));
            left /= count;
        }
        settings.reverse();
        (left == 0).then_some(settings)
    }

    /// The choice of this number at random: a function of (seed, key, number), so that a key more or less does not
    /// change what the others get.
    pub fn draw(&self, seed: u64, number: u64) -> Vec<Setting> {
        let unit = |path: &str| {
            let bits = Stream::named(seed, &format!("sweep/{path}")).u64(number) >> 11;
            (bits as f64 + 0.5) / (1u64 << 53) as f64
        };
        self.dimensions.iter().map(|d| d.set(d.domain.at(unit(&d.path)))).collect()
    }

    /// The identity of what varies.
    pub fn digest(&self) -> Digest {
        let key = KeyWriter::new("space");
        self.dimensions.iter().fold(key, |key, d| key.json(&d.path, &d.domain)).finish()
    }
}

impl Dimension {
    fn set(&self, value: Value) -> Setting {
        Setting { path: self.path.clone(), value }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Problems;
    use crate::sweep::SweepConfig;

    fn space(parameters: Value) -> Space {
        let config: SweepConfig = serde_json::from_value(serde_json::json!({"parameters": parameters})).unwrap();
        let mut problems = Problems::default();
        let space = config.space(&[], &mut problems);
        assert!(problems.is_empty(), "{problems}");
        space
    }

    #[test]
    fn a_grid_has_every_combination_once() {
        let space = space(serde_json::json!({"epochs": "1,2,3", "batch_size": {"values": [8, 16]}}));
        let all: Vec<String> = (0..)
            .map_while(|i| space.combination(i))
            .map(|s| s.iter().map(|s| s.value.to_string()).collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(all, ["1 8", "1 16", "2 8", "2 16", "3 8", "3 16"]);
    }

    #[test]
    fn draws_do_not_depend_on_other_keys() {
        let one = space(serde_json::json!({"lr": "log_uniform(1e-4,1)"}));
        let two = space(serde_json::json!({"epochs": "1,2,3", "lr": "log_uniform(1e-4,1)"}));
        for i in 0..5 {
            assert_eq!(one.draw(3, i)[0], two.draw(3, i)[1]);
        }
        assert_ne!(one.draw(3, 0), one.draw(3, 1));
        assert_ne!(one.draw(3, 0), one.draw(4, 0));
        assert_ne!(one.digest(), two.digest());
    }
}
