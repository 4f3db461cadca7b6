//! `portolan-psp`: the payment provider simulator. See `portolan_payment::psp`.

use std::process::ExitCode;

fn main() -> ExitCode {
    portolan_runtime::main::<portolan_payment::psp::PspService>()
}
