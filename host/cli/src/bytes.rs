//! Sizes in bytes, as people write them, and how much memory there is.

use std::fmt;
use std::str::FromStr;

/// A number of bytes: `512MiB`, `1.5GB`, `1073741824`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ByteSize(pub(crate) u64);

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let size = mezze_model::parse_size(text)
            .ok_or_else(|| format!("`{text}` is not a size; write for example 512MiB, 2GB or 1073741824"))?;
        Ok(Self(size))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::output::size(self.0))
    }
}

/// Half of the machine's memory, or of what the process's group may have; `None` where the system does not say.
pub(crate) fn half_of_memory() -> Option<u64> {
    let total = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    });
    let group = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse::<u64>().ok());
    let least = [total, group].into_iter().flatten().min()?;
    Some(least / 2)
}

/// The most memory that this process has had so far, in bytes; `None` where the system does not say.
pub(crate) fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::ByteSize;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        let size = |text: &str| text.parse::<ByteSize>().map(|size| size.0);
        assert_eq!(size("1GB"), Ok(1_000_000_000));
        assert_eq!(size("1.5 GiB"), Ok(1_610_612_736));
        assert_eq!(size("512mib"), Ok(536_870_912));
        assert_eq!(size("4096"), Ok(4096));
        for wrong in ["", "GB", "1XB", "-1GB", "1.2.3GB", "99999999999TB", "1e400GB"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
