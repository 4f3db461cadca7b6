//! The notification service's process.

use std::process::ExitCode;

fn main() -> ExitCode {
    portolan_runtime::main::<portolan_notification::Notification>()
}
