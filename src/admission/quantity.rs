//! Amounts of CPU and memory, strict enough that the API server never refuses a pod for what we wrote into it.

use std::fmt;

/// An amount with its text as it was written; compares by size.
#[derive(Clone, Debug)]
pub struct Quantity {
    text: String,
    /// Thousandths of the unit, which is a core or a byte.
    thousandths: u64,
}

/// The largest amount that is taken, in units. More is a slip of the pen.
const MOST: u64 = 1 << 50;

const CPU: [(&str, u64); 2] = [("m", 1), ("", 1_000)];

const MEMORY: [(&str, u64); 9] = [
    ("Ki", 1_000 << 10),
    ("Mi", 1_000 << 20),
    ("Gi", 1_000 << 30),
    ("Ti", 1_000 << 40),
    ("k", 1_000_000),
    ("M", 1_000_000_000),
    ("G", 1_000_000_000_000),
    ("T", 1_000_000_000_000_000),
    ("", 1_000),
];

impl Quantity {
    /// Cores: `250m`, `1`, `0.5`. More than zero, at most three decimals.
    pub fn cpu(text: &str) -> Option<Self> {
        Quantity::parse(text, &CPU)
    }

    /// Bytes: `64Mi`, `1G`. More than zero, whole bytes.
    pub fn memory(text: &str) -> Option<Self> {
        Quantity::parse(text, &MEMORY).filter(|quantity| quantity.thousandths.is_multiple_of(1_000))
    }

    fn parse(text: &str, units: &[(&str, u64)]) -> Option<Self> {
        let (number, unit) =
            units.iter().find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?, *unit)))?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let digits = |part: &str| (1..=15).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(fraction) {
            return None;
        }
        let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
        let scaled =
            (whole.parse::<u128>().ok()? * scale + fraction.parse::<u128>().ok()?) * u128::from(unit);
        let thousandths = u64::try_from(scaled / scale).ok()?;
        let exact = scaled.is_multiple_of(scale);
        let sensible = thousandths > 0 && thousandths / 1_000 <= MOST;
        (exact && sensible).then(|| Quantity { text: text.to_owned(), thousandths })
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.thousandths == other.thousandths
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.thousandths.cmp(&other.thousandths)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_strictly() {
        for good in ["1", "10m", "0.5", "1.5", "0.001"] {
            assert!(Quantity::cpu(good).is_some(), "{good}");
        }
        for bad in
            ["", "0", "0m", "-1", "+1", "1.0001", "10 m", "m", ".5", "1.", "1e3", "1Ki", "99999999999999999"]
        {
            assert!(Quantity::cpu(bad).is_none(), "{bad}");
        }
        for good in ["64Mi", "1G", "134217728", "1.5Gi", "512k", "1024Ti"] {
            assert!(Quantity::memory(good).is_some(), "{good}");
        }
        for bad in ["", "0", "64mi", "64MB", "64Mi ", "10m", "0.5", "1Ei", "2048Ti"] {
            assert!(Quantity::memory(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn amounts_compare_by_size() {
        assert_eq!(Quantity::cpu("500m"), Quantity::cpu("0.5"));
        assert!(Quantity::memory("1000Ki") < Quantity::memory("1Mi"));
        assert_eq!(Quantity::memory("64Mi").unwrap().to_string(), "64Mi");
    }
}
