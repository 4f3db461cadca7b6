//! Kubernetes' quantities of CPU and memory.

/// CPU in thousandths: `250m`, `1`, `0.5`.
#[must_use]
pub fn millicpu(text: &str) -> Option<f64> {
    match text.strip_suffix('m') {
        Some(thousandths) => thousandths.parse().ok(),
        None => text.parse::<f64>().ok().map(|cores| cores * 1000.0),
    }
}

/// Memory in MiB: `64Mi`, `1Gi`, `500M`, or bytes.
#[must_use]
pub fn mebibytes(text: &str) -> Option<f64> {
    let units = [
        ("Ki", 1024.0),
        ("Mi", MEBIBYTE),
        ("Gi", 1024.0 * MEBIBYTE),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
    ];
    let unit = units.into_iter().find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, bytes)));
    let (number, bytes) = unit.unwrap_or((text, 1.0));
    Some(number.parse::<f64>().ok()? * bytes / MEBIBYTE)
}

const MEBIBYTE: f64 = 1_048_576.0;
