//! The `caft` program; see [`caft::cli`].

fn main() -> std::process::ExitCode {
    caft::cli::main()
}
