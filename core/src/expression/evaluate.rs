//! Running a program over columns.

use alloc::vec::Vec;

use super::column::Column;
use super::column::Values;
use super::function::Function;
use super::{Program, cast, date, list, math, number, text};
use crate::canonical_f64;

impl Program {
    /// Its results for so many rows, a column for each output. A column that is missing from the inputs is null.
    ///
    /// The columns of inputs have `rows` values each; floats come out with the one bit pattern of NaN that there is.
    pub fn run<'a>(&'a self, inputs: Vec<Column<'a>>, rows: usize) -> Vec<Column<'a>> {
        let mut registers: Vec<Option<Column<'a>>> = Vec::with_capacity(self.last_uses.len());
        registers.extend(inputs.into_iter().take(self.input_count()).map(Some));
        registers.resize_with(self.input_count(), || None);
        registers.extend(self.constants.iter().map(|constant| Some(Column::of(constant, rows))));
        let missing = Column::null();
        for (number, step) in self.steps.iter().enumerate() {
            let mut arguments = Arguments { columns: [&missing; ARGUMENTS_MAX], count: step.arguments.len() };
            for (slot, register) in arguments.columns.iter_mut().zip(&step.arguments) {
                if let Some(Some(column)) = registers.get(usize::from(*register)) {
                    *slot = column;
                }
            }
            let result = if step.arguments.len() > ARGUMENTS_MAX {
                let many: Vec<&Column<'_>> = step
                    .arguments
                    .iter()
                    .map(|register| registers.get(usize::from(*register)).and_then(Option::as_ref).unwrap_or(&missing))
                    .collect();
                apply_to_many(step.function, &many, rows)
            } else {
                apply(step.function, &arguments, rows)
            };
            registers.push(Some(result));
            // What nobody needs any more makes room for the next, which is then still in the cache.
            for register in &step.arguments {
                if self.last_uses.get(usize::from(*register)) == Some(&(number as u32))
                    && let Some(slot) = registers.get_mut(usize::from(*register))
                {
                    *slot = None;
                }
            }
        }
        let mut results = Vec::with_capacity(self.outputs.len());
        for (index, output) in self.outputs.iter().enumerate() {
            let again = self.outputs.get(index + 1..).is_some_and(|rest| rest.contains(output));
            let slot = registers.get_mut(usize::from(*output));
            let column = if again { slot.and_then(|slot| slot.clone()) } else { slot.and_then(Option::take) };
            let mut column = column.unwrap_or_else(Column::null);
            if let Values::Float(values) = &mut column.values
                && values.iter().any(|value| value.is_nan())
            {
                values.to_mut().iter_mut().for_each(|value| *value = canonical_f64(*value));
            }
            results.push(column);
        }
        results
    }
}

/// Arguments of a step that go without a list of their own.
const ARGUMENTS_MAX: usize = 4;

/// The arguments of a step.
pub(super) struct Arguments<'s, 'c> {
    columns: [&'s Column<'c>; ARGUMENTS_MAX],
    count: usize,
}

impl<'s, 'c> Arguments<'s, 'c> {
    fn all(&self) -> &[&'s Column<'c>] {
        self.columns.get(..self.count).unwrap_or_default()
    }
}

fn apply_to_many(function: Function, arguments: &[&Column<'_>], rows: usize) -> Column<'static> {
    match function {
        Function::Concat => text::concat(arguments, rows),
        Function::ListOfInts | Function::ListOfFloats | Function::ListOfBytes => list::list_of(arguments, rows),
        _ => Column::null(),
    }
}

fn apply(function: Function, arguments: &Arguments<'_, '_>, rows: usize) -> Column<'static> {
    use Function as F;
    let [a, b, c, d] = arguments.columns;
    match function {
        F::AddInt
        | F::SubtractInt
        | F::MultiplyInt
        | F::DivideInt
        | F::RemainderInt
        | F::NegateInt
        | F::AbsInt
        | F::SignInt
        | F::AddFloat
        | F::SubtractFloat
        | F::MultiplyFloat
        | F::DivideFloat
        | F::RemainderFloat
        | F::NegateFloat
        | F::AbsFloat
        | F::SignFloat
        | F::EqualInt
        | F::LessInt
        | F::LessEqualInt
        | F::EqualFloat
        | F::LessFloat
        | F::LessEqualFloat
        | F::EqualBytes
        | F::LessBytes
        | F::LessEqualBytes
        | F::And
        | F::Or
        | F::Not
        | F::IsNull
        | F::Select
        | F::Coalesce
        | F::GreatestInt
        | F::LeastInt
        | F::GreatestFloat
        | F::LeastFloat
        | F::GreatestBytes
        | F::LeastBytes
        | F::IntToFloat => number::apply(function, a, b, c, rows),
        F::FloatToInt
        | F::NarrowInt
        | F::NarrowFloat
        | F::IntToText
        | F::FloatToText
        | F::BoolToText
        | F::TextToInt
        | F::TextToFloat
        | F::TextToBool
        | F::IntToBool
        | F::FloatToBool
        | F::IntToTime
        | F::FloatToTime
        | F::TimeToInt
        | F::TimeToFloat
        | F::TimeToText
        | F::TextToTime
        | F::BytesToText
        | F::UuidToText
        | F::TextToUuid
        | F::BytesToUuid
        | F::TextToDecimal
        | F::DecimalToInt
        | F::ZonedToText
        | F::TextToZoned
        | F::ZonedToTime
        | F::TimeToZoned => cast::apply(function, a, rows),
        F::Ceil
        | F::Floor
        | F::Trunc
        | F::Round
        | F::Sqrt
        | F::Cbrt
        | F::Exp
        | F::Ln
        | F::Log2
        | F::Log10
        | F::Power
        | F::Sin
        | F::Cos
        | F::Tan
        | F::Asin
        | F::Acos
        | F::Atan
        | F::Atan2
        | F::Tanh
        | F::Sigmoid
        | F::IsNan
        | F::IsFinite
        | F::Haversine
        | F::WidthBucket
        | F::HashInt
        | F::HashFloat
        | F::HashBytes
        | F::HashBucket => math::apply(function, [a, b, c, d], rows),
        F::Concat => text::concat(arguments.all(), rows),
        F::Upper
        | F::Lower
        | F::Trim
        | F::TrimStart
        | F::TrimEnd
        | F::Length
        | F::ByteLength
        | F::Substring
        | F::Left
        | F::Right
        | F::Replace
        | F::StartsWith
        | F::EndsWith
        | F::Contains
        | F::Position
        | F::Like
        | F::PadStart
        | F::PadEnd
        | F::SplitPart
        | F::Reverse => text::apply(function, a, b, c, rows),
        F::DatePart | F::DateTrunc | F::DateDiff | F::AddMonths | F::Elapsed => date::apply(function, a, b, c, rows),
        F::ListOfInts | F::ListOfFloats | F::ListOfBytes => list::list_of(arguments.all(), rows),
        _ => list::apply(function, [a, b, c, d], rows),
    }
}
