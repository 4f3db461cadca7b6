//! `portolan-payment`: the payment service. See the library's documentation.

use std::process::ExitCode;

fn main() -> ExitCode {
    portolan_runtime::main::<portolan_payment::PaymentService>()
}
