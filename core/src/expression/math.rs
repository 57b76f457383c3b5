//! Functions of floats, buckets and hashes. The floats' are of one library, in Rust, so that no host has its own last bit.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::column::{Column, float_rows, int_rows};
use super::function::Function as F;
use super::number::float;
use crate::canonical_f64;

pub(super) fn apply(function: F, [a, b, c, d]: [&Column<'_>; 4], rows: usize) -> Column<'static> {
    let one: fn(f64) -> f64 = match function {
        F::Ceil => libm::ceil,
        F::Floor => libm::floor,
        F::Trunc => libm::trunc,
        F::Sqrt => return float(a, libm::sqrt),
        F::Cbrt => libm::cbrt,
        F::Exp => libm::exp,
        F::Ln => libm::log,
        F::Log2 => libm::log2,
        F::Log10 => libm::log10,
        F::Sin => libm::sin,
        F::Cos => libm::cos,
        F::Tan => libm::tan,
        F::Asin => libm::asin,
        F::Acos => libm::acos,
        F::Atan => libm::atan,
        F::Tanh => libm::tanh,
        F::Sigmoid => |value| 1.0 / (1.0 + libm::exp(-value)),
        F::Round => return float_rows(rows, &mut |row| Some(round(a.float(row)?, b.int(row)?))),
        F::Power => return float_rows(rows, &mut |row| Some(libm::pow(a.float(row)?, b.float(row)?))),
        F::Atan2 => return float_rows(rows, &mut |row| Some(libm::atan2(a.float(row)?, b.float(row)?))),
        F::IsNan => return int_rows(rows, &mut |row| Some(i64::from(a.float(row)?.is_nan()))),
        F::IsFinite => return int_rows(rows, &mut |row| Some(i64::from(a.float(row)?.is_finite()))),
        F::Haversine => {
            return float_rows(rows, &mut |row| Some(haversine(a.float(row)?, b.float(row)?, c.float(row)?, d.float(row)?)));
        }
        F::WidthBucket => {
            return int_rows(rows, &mut |row| width_bucket(a.float(row)?, b.float(row)?, c.float(row)?, d.int(row)?));
        }
        F::HashInt => return int_rows(rows, &mut |row| Some(hash(&a.int(row)?.to_le_bytes()))),
        F::HashFloat => {
            return int_rows(rows, &mut |row| {
                // Equal numbers have equal hashes: -0 is 0, and NaN is one.
                let value = canonical_f64(a.float(row)?) + 0.0;
                Some(hash(&value.to_le_bytes()))
            });
        }
        F::HashBytes => return int_rows(rows, &mut |row| Some(hash(a.bytes(row)?))),
        F::HashBucket => {
            return int_rows(rows, &mut |row| {
                let count = u64::try_from(b.int(row)?).ok()?;
                Some((a.int(row)? as u64).checked_rem(count)? as i64)
            });
        }
        _ => return Column::null(),
    };
    float_rows(rows, &mut |row| a.float(row).map(one))
}

/// xxh3-64, in one place: the compiler would put its code into every function that calls it.
#[inline(never)]
fn hash(bytes: &[u8]) -> i64 {
    xxh3_64_with_seed(bytes, 0) as i64
}

/// To `places` decimal places, halves away from zero; negative places round before the point.
fn round(value: f64, places: i64) -> f64 {
    if places == 0 {
        return libm::round(value);
    }
    let scale = power_of_ten(places.unsigned_abs());
    let rounded = if places > 0 { libm::round(value * scale) / scale } else { libm::round(value / scale) * scale };
    // Where the scale is beyond floats there is nothing to round, or nothing left.
    if rounded.is_finite() || !value.is_finite() {
        rounded
    } else if places > 0 {
        value
    } else {
        0.0
    }
}

fn power_of_ten(exponent: u64) -> f64 {
    // As few products as there are bits, each the same everywhere.
    let (mut power, mut base, mut left) = (1.0, 10.0, exponent.min(400));
    while left > 0 {
        if left & 1 == 1 {
            power *= base;
        }
        base *= base;
        left >>= 1;
    }
    power
}

/// The great-circle distance in kilometres of two points in degrees, on a sphere of the earth's mean radius, 6371.0088 km (IUGG).
fn haversine(latitude_a: f64, longitude_a: f64, latitude_b: f64, longitude_b: f64) -> f64 {
    const RADIUS_KM: f64 = 6_371.008_8;
    const RADIANS: f64 = core::f64::consts::PI / 180.0;
    let half_sine = |from: f64, to: f64| libm::sin((to - from) * RADIANS / 2.0);
    let (north, east) = (half_sine(latitude_a, latitude_b), half_sine(longitude_a, longitude_b));
    let chord = north * north + libm::cos(latitude_a * RADIANS) * libm::cos(latitude_b * RADIANS) * east * east;
    // Rounding may bring opposite points beyond 1.
    let chord = if chord > 1.0 { 1.0 } else { chord };
    2.0 * RADIUS_KM * libm::asin(libm::sqrt(chord))
}

/// The bucket, from 1, of `count` equal ones between two bounds; 0 below them, `count + 1` from the upper bound on.
fn width_bucket(value: f64, low: f64, high: f64, count: i64) -> Option<i64> {
    if count < 1 || value.is_nan() || !low.is_finite() || !high.is_finite() || low == high {
        return None;
    }
    // Bounds in falling order count downward.
    let (value, low, high) = if low < high { (value, low, high) } else { (-value, -low, -high) };
    if value < low {
        return Some(0);
    }
    if value >= high {
        return count.checked_add(1);
    }
    // Halved, so that the difference of the greatest floats is one.
    let part = (value / 2.0 - low / 2.0) / (high / 2.0 - low / 2.0);
    let bucket = libm::floor(part * count as f64) as i64;
    Some(bucket.saturating_add(1).min(count))
}
