//! Instants of any unit as integers that compare exactly.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::{
    DataType, Date32Type, Date64Type, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType,
};

/// The unit that instants of one join are compared in: microseconds unless a column has nanoseconds. Microseconds reach the
/// years that Parquet files use for "for ever" (9999), which nanoseconds do not; in nanoseconds such instants saturate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Unit {
    Micros,
    Nanos,
}

impl Unit {
    /// The unit that holds a column exactly; `None` if it is no column of instants.
    pub(super) fn of(data_type: &DataType) -> Option<Self> {
        match data_type {
            DataType::Timestamp(TimeUnit::Nanosecond, _) => Some(Self::Nanos),
            DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => Some(Self::Micros),
            _ => None,
        }
    }

    fn per_second(self) -> i64 {
        match self {
            Self::Micros => 1_000_000,
            Self::Nanos => 1_000_000_000,
        }
    }

    /// Nanoseconds in this unit, rounded down.
    pub(super) fn floor(self, nanos: i64) -> i64 {
        match self {
            Self::Nanos => nanos,
            Self::Micros if nanos == i64::MAX || nanos == i64::MIN => nanos,
            Self::Micros => nanos.div_euclid(1000),
        }
    }

    /// Nanoseconds in this unit, rounded up.
    pub(super) fn ceil(self, nanos: i64) -> i64 {
        match self {
            Self::Nanos => nanos,
            Self::Micros if nanos == i64::MAX || nanos == i64::MIN => nanos,
            Self::Micros => nanos.div_euclid(1000) + i64::from(nanos.rem_euclid(1000) != 0),
        }
    }

    /// This unit in nanoseconds, saturated.
    pub(super) fn to_nanos(self, value: i64) -> i64 {
        match self {
            Self::Nanos => value,
            Self::Micros => value.saturating_mul(1000),
        }
    }
}

/// The instants of a column in `unit`; nulls have any value. `None` if it is no column of instants.
pub(super) fn instants(array: &ArrayRef, unit: Unit) -> Option<ScalarBuffer<i64>> {
    let (values, scale) = match array.data_type() {
        DataType::Timestamp(TimeUnit::Second, _) => {
            (array.as_primitive::<TimestampSecondType>().values().clone(), unit.per_second())
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            (array.as_primitive::<TimestampMillisecondType>().values().clone(), unit.per_second() / 1_000)
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            (array.as_primitive::<TimestampMicrosecondType>().values().clone(), unit.per_second() / 1_000_000)
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            let values = array.as_primitive::<TimestampNanosecondType>().values().clone();
            return Some(if unit == Unit::Nanos { values } else { values.iter().map(|value| value.div_euclid(1000)).collect() });
        }
        DataType::Date64 => (array.as_primitive::<Date64Type>().values().clone(), unit.per_second() / 1_000),
        DataType::Date32 => {
            let days = array.as_primitive::<Date32Type>().values();
            return Some(days.iter().map(|day| i64::from(*day).saturating_mul(86_400 * unit.per_second())).collect());
        }
        _ => return None,
    };
    Some(if scale == 1 { values } else { values.iter().map(|value| value.saturating_mul(scale)).collect() })
}
