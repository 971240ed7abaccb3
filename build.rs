//! Has cargo build caft again when a file that is embedded in it is added or removed.

fn main() {
    for folder in ["configs", "recipes"] {
        println!("cargo::rerun-if-changed={folder}");
    }
}
