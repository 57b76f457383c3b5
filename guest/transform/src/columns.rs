//! Columns on their way in and out.

use std::marker::PhantomData;

use crate::bindings::exports::mezze::features::computation as wit;
use crate::value::{Input, Output};

/// A column that a transform takes.
#[derive(Debug)]
pub struct Column<'a, T> {
    column: &'a wit::Column,
    of: PhantomData<T>,
}

impl<T> Clone for Column<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Column<'_, T> {}

impl<'a, T: Input<'a>> Column<'a, T> {
    /// The value of a row; `None` where it is null.
    pub fn get(&self, row: usize) -> Option<T> {
        T::take(self.column, row)
    }
}

impl<'a> Column<'a, f64> {
    /// All values; what stands where one is null means nothing.
    pub fn values(&self) -> &'a [f64] {
        if let wit::Values::Floats(values) = &self.column.values { values } else { &[] }
    }

    /// By row 1 where there is a value; `None` where no row is null.
    pub fn valid(&self) -> Option<&'a [u8]> {
        self.column.valid.as_deref()
    }
}

impl<'a> Column<'a, i64> {
    /// All values; what stands where one is null means nothing.
    pub fn values(&self) -> &'a [i64] {
        if let wit::Values::Ints(values) = &self.column.values { values } else { &[] }
    }

    /// By row 1 where there is a value; `None` where no row is null.
    pub fn valid(&self) -> Option<&'a [u8]> {
        self.column.valid.as_deref()
    }
}

/// The columns of a call, one after the other.
#[doc(hidden)]
pub struct Columns<'a> {
    rows: usize,
    number: usize,
    columns: &'a [wit::Column],
}

impl<'a> Columns<'a> {
    pub fn new(rows: usize, columns: &'a [wit::Column]) -> Self {
        Self { rows, number: 0, columns }
    }

    pub fn take<T: Input<'a>>(&mut self) -> Result<Column<'a, T>, String> {
        let number = self.number;
        self.number += 1;
        let column = self.columns.get(number).ok_or_else(|| format!("there is no input {number}"))?;
        let count = match &column.values {
            wit::Values::Ints(values) => values.len(),
            wit::Values::Floats(values) => values.len(),
            wit::Values::Bytes(payloads) => payloads.offsets.len().saturating_sub(1),
        };
        if !T::is_of(&column.values) || count != self.rows {
            return Err(format!("input {number} is no column of {} values of the type {}", self.rows, T::dtype()));
        }
        Ok(Column { column, of: PhantomData })
    }
}

/// A column that is made value by value.
#[doc(hidden)]
pub struct ColumnBuilder<T> {
    values: wit::Values,
    valid: Vec<u8>,
    nulls: bool,
    of: PhantomData<T>,
}

impl<T: Output> ColumnBuilder<T> {
    pub fn new(rows: usize) -> Self {
        Self { values: T::values(rows), valid: Vec::with_capacity(rows), nulls: false, of: PhantomData }
    }

    pub fn push(&mut self, value: Option<T>) {
        let is_valid = T::push(value, &mut self.values);
        self.valid.push(u8::from(is_valid));
        self.nulls |= !is_valid;
    }

    pub fn finish(self) -> wit::Column {
        wit::Column { values: self.values, valid: self.nulls.then_some(self.valid) }
    }
}

/// A column that a function of columns has made.
pub struct Made<T>(ColumnBuilder<T>);

impl<T: Output> FromIterator<Option<T>> for Made<T> {
    fn from_iter<I: IntoIterator<Item = Option<T>>>(values: I) -> Self {
        let values = values.into_iter();
        let mut made = ColumnBuilder::new(values.size_hint().0);
        values.for_each(|value| made.push(value));
        Self(made)
    }
}

impl<T: Output> FromIterator<T> for Made<T> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        values.into_iter().map(Some).collect()
    }
}

impl<T: Output> Made<T> {
    #[doc(hidden)]
    pub fn finish(self, rows: usize, name: &str) -> Result<wit::Column, String> {
        let count = self.0.valid.len();
        if count == rows { Ok(self.0.finish()) } else { Err(format!("{name}: the function made {count} values for {rows} rows")) }
    }
}

/// The columns of all features, made row by row.
#[doc(hidden)]
pub trait RowsMade {
    type Row;
    fn push(&mut self, row: Option<Self::Row>);
    fn finish(self) -> Vec<wit::Column>;
}

impl<T: Output> RowsMade for ColumnBuilder<T> {
    type Row = T;

    fn push(&mut self, row: Option<T>) {
        ColumnBuilder::push(self, row);
    }

    fn finish(self) -> Vec<wit::Column> {
        vec![ColumnBuilder::finish(self)]
    }
}

/// The columns of all features, made each as a whole.
#[doc(hidden)]
pub trait ColumnsMade {
    fn finish(self, rows: usize, names: &[&str]) -> Result<Vec<wit::Column>, String>;
}

impl<T: Output> ColumnsMade for Made<T> {
    fn finish(self, rows: usize, names: &[&str]) -> Result<Vec<wit::Column>, String> {
        Ok(vec![Made::finish(self, rows, names.first().copied().unwrap_or_default())?])
    }
}

macro_rules! several {
    ($($type:ident $number:tt),+) => {
        impl<$($type: Output),+> RowsMade for ($(ColumnBuilder<$type>,)+) {
            type Row = ($($type,)+);

            fn push(&mut self, row: Option<Self::Row>) {
                match row {
                    Some(row) => { $( self.$number.push(Some(row.$number)); )+ }
                    None => { $( self.$number.push(None); )+ }
                }
            }

            fn finish(self) -> Vec<wit::Column> {
                vec![$( self.$number.finish() ),+]
            }
        }

        impl<$($type: Output),+> ColumnsMade for ($(Made<$type>,)+) {
            fn finish(self, rows: usize, names: &[&str]) -> Result<Vec<wit::Column>, String> {
                Ok(vec![$( self.$number.finish(rows, names.get($number).copied().unwrap_or_default())? ),+])
            }
        }
    };
}

several!(A 0, B 1);
several!(A 0, B 1, C 2);
several!(A 0, B 1, C 2, D 3);
several!(A 0, B 1, C 2, D 3, E 4);
several!(A 0, B 1, C 2, D 3, E 4, F 5);
several!(A 0, B 1, C 2, D 3, E 4, F 5, G 6);
several!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);

/// A field of a schema. A name of Rust may have `r#` before it.
#[doc(hidden)]
pub fn field(name: &str, dtype: String) -> wit::Field {
    wit::Field { name: name.trim_start_matches("r#").into(), dtype }
}
