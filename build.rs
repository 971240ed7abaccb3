//! Has cargo build caft again when a file that is embedded in it is added or removed, and lets a program with the
//! feature `libtorch` find the library that it was built with.

fn main() {
    for folder in ["configs", "recipes"] {
        println!("cargo::rerun-if-changed={folder}");
    }
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    if let (Ok(_), Ok(libtorch)) = (std::env::var("CARGO_FEATURE_LIBTORCH"), std::env::var("LIBTORCH"))
        && !cfg!(windows)
    {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{libtorch}/lib");
    }
}
