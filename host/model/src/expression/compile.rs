//! Expressions, parsed and checked.
//!
//! The grammar is SQL's, by a parser of its own crate; what of it may stand in an expression, what it means and which types fit is
//! decided here. Conditions are not branches: all parts are computed, and the one that counts is chosen, since no part can fail.

use mezze_core::{Constant, Function as F, Program, Value as CoreValue, ValueType, encode_payload};
use sqlparser::ast::{
    AccessExpr, BinaryOperator, CaseWhen, CeilFloorKind, DateTimeField, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArguments, Interval, Spanned as _, Subscript, TrimWhereField, UnaryOperator, Value,
};
use sqlparser::dialect::DuckDbDialect;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Span, Token};

use super::build::{Builder, Place, Typed};
use super::cast::{cast, type_named};
use super::error::ExpressionError;

/// A column that an expression may use.
#[derive(Clone, Debug, PartialEq)]
pub struct ColumnOf {
    /// Its number among the program's inputs.
    pub input: u16,
    /// Its type.
    pub value_type: ValueType,
}

/// Expressions, compiled together.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Compiled {
    /// What computes them: an output for each.
    pub program: Program,
    /// The type of each; `None` where it is nothing but `NULL`.
    pub types: Vec<Option<ValueType>>,
}

/// Bytes of an expression's text at the most.
const TEXT_BYTES_MAX: usize = 8_192;
/// How many operators may follow each other.
const CHAIN_MAX: usize = 1_000;
/// How deep an expression may be nested, a chain of operators of two sides counting as one.
const DEPTH_MAX: usize = 100;

pub(super) type Result<T> = std::result::Result<T, ExpressionError>;

/// What an expression's columns are: a name in one or two parts, and whether it was `now()` that was asked for.
pub(super) type Resolve<'r> = &'r mut dyn FnMut(&[String]) -> std::result::Result<ColumnOf, String>;

/// Compiles expressions into one program, each with the type that it shall have, if that is known. `resolve` finds the column of a
/// name: one part, or view and feature; of no parts, the time of the request.
///
/// # Errors
/// For each expression that is wrong its number and what is wrong with it.
pub fn compile(
    expressions: &[(&str, Option<&ValueType>)],
    resolve: &mut dyn FnMut(&[String]) -> std::result::Result<ColumnOf, String>,
) -> std::result::Result<Compiled, Vec<(usize, ExpressionError)>> {
    let mut builder = Builder::default();
    let (mut outputs, mut types, mut errors) = (Vec::new(), Vec::new(), Vec::new());
    let mut resolve = resolve;
    for (number, (text, wanted)) in expressions.iter().enumerate() {
        match one(text, *wanted, &mut builder, &mut resolve) {
            Ok((place, value_type)) => {
                outputs.push(place);
                types.push(value_type);
            }
            Err(error) => errors.push((number, error)),
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    match builder.finish(&outputs) {
        Some(program) => Ok(Compiled { program, types }),
        None => {
            let text = expressions.first().map_or("", |(text, _)| text);
            Err(vec![(0, ExpressionError::at(text, Span::empty(), "these expressions are too large together; split the view"))])
        }
    }
}

/// Compiles an expression with all that it is made of: an output for each part that is computed, the inner ones first, with their
/// texts; the last is the whole.
///
/// # Errors
/// What is wrong with it.
pub fn compile_parts(
    text: &str,
    wanted: Option<&ValueType>,
    resolve: &mut dyn FnMut(&[String]) -> std::result::Result<ColumnOf, String>,
) -> std::result::Result<(Compiled, Vec<String>), ExpressionError> {
    let expression = parse(text)?;
    let mut builder = Builder::default();
    let mut parts = Vec::new();
    let mut compiler = Compiler { text, builder: &mut builder, resolve, depth: 0, parts: Some(&mut parts) };
    let typed = compiler.expression(&expression)?;
    let (place, value_type) = compiler.finished(&typed, wanted)?;
    parts.retain(|(_, part)| part.place != typed.place);
    parts.push((expression.to_string(), Typed { place, value_type, ..typed }));
    let outputs: Vec<Place> = parts.iter().map(|(_, part)| part.place).collect();
    let types = parts.iter().map(|(_, part)| part.value_type.clone()).collect();
    let program = builder.finish(&outputs);
    let program = program.ok_or_else(|| ExpressionError::at(text, Span::empty(), "the expression is too large"))?;
    Ok((Compiled { program, types }, parts.into_iter().map(|(text, _)| text).collect()))
}

fn one(
    text: &str,
    wanted: Option<&ValueType>,
    builder: &mut Builder,
    resolve: Resolve<'_>,
) -> Result<(Place, Option<ValueType>)> {
    let expression = parse(text)?;
    let mut compiler = Compiler { text, builder, resolve, depth: 0, parts: None };
    let typed = compiler.expression(&expression)?;
    compiler.finished(&typed, wanted)
}

fn parse(text: &str) -> Result<Expr> {
    if text.len() > TEXT_BYTES_MAX {
        let message = format!("an expression has at most {TEXT_BYTES_MAX} bytes, this has {}; split it over views", text.len());
        return Err(ExpressionError::at("", Span::empty(), message));
    }
    let failed = |error: ParserError| {
        let message = match error {
            ParserError::RecursionLimitExceeded => "the expression is nested too deep; split it over views".to_owned(),
            ParserError::ParserError(message) | ParserError::TokenizerError(message) => message,
        };
        // The parser says where in its message alone.
        let (message, place) = message.split_once(" at Line: ").unwrap_or((&message, ""));
        let numbers: Vec<u64> = place.split(", Column: ").filter_map(|number| number.trim().parse().ok()).collect();
        let start = match numbers.as_slice() {
            [line, column] => Location { line: *line, column: *column },
            // It names no place where the text ends too early.
            _ => Location {
                line: text.lines().count().max(1) as u64,
                column: text.lines().last().map_or(0, |line| line.chars().count()) as u64 + 1,
            },
        };
        let message = message.trim_start_matches("sql parser error: ");
        let mut letters = message.chars();
        let message: String = letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default();
        ExpressionError::at(text, Span { start, end: start }, format!("this is no expression: {message}"))
    };
    let dialect = DuckDbDialect {};
    let mut parser = Parser::new(&dialect).try_with_sql(text).map_err(failed)?;
    let mut expression = parser.parse_expr().map_err(failed)?;
    if is_too_deep(&mut expression) {
        dismantle(expression);
        return Err(ExpressionError::at(text, Span::empty(), "the expression is nested too deep; split it over views"));
    }
    let next = parser.peek_token();
    match next.token {
        Token::EOF => Ok(expression),
        other => Err(ExpressionError::at(text, next.span, format!("the expression should end before `{other}`"))),
    }
}

/// The part that an operator behind it makes the parser nest, however long the chain: it counts the depth of brackets alone.
fn first_part(expression: &mut Expr) -> Option<&mut Expr> {
    match expression {
        Expr::BinaryOp { left, .. } => Some(left),
        Expr::IsNull(inner)
        | Expr::IsNotNull(inner)
        | Expr::IsTrue(inner)
        | Expr::IsNotTrue(inner)
        | Expr::IsFalse(inner)
        | Expr::IsNotFalse(inner)
        | Expr::IsUnknown(inner)
        | Expr::IsNotUnknown(inner)
        | Expr::IsDistinctFrom(inner, _)
        | Expr::IsNotDistinctFrom(inner, _) => Some(inner),
        Expr::Cast { expr, .. }
        | Expr::InList { expr, .. }
        | Expr::Between { expr, .. }
        | Expr::Like { expr, .. }
        | Expr::ILike { expr, .. }
        | Expr::AtTimeZone { timestamp: expr, .. }
        | Expr::Collate { expr, .. }
        | Expr::CompoundFieldAccess { root: expr, .. } => Some(expr),
        _ => None,
    }
}

/// Whether a chain is longer than can be gone through by recursion, as all of the parser's own functions do.
fn is_too_deep(expression: &mut Expr) -> bool {
    let mut part = expression;
    for _ in 0..CHAIN_MAX {
        match first_part(part) {
            Some(first) => part = first,
            None => return false,
        }
    }
    true
}

/// Drops a chain link by link: dropped as a whole it would take the stack.
fn dismantle(mut expression: Expr) {
    while let Some(first) = first_part(&mut expression) {
        expression = std::mem::replace(first, Expr::Tuple(Vec::new()));
    }
}

pub(super) struct Compiler<'c, 'r> {
    text: &'c str,
    pub(super) builder: &'c mut Builder,
    resolve: Resolve<'r>,
    depth: usize,
    /// What parts there are, and their texts, where someone wants to know.
    parts: Option<&'c mut Vec<(String, Typed)>>,
}

impl Compiler<'_, '_> {
    pub(super) fn error(&self, span: Span, message: impl Into<String>) -> ExpressionError {
        ExpressionError::at(self.text, span, message)
    }

    pub(super) fn typed(&self, place: Place, value_type: ValueType, span: Span) -> Typed {
        Typed { place, value_type: Some(value_type), span, literal: None }
    }

    pub(super) fn step(&mut self, function: F, arguments: impl Into<Vec<Place>>, value_type: ValueType, span: Span) -> Typed {
        let place = self.builder.step(function, arguments);
        self.typed(place, value_type, span)
    }

    pub(super) fn int(&mut self, value: i64) -> Place {
        self.builder.constant(Constant::Int(value))
    }

    pub(super) fn null(&mut self, span: Span) -> Typed {
        Typed { place: self.builder.constant(Constant::Null), value_type: None, span, literal: None }
    }

    pub(super) fn expression(&mut self, expression: &Expr) -> Result<Typed> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.error(Span::empty(), "the expression is nested too deep; split it over views"));
        }
        let typed = match expression {
            Expr::BinaryOp { .. } => self.chain(expression),
            other => self.part(other),
        };
        self.depth -= 1;
        if let (Some(parts), Ok(typed)) = (&mut self.parts, &typed)
            && matches!(typed.place, Place::Step(_))
            && !matches!(expression, Expr::Nested(_))
        {
            parts.push((expression.to_string(), typed.clone()));
        }
        typed
    }

    /// An expression in the type that it shall have.
    fn finished(&mut self, typed: &Typed, wanted: Option<&ValueType>) -> Result<(Place, Option<ValueType>)> {
        match (wanted, &typed.value_type) {
            (Some(wanted), Some(found)) => {
                let place = self.assigned(typed, found, wanted).ok_or_else(|| {
                    let message = format!("the expression is {found}, the feature is {wanted}; write CAST(... AS {wanted})");
                    self.error(typed.span, message)
                })?;
                Ok((place, Some(wanted.clone())))
            }
            (Some(wanted), None) => Ok((typed.place, Some(wanted.clone()))),
            (None, found) => Ok((typed.place, found.clone())),
        }
    }

    /// Operators of two sides, one after the other, as long as they are: `a + b + c` is as deep as it has operators.
    fn chain(&mut self, expression: &Expr) -> Result<Typed> {
        let mut links = Vec::new();
        let mut first = expression;
        while let Expr::BinaryOp { left, op, right } = first {
            links.push((op, right.as_ref()));
            first = left;
        }
        let mut value = match first {
            Expr::Interval(interval) => {
                let Some((BinaryOperator::Plus, at)) = links.pop() else {
                    return Err(self.error(first.span(), "an interval can only be added to an instant, or taken from one"));
                };
                let at = self.expression(at)?;
                self.shifted(&at, interval, false)?
            }
            first => self.expression(first)?,
        };
        for (op, right) in links.into_iter().rev() {
            value = self.binary(&value, op, right)?;
        }
        Ok(value)
    }

    fn part(&mut self, expression: &Expr) -> Result<Typed> {
        let span = expression.span();
        match expression {
            Expr::Nested(inner) => self.expression(inner),
            Expr::Identifier(name) => self.column(std::slice::from_ref(&name.value), span),
            Expr::CompoundIdentifier(names) => {
                self.column(&names.iter().map(|name| name.value.clone()).collect::<Vec<_>>(), span)
            }
            Expr::Value(value) => self.literal(&value.value, span),
            Expr::TypedString(typed) => {
                let text = match &typed.value.value {
                    Value::SingleQuotedString(text) => text.clone(),
                    _ => return Err(self.error(span, "expected a text in single quotes")),
                };
                let literal = self.text_literal(text, span);
                self.cast_to(&literal, &typed.data_type.to_string(), span)
            }
            Expr::UnaryOp { op, expr } => self.unary(*op, expr, span),
            Expr::IsNull(inner) => self.null_test(inner, false),
            Expr::IsNotNull(inner) => self.null_test(inner, true),
            Expr::IsUnknown(inner) => self.null_test(inner, false),
            Expr::IsNotUnknown(inner) => self.null_test(inner, true),
            Expr::IsTrue(inner) => self.truth_test(inner, true, false),
            Expr::IsNotTrue(inner) => self.truth_test(inner, true, true),
            Expr::IsFalse(inner) => self.truth_test(inner, false, false),
            Expr::IsNotFalse(inner) => self.truth_test(inner, false, true),
            Expr::IsDistinctFrom(left, right) => self.distinct(left, right, true),
            Expr::IsNotDistinctFrom(left, right) => self.distinct(left, right, false),
            Expr::InList { expr, list, negated } => {
                let value = self.expression(expr)?;
                let mut any: Option<Typed> = None;
                for item in list {
                    let item = self.expression(item)?;
                    let equal = self.compare(F::EqualInt, &value, &item, span)?;
                    any = Some(match any {
                        None => equal,
                        Some(any) => self.step(F::Or, [any.place, equal.place], ValueType::Bool, span),
                    });
                }
                let any = any.ok_or_else(|| self.error(span, "IN needs at least one value"))?;
                Ok(self.negated(any, *negated))
            }
            Expr::Between { expr, negated, low, high } => {
                let (value, low, high) = (self.expression(expr)?, self.expression(low)?, self.expression(high)?);
                let above = self.compare(F::LessEqualInt, &low, &value, span)?;
                let below = self.compare(F::LessEqualInt, &value, &high, span)?;
                let both = self.step(F::And, [above.place, below.place], ValueType::Bool, span);
                Ok(self.negated(both, *negated))
            }
            Expr::Like { negated, any: false, expr, pattern, escape_char: None } => {
                self.like(expr, pattern, *negated, false, span)
            }
            Expr::ILike { negated, any: false, expr, pattern, escape_char: None } => {
                self.like(expr, pattern, *negated, true, span)
            }
            Expr::Like { .. } | Expr::ILike { .. } => Err(self.error(span, "LIKE takes one pattern, and no ESCAPE")),
            Expr::Cast { expr, data_type, array: false, format: None, .. } => {
                let value = self.expression(expr)?;
                self.cast_to(&value, &data_type.to_string(), span)
            }
            Expr::AtTimeZone { timestamp, time_zone } => self.at_offset(timestamp, time_zone),
            Expr::Extract { field, expr, .. } => {
                let unit = self.text_literal(field_name(field), span);
                let at = self.expression(expr)?;
                self.call("date_part", vec![unit, at], span)
            }
            Expr::Ceil { expr, field: CeilFloorKind::DateTimeField(DateTimeField::NoDateTime) } => {
                let value = self.expression(expr)?;
                self.call("ceil", vec![value], span)
            }
            Expr::Floor { expr, field: CeilFloorKind::DateTimeField(DateTimeField::NoDateTime) } => {
                let value = self.expression(expr)?;
                self.call("floor", vec![value], span)
            }
            Expr::Position { expr, r#in } => {
                let (what, text) = (self.expression(expr)?, self.expression(r#in)?);
                self.call("strpos", vec![text, what], span)
            }
            Expr::Substring { expr, substring_from, substring_for, .. } => {
                let mut arguments = vec![self.expression(expr)?];
                match substring_from {
                    Some(from) => arguments.push(self.expression(from)?),
                    None => {
                        let place = self.int(1);
                        arguments.push(self.typed(place, ValueType::Int64, span));
                    }
                }
                if let Some(count) = substring_for {
                    arguments.push(self.expression(count)?);
                }
                self.call("substr", arguments, span)
            }
            Expr::Trim { expr, trim_where, trim_what, trim_characters } => {
                let mut arguments = vec![self.expression(expr)?];
                let letters = trim_what.as_deref().or_else(|| trim_characters.as_ref().and_then(|several| several.first()));
                if let Some(letters) = letters {
                    arguments.push(self.expression(letters)?);
                }
                let name = match trim_where {
                    Some(TrimWhereField::Leading) => "ltrim",
                    Some(TrimWhereField::Trailing) => "rtrim",
                    _ => "trim",
                };
                self.call(name, arguments, span)
            }
            Expr::Case { operand, conditions, else_result, .. } => {
                self.case(operand.as_deref(), conditions, else_result.as_deref(), span)
            }
            Expr::Array(array) => {
                let elements = array.elem.iter().map(|element| self.expression(element)).collect::<Result<Vec<_>>>()?;
                self.list(&elements, span)
            }
            Expr::CompoundFieldAccess { root, access_chain } => {
                let mut value = self.expression(root)?;
                for access in access_chain {
                    let AccessExpr::Subscript(Subscript::Index { index }) = access else {
                        return Err(self.error(span, "expected the number of an element in brackets, as in list[1]"));
                    };
                    let index = self.expression(index)?;
                    value = self.element(&value, &index, span)?;
                }
                Ok(value)
            }
            Expr::Interval(_) => Err(self.error(span, "an interval can only be added to an instant, or taken from one")),
            Expr::Function(function) => self.function(function),
            other => {
                Err(self.error(span, format!("`{other}` cannot be part of an expression; `mezze functions` lists what can")))
            }
        }
    }

    fn column(&mut self, names: &[String], span: Span) -> Result<Typed> {
        match (self.resolve)(names) {
            Ok(column) => Ok(self.typed(Place::Input(column.input), column.value_type, span)),
            Err(message) => Err(self.error(span, message)),
        }
    }

    pub(super) fn now(&mut self, span: Span) -> Result<Typed> {
        self.column(&[], span)
    }

    fn literal(&mut self, value: &Value, span: Span) -> Result<Typed> {
        match value {
            Value::Number(text, _) => self.number(text, span),
            Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) => Ok(self.text_literal(text.clone(), span)),
            Value::Boolean(value) => {
                let place = self.int(i64::from(*value));
                Ok(self.typed(place, ValueType::Bool, span))
            }
            Value::Null => Ok(self.null(span)),
            other => {
                Err(self.error(span, format!("`{other}` is no value that an expression can have; texts stand in single quotes")))
            }
        }
    }

    fn number(&mut self, text: &str, span: Span) -> Result<Typed> {
        if text.contains(['.', 'e', 'E']) {
            let value: f64 = text.parse().map_err(|_| self.error(span, format!("`{text}` is no number")))?;
            let place = self.builder.constant(Constant::Float(value));
            return Ok(self.typed(place, ValueType::Float64, span));
        }
        let value = text.parse().map_err(|_| {
            self.error(span, format!("{text} is beyond int64; write it as a float, with a point, or as a text with a CAST"))
        })?;
        let place = self.int(value);
        Ok(self.typed(place, ValueType::Int64, span))
    }

    pub(super) fn text_literal(&mut self, text: String, span: Span) -> Typed {
        let place = self.builder.constant(Constant::Bytes(text.clone().into_bytes()));
        Typed { place, value_type: Some(ValueType::String), span, literal: Some(text) }
    }

    fn unary(&mut self, op: UnaryOperator, inner: &Expr, span: Span) -> Result<Typed> {
        if let (UnaryOperator::Minus, Expr::Value(value)) = (op, inner)
            && let Value::Number(text, _) = &value.value
        {
            return self.number(&format!("-{text}"), span);
        }
        let value = self.expression(inner)?;
        match op {
            UnaryOperator::Not => {
                let value = self.boolean(&value)?;
                Ok(self.step(F::Not, [value], ValueType::Bool, span))
            }
            UnaryOperator::Plus => {
                self.numeric(&value)?;
                Ok(value)
            }
            UnaryOperator::Minus => match self.numeric(&value)? {
                Number::Int => Ok(self.step(F::NegateInt, [value.place], ValueType::Int64, span)),
                Number::Float => {
                    let place = self.float(&value)?;
                    Ok(self.step(F::NegateFloat, [place], ValueType::Float64, span))
                }
            },
            other => Err(self.error(span, format!("there is no operator `{other}`"))),
        }
    }

    fn binary(&mut self, a: &Typed, op: &BinaryOperator, right: &Expr) -> Result<Typed> {
        if let (BinaryOperator::Plus | BinaryOperator::Minus, Expr::Interval(interval)) = (op, right) {
            return self.shifted(a, interval, matches!(op, BinaryOperator::Minus));
        }
        let b = &self.expression(right)?;
        let span = a.span.union(&b.span);
        match op {
            BinaryOperator::Plus => self.arithmetic(F::AddInt, F::AddFloat, a, b, span),
            BinaryOperator::Minus => self.arithmetic(F::SubtractInt, F::SubtractFloat, a, b, span),
            BinaryOperator::Multiply => self.arithmetic(F::MultiplyInt, F::MultiplyFloat, a, b, span),
            BinaryOperator::Divide => {
                let (a, b) = (self.float(a)?, self.float(b)?);
                Ok(self.step(F::DivideFloat, [a, b], ValueType::Float64, span))
            }
            BinaryOperator::DuckIntegerDivide => match (self.numeric(a)?, self.numeric(b)?) {
                (Number::Int, Number::Int) => Ok(self.step(F::DivideInt, [a.place, b.place], ValueType::Int64, span)),
                _ => Err(self.error(span, "`//` divides integers; of floats write trunc(a / b)")),
            },
            BinaryOperator::Modulo => self.arithmetic(F::RemainderInt, F::RemainderFloat, a, b, span),
            BinaryOperator::StringConcat => {
                let (a, b) = (self.text(a)?, self.text(b)?);
                Ok(self.step(F::Concat, [a, b], ValueType::String, span))
            }
            BinaryOperator::Eq => self.compare(F::EqualInt, a, b, span),
            BinaryOperator::NotEq => {
                let equal = self.compare(F::EqualInt, a, b, span)?;
                Ok(self.negated(equal, true))
            }
            BinaryOperator::Lt => self.compare(F::LessInt, a, b, span),
            BinaryOperator::LtEq => self.compare(F::LessEqualInt, a, b, span),
            BinaryOperator::Gt => self.compare(F::LessInt, b, a, span),
            BinaryOperator::GtEq => self.compare(F::LessEqualInt, b, a, span),
            BinaryOperator::And | BinaryOperator::Or => {
                let function = if matches!(op, BinaryOperator::And) { F::And } else { F::Or };
                let (a, b) = (self.boolean(a)?, self.boolean(b)?);
                Ok(self.step(function, [a, b], ValueType::Bool, span))
            }
            other => {
                Err(self.error(span, format!("there is no operator `{other}`; `mezze functions` lists those that there are")))
            }
        }
    }

    pub(super) fn arithmetic(&mut self, ints: F, floats: F, a: &Typed, b: &Typed, span: Span) -> Result<Typed> {
        if let (Some(ValueType::UnixTimestamp), Some(ValueType::UnixTimestamp)) = (&a.value_type, &b.value_type) {
            let message =
                "instants have no difference of their own; write elapsed('day', from, to) or date_diff('day', from, to)";
            return Err(self.error(span, message));
        }
        match (self.numeric(a)?, self.numeric(b)?) {
            (Number::Int, Number::Int) => Ok(self.step(ints, [a.place, b.place], ValueType::Int64, span)),
            _ => {
                let (a, b) = (self.float(a)?, self.float(b)?);
                Ok(self.step(floats, [a, b], ValueType::Float64, span))
            }
        }
    }

    /// An instant, later or earlier by an interval that is written out.
    fn shifted(&mut self, at: &Typed, interval: &Interval, back: bool) -> Result<Typed> {
        let at = self.instant(at)?;
        let span = interval.value.span();
        let (months, nanos) = parse_interval(interval).map_err(|message| self.error(span, message))?;
        let sign = if back { -1 } else { 1 };
        let mut place = at;
        if months != 0 {
            let months = self.int(months * sign);
            place = self.builder.step(F::AddMonths, [place, months]);
        }
        if nanos != 0 || months == 0 {
            let nanos = self.int(nanos * sign);
            place = self.builder.step(F::AddInt, [place, nanos]);
        }
        Ok(self.typed(place, ValueType::UnixTimestamp, span))
    }

    fn at_offset(&mut self, at: &Expr, offset: &Expr) -> Result<Typed> {
        let at = self.expression(at)?;
        let at_place = self.instant(&at)?;
        let zone = self.expression(offset)?;
        let text = zone.literal.clone().unwrap_or_default();
        let seconds = parse_offset(&text).ok_or_else(|| {
            let message = "expected a fixed offset from UTC that is written out, such as '+02:00' or 'UTC'; zones with summer time are not known";
            self.error(zone.span, message)
        })?;
        let nanos = self.int(seconds * 1_000_000_000);
        Ok(self.step(F::AddInt, [at_place, nanos], ValueType::UnixTimestamp, at.span))
    }

    fn null_test(&mut self, inner: &Expr, negated: bool) -> Result<Typed> {
        let value = self.expression(inner)?;
        let test = self.step(F::IsNull, [value.place], ValueType::Bool, value.span);
        Ok(self.negated(test, negated))
    }

    fn truth_test(&mut self, inner: &Expr, wanted: bool, negated: bool) -> Result<Typed> {
        let value = self.expression(inner)?;
        let place = self.boolean(&value)?;
        let place = if wanted { place } else { self.builder.step(F::Not, [place]) };
        let no = self.int(0);
        let test = self.step(F::Coalesce, [place, no], ValueType::Bool, value.span);
        Ok(self.negated(test, negated))
    }

    fn distinct(&mut self, left: &Expr, right: &Expr, distinct: bool) -> Result<Typed> {
        let (a, b) = (self.expression(left)?, self.expression(right)?);
        let span = a.span;
        let equal = self.compare(F::EqualInt, &a, &b, span)?;
        let (first, second) = (self.builder.step(F::IsNull, [a.place]), self.builder.step(F::IsNull, [b.place]));
        // Where one is null the comparison is null: then it is the same only where both are.
        let both = self.builder.step(F::And, [first, second]);
        let same = self.step(F::Coalesce, [equal.place, both], ValueType::Bool, span);
        Ok(self.negated(same, distinct))
    }

    pub(super) fn negated(&mut self, test: Typed, negated: bool) -> Typed {
        if negated { self.step(F::Not, [test.place], ValueType::Bool, test.span) } else { test }
    }

    fn like(&mut self, text: &Expr, pattern: &Expr, negated: bool, fold: bool, span: Span) -> Result<Typed> {
        let (text, pattern) = (self.expression(text)?, self.expression(pattern)?);
        let mut text_place = self.text(&text)?;
        let written = pattern
            .literal
            .clone()
            .ok_or_else(|| self.error(pattern.span, "the pattern of LIKE is a text that is written out"))?;
        if written.len() > PATTERN_BYTES_MAX {
            return Err(self.error(pattern.span, format!("a pattern has at most {PATTERN_BYTES_MAX} bytes")));
        }
        let mut pattern_place = pattern.place;
        if fold {
            text_place = self.builder.step(F::Lower, [text_place]);
            pattern_place = self.builder.step(F::Lower, [pattern_place]);
        }
        let test = self.step(F::Like, [text_place, pattern_place], ValueType::Bool, span);
        Ok(self.negated(test, negated))
    }

    fn case(&mut self, operand: Option<&Expr>, conditions: &[CaseWhen], otherwise: Option<&Expr>, span: Span) -> Result<Typed> {
        let operand = operand.map(|operand| self.expression(operand)).transpose()?;
        let mut tests = Vec::with_capacity(conditions.len());
        let mut results = Vec::with_capacity(conditions.len() + 1);
        for when in conditions {
            let condition = self.expression(&when.condition)?;
            tests.push(match &operand {
                Some(operand) => self.compare(F::EqualInt, operand, &condition, condition.span)?.place,
                None => self.boolean(&condition)?,
            });
            results.push(self.expression(&when.result)?);
        }
        results.push(match otherwise {
            Some(otherwise) => self.expression(otherwise)?,
            None => self.null(span),
        });
        let (places, value_type) = self.common(&results, "the results of CASE")?;
        let mut chosen = places.last().copied().unwrap_or_else(|| self.builder.constant(Constant::Null));
        for (test, place) in tests.iter().zip(&places).rev() {
            chosen = self.builder.step(F::Select, [*test, *place, chosen]);
        }
        Ok(Typed { place: chosen, value_type, span, literal: None })
    }

    fn list(&mut self, elements: &[Typed], span: Span) -> Result<Typed> {
        let (places, value_type) = self.common(elements, "the elements of a list")?;
        let element = value_type.unwrap_or(ValueType::Int64);
        let (function, element) = match element {
            ValueType::Int32 | ValueType::Int64 => (F::ListOfInts, ValueType::Int64),
            ValueType::Float32 | ValueType::Float64 => (F::ListOfFloats, ValueType::Float64),
            ValueType::String => (F::ListOfBytes, ValueType::String),
            other => return Err(self.error(span, format!("a list is of integers, floats or texts, not of {other}"))),
        };
        let value_type = ValueType::List(Box::new(element.clone()));
        // What is written out is made once.
        let constants: Option<Vec<CoreValue>> = places.iter().map(|place| self.constant_value(*place)).collect();
        let mut payload = Vec::new();
        if let Some(values) = constants
            && encode_payload(&value_type, &CoreValue::List(values), &mut payload).is_ok()
        {
            let place = self.builder.constant(Constant::Bytes(payload));
            return Ok(Typed { place, value_type: Some(value_type), span, literal: Some(String::new()) });
        }
        Ok(self.step(function, places, value_type, span))
    }

    fn constant_value(&self, place: Place) -> Option<CoreValue> {
        Some(match self.builder.constant_at(place)? {
            Constant::Null => CoreValue::Null,
            Constant::Int(value) => CoreValue::Int(*value),
            Constant::Float(value) => CoreValue::Float64(*value),
            Constant::Bytes(bytes) => CoreValue::String(String::from_utf8(bytes.clone()).ok()?),
        })
    }

    fn element(&mut self, list: &Typed, index: &Typed, span: Span) -> Result<Typed> {
        let (kind, element) = self.list_of(list)?;
        let function = match element {
            ValueType::Float32 | ValueType::Float64 => F::ListElementFloat,
            ValueType::Bool | ValueType::Int32 | ValueType::Int64 | ValueType::UnixTimestamp => F::ListElementInt,
            _ => F::ListElementBytes,
        };
        let index = match self.numeric(index)? {
            Number::Int => index.place,
            Number::Float => return Err(self.error(index.span, "the number of an element is an integer")),
        };
        Ok(self.step(function, [kind, list.place, index], element, span))
    }

    /// The code of a list's element type as a constant, and that type.
    pub(super) fn list_of(&mut self, list: &Typed) -> Result<(Place, ValueType)> {
        match &list.value_type {
            Some(ValueType::List(element) | ValueType::Set(element)) => {
                let element = (**element).clone();
                Ok((self.int(F::element_code(&element)), element))
            }
            found => Err(self.error(list.span, format!("expected a list, found {}", shown(found.as_ref())))),
        }
    }

    fn function(&mut self, function: &Function) -> Result<Typed> {
        let span = function.name.span();
        let name = function.name.to_string().to_ascii_lowercase();
        let plain = function.over.is_none() && function.filter.is_none() && function.null_treatment.is_none();
        let arguments = match &function.args {
            FunctionArguments::None => &[][..],
            FunctionArguments::List(list) if plain && list.duplicate_treatment.is_none() && list.clauses.is_empty() => &list.args,
            _ => return Err(self.error(span, "a function takes values in parentheses and nothing else")),
        };
        let mut values = Vec::with_capacity(arguments.len());
        for argument in arguments {
            let FunctionArg::Unnamed(FunctionArgExpr::Expr(argument)) = argument else {
                return Err(self.error(span, format!("`{argument}` is no value; arguments have no names")));
            };
            values.push(self.expression(argument)?);
        }
        self.call(&name, values, span)
    }

    fn cast_to(&mut self, value: &Typed, name: &str, span: Span) -> Result<Typed> {
        let wanted = type_named(name).ok_or_else(|| {
            self.error(span, format!("there is no type `{name}`; types are those of features, such as int64 or string"))
        })?;
        let Some(found) = &value.value_type else {
            return Ok(Typed { value_type: Some(wanted), ..value.clone() });
        };
        let place = cast(self.builder, value.place, found, &wanted)
            .ok_or_else(|| self.error(span, format!("{found} cannot become {wanted}")))?;
        Ok(self.typed(place, wanted, span))
    }

    /// A value in the type of the feature that it becomes: numbers are brought to it, as a column is that takes them.
    fn assigned(&mut self, value: &Typed, found: &ValueType, wanted: &ValueType) -> Option<Place> {
        use ValueType as T;
        let fits = match (found, wanted) {
            (T::Int32 | T::Int64, T::Int32 | T::Int64 | T::Float32 | T::Float64) => true,
            (T::Float32 | T::Float64, T::Float32 | T::Float64) => true,
            _ => found == wanted,
        };
        if fits { cast(self.builder, value.place, found, wanted) } else { None }
    }
}

/// Bytes of a pattern at the most: looking for it takes up to as many steps a character.
const PATTERN_BYTES_MAX: usize = 1_024;

/// What a number is computed as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Number {
    Int,
    Float,
}

pub(super) fn shown(value_type: Option<&ValueType>) -> String {
    value_type.map_or_else(|| "NULL".to_owned(), ToString::to_string)
}

fn field_name(field: &DateTimeField) -> String {
    field.to_string().to_ascii_lowercase()
}

/// Seconds east of UTC.
fn parse_offset(text: &str) -> Option<i64> {
    if text.eq_ignore_ascii_case("utc") || text.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+')?),
    };
    let (hours, minutes) = rest.split_once(':').unwrap_or((rest, "00"));
    let part = |digits: &str| -> Option<i64> {
        let all = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_digit());
        if all { digits.parse().ok() } else { None }
    };
    let (hours, minutes) = (part(hours)?, part(minutes)?);
    (hours <= 18 && minutes <= 59).then_some(sign * (hours * 3_600 + minutes * 60))
}

/// Months and nanoseconds of an interval that is written out: `INTERVAL '1 day'`, `INTERVAL '90' MINUTE`, `INTERVAL 3 MONTH`.
fn parse_interval(interval: &Interval) -> std::result::Result<(i64, i64), String> {
    let expected =
        || "expected an interval that is written out, such as INTERVAL '1 day' or INTERVAL '2 hours 30 minutes'".to_owned();
    let text = match interval.value.as_ref() {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) | Value::Number(text, _) => text.clone(),
            _ => return Err(expected()),
        },
        _ => return Err(expected()),
    };
    let text = match &interval.leading_field {
        Some(field) => format!("{text} {}", field_name(field)),
        None => text,
    };
    let (mut months, mut nanos) = (0_i64, 0_i64);
    let words: Vec<&str> = text.split_whitespace().collect();
    if words.is_empty() || !words.len().is_multiple_of(2) {
        return Err(expected());
    }
    for pair in words.chunks(2) {
        let [count, unit] = pair else { return Err(expected()) };
        let count: i64 = count.parse().map_err(|_| format!("`{count}` is no whole number; {}", expected()))?;
        let lower = unit.to_ascii_lowercase();
        let unit = lower.strip_suffix('s').unwrap_or(&lower);
        let beyond = || format!("`{text}` is longer than intervals can be");
        let of_months = match unit {
            "year" => Some(12),
            "quarter" => Some(3),
            "month" => Some(1),
            _ => None,
        };
        if let Some(size) = of_months {
            months = count.checked_mul(size).and_then(|more| months.checked_add(more)).ok_or_else(beyond)?;
            continue;
        }
        let (_, size) = super::functions::FIXED_UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .ok_or_else(|| format!("`{unit}` is no unit of time; {}", expected()))?;
        nanos = count.checked_mul(*size).and_then(|more| nanos.checked_add(more)).ok_or_else(beyond)?;
    }
    Ok((months, nanos))
}
