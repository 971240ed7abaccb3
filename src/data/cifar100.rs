//! `kind: cifar100`: Krizhevsky's hundred classes, in the binary files of the original or in parquet.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cifar10::Files;
use super::load::{Found, Read, Set, SetPlace};
use crate::base::Result;

/// CIFAR-100: 32×32 pictures of a hundred classes in twenty groups. A set is a folder or file of the
/// original's binary version (`train.bin`, `test.bin`), or a parquet file as published on the Hugging
/// Face hub (columns `img`, `fine_label`, `coarse_label`). With a `root` alone both sets are found in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Cifar100 {
    /// Which of the two labels is the class.
    pub labels: Labels,
}

/// The two labels of every picture.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Cifar100Labels")]
pub enum Labels {
    /// The hundred classes.
    #[default]
    Fine,
    /// The twenty groups.
    Coarse,
}

const FINE: &str = "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly \
    camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur \
    dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard \
    lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear \
    pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark \
    shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone \
    television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm";

const COARSE: &str = "aquatic_mammals fish flowers food_containers fruit_and_vegetables \
    household_electrical_devices household_furniture insects large_carnivores large_man-made_outdoor_things \
    large_natural_outdoor_scenes large_omnivores_and_herbivores medium_mammals non-insect_invertebrates people \
    reptiles small_mammals trees vehicles_1 vehicles_2";

impl Cifar100 {
    fn files(&self) -> (Files<'static>, Vec<String>) {
        // A binary record begins with the group, then the class.
        let (label, column, names) = match self.labels {
            Labels::Fine => (1, "fine_label", FINE),
            Labels::Coarse => (0, "coarse_label", COARSE),
        };
        let folders = &["", "cifar-100-binary", "cifar100", "data"];
        let files = Files { labels: 2, label, column, train: "train", test: "test", folders };
        (files, names.split_whitespace().map(String::from).collect())
    }
}

impl Read for Cifar100 {
    fn find(&self, root: &Path) -> Result<Found> {
        self.files().0.find(root)
    }

    fn read(&self, paths: &[PathBuf], place: &SetPlace<'_>) -> Result<Set> {
        let (files, names) = self.files();
        files.read(paths, place, names)
    }
}

#[cfg(test)]
mod tests {
    use crate::data::load::tests::{Fixture, class_names};
    use serde_json::json;

    #[test]
    fn both_labels_of_the_binary_version_are_read() {
        let fixture = Fixture::new();
        let record = |coarse: u8, fine: u8| [vec![coarse, fine], vec![0; 3072]].concat();
        fixture.write("c/train.bin", &[record(19, 99), record(0, 4)].concat());
        fixture.write("c/test.bin", &record(3, 10));
        let load = |labels: &str| fixture.load(json!({"kind": "cifar100", "root": "c", "labels": labels})).unwrap();
        let fine = load("fine");
        let (names, of_row) = class_names(&fine);
        assert_eq!((names.len(), names[99].as_str(), of_row), (100, "worm", &[99, 4, 10][..]));
        let coarse = load("coarse");
        let (names, of_row) = class_names(&coarse);
        assert_eq!((names.len(), names[19].as_str(), of_row), (20, "vehicles_2", &[19, 0, 3][..]));
        assert_eq!(fine.splits.test, [2]);
    }
}
