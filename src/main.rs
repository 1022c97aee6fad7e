//! The program: reads its command line and environment, and exits with a code.

use std::process::ExitCode;

fn main() -> ExitCode {
    // A value that is not UTF-8 has to be complained about, not taken for unset.
    let env = |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
    ExitCode::from(meshtrace::run(std::env::args_os(), &env))
}
