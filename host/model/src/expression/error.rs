//! What is wrong with an expression, and at which character.

use std::fmt;

use sqlparser::tokenizer::Span;

/// An expression cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub struct ExpressionError {
    /// What is wrong, what was expected and what to do.
    pub message: String,
    /// The line of the expression, from 1.
    pub line: usize,
    /// The character of the line, from 1.
    pub column: usize,
    /// How many characters are meant.
    pub width: usize,
    /// The text of that line.
    pub text: String,
}

impl fmt::Display for ExpressionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let indent: String = self.text.chars().take(self.column.saturating_sub(1)).map(blank).collect();
        write!(f, "{}\n    {}\n    {indent}{}", self.message, self.text, "^".repeat(self.width.max(1)))
    }
}

/// What a mark below a character stands behind: as wide as the character.
const fn blank(letter: char) -> char {
    if letter == '\t' { '\t' } else { ' ' }
}

impl ExpressionError {
    /// An error at a place that the parser names; at the begin, where it names none.
    pub(super) fn at(text: &str, span: Span, message: impl Into<String>) -> Self {
        let number = |number: u64| usize::try_from(number).unwrap_or(1).max(1);
        let (line, column) = (number(span.start.line), number(span.start.column));
        let text = text.lines().nth(line - 1).unwrap_or_default().to_owned();
        let letters = text.chars().count();
        let end = if span.end.line == span.start.line { number(span.end.column) } else { letters + 1 };
        let column = column.min(letters + 1);
        let width = end.saturating_sub(column).clamp(1, (letters + 1).saturating_sub(column).max(1));
        Self { message: message.into(), line, column, width, text }
    }
}
