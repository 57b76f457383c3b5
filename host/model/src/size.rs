//! Sizes in bytes, as people write them.

/// Reads `512MiB`, `1.5GB`, `1073741824`; units may be of either case. `None` where the text is none, or beyond what can be counted.
pub fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    let unit = unit.trim().to_ascii_lowercase();
    let (_, bytes) = UNITS.iter().find(|(name, _)| *name == unit)?;
    match number.parse::<u64>() {
        Ok(number) => number.checked_mul(*bytes),
        Err(_) => {
            let size = number.parse::<f64>().ok()? * *bytes as f64;
            // Above this a float does not count single bytes, and nobody has so many.
            if size < 9_007_199_254_740_992.0 { Some(size as u64) } else { None }
        }
    }
}

/// Units and their bytes.
const UNITS: [(&str, u64); 10] = [
    ("", 1),
    ("b", 1),
    ("kb", 1000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
];
