//! Prints the description of what the services tell one another over Kafka, as committed in
//! `docs/asyncapi.json`: `cargo run -p portolan-model --example asyncapi > docs/asyncapi.json`.

mod document;

use std::io::{self, Write as _};

fn main() -> io::Result<()> {
    let text = format!("{:#}\n", document::document());
    io::stdout().write_all(text.as_bytes())
}
