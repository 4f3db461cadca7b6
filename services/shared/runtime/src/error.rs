use std::error::Error;

/// An error and its causes on one line, `a: b: c`. A cause that its parent already quotes is left
/// out, because many libraries repeat their source in `Display`.
pub fn one_line(error: &(dyn Error + 'static)) -> String {
    let mut line = flatten(&error.to_string());
    let mut source = error.source();
    while let Some(cause) = source {
        let text = flatten(&cause.to_string());
        let quoted = line == text || line.ends_with(&format!(": {text}"));
        if !text.is_empty() && !quoted {
            line.push_str(": ");
            line.push_str(&text);
        }
        source = cause.source();
    }
    line
}

fn flatten(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_joined_and_never_repeated() {
        let error = anyhow::anyhow!("refused").context("io: refused").context("database\n  down");
        assert_eq!(one_line(error.as_ref()), "database down: io: refused");
        let error = anyhow::anyhow!("a").context("task worker failed");
        assert_eq!(one_line(error.as_ref()), "task worker failed: a", "a part is no quotation");
    }
}
