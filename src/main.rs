//! The program: reads its command line and environment, and exits with a code.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(meshtrace::run(std::env::args_os(), &|name| std::env::var(name).ok()))
}
