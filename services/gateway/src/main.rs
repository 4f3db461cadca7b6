//! The gateway process. See the library for what it does.

use std::process::ExitCode;

use portolan_gateway::Gateway;

fn main() -> ExitCode {
    portolan_runtime::main::<Gateway>()
}
