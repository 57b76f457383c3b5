//! Functions of text. Positions and lengths count characters (Unicode scalar values), from 1.

use alloc::vec::Vec;

use super::EXPRESSION_BYTES_MAX;
use super::column::{Column, byte_rows, int_rows};
use super::function::Function as F;

pub(super) fn apply(function: F, a: &Column<'_>, b: &Column<'_>, c: &Column<'_>, rows: usize) -> Column<'static> {
    let truth = |test: &dyn Fn(&str, &str) -> bool| int_rows(rows, &mut |row| Some(i64::from(test(a.text(row)?, b.text(row)?))));
    match function {
        F::Length => return int_rows(rows, &mut |row| Some(a.text(row)?.chars().count() as i64)),
        F::ByteLength => return int_rows(rows, &mut |row| Some(a.bytes(row)?.len() as i64)),
        F::StartsWith => return truth(&|text, with| text.starts_with(with)),
        F::EndsWith => return truth(&|text, with| text.ends_with(with)),
        F::Contains => return truth(&|text, what| text.contains(what)),
        F::Like => return truth(&like),
        F::Position => {
            return int_rows(rows, &mut |row| {
                let text = a.text(row)?;
                Some(text.find(b.text(row)?).map_or(0, |at| text.get(..at).unwrap_or_default().chars().count() as i64 + 1))
            });
        }
        _ => {}
    }
    byte_rows(rows, &mut |row, out| {
        let text = a.text(row)?;
        let part = match function {
            F::Upper => {
                out.extend_from_slice(text.to_uppercase().as_bytes());
                return Some(());
            }
            F::Lower => {
                out.extend_from_slice(text.to_lowercase().as_bytes());
                return Some(());
            }
            F::Reverse => {
                text.chars().rev().for_each(|letter| put_char(letter, out));
                return Some(());
            }
            F::Replace => return replace(text, b.text(row)?, c.text(row)?, out),
            F::PadStart | F::PadEnd => return pad(text, b.int(row)?, c.text(row)?, function == F::PadStart, out),
            F::Trim => {
                let letters = b.text(row)?;
                text.trim_matches(|letter| letters.contains(letter))
            }
            F::TrimStart => {
                let letters = b.text(row)?;
                text.trim_start_matches(|letter| letters.contains(letter))
            }
            F::TrimEnd => {
                let letters = b.text(row)?;
                text.trim_end_matches(|letter| letters.contains(letter))
            }
            F::Substring => {
                // A window from `first` on; what of it lies before the text counts too.
                let (first, count) = (b.int(row)?, c.int(row)?);
                if count < 0 {
                    return None;
                }
                let end = first.saturating_add(count).max(1);
                let first = first.max(1);
                characters(text, first - 1, end.max(first) - 1)
            }
            F::Left => match b.int(row)? {
                count if count < 0 => characters(text, 0, (length(text) + count).max(0)),
                count => characters(text, 0, count),
            },
            F::Right => {
                let length = length(text);
                match b.int(row)? {
                    count if count < 0 => characters(text, count.saturating_neg(), length),
                    count => characters(text, length.saturating_sub(count).max(0), length),
                }
            }
            F::SplitPart => split_part(text, b.text(row)?, c.int(row)?)?,
            _ => return None,
        };
        out.extend_from_slice(part.as_bytes());
        Some(())
    })
}

pub(super) fn concat(parts: &[&Column<'_>], rows: usize) -> Column<'static> {
    byte_rows(rows, &mut |row, out| {
        parts.iter().try_for_each(|part| {
            out.extend_from_slice(part.bytes(row)?);
            Some(())
        })
    })
}

fn length(text: &str) -> i64 {
    text.chars().count() as i64
}

/// The characters from number `start` (from 0) to before number `end`.
fn characters(text: &str, start: i64, end: i64) -> &str {
    // What a host of 32 bits cannot count to is beyond the text, too.
    let place = |number: i64| {
        let number = usize::try_from(number.max(0)).unwrap_or(usize::MAX);
        text.char_indices().nth(number).map_or(text.len(), |(at, _)| at)
    };
    text.get(place(start)..place(end)).unwrap_or_default()
}

fn put_char(letter: char, out: &mut Vec<u8>) {
    out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
}

/// Every place where `what` stands, from left to right, is `with`. Nothing stands nowhere.
fn replace(text: &str, what: &str, with: &str, out: &mut Vec<u8>) -> Option<()> {
    if what.is_empty() {
        out.extend_from_slice(text.as_bytes());
        return Some(());
    }
    let start = out.len();
    for (number, part) in text.split(what).enumerate() {
        if number > 0 {
            out.extend_from_slice(with.as_bytes());
        }
        out.extend_from_slice(part.as_bytes());
        if out.len() - start > EXPRESSION_BYTES_MAX {
            return None;
        }
    }
    Some(())
}

/// `wanted` characters: cut, or filled up with `fill` again and again.
fn pad(text: &str, wanted: i64, fill: &str, before: bool, out: &mut Vec<u8>) -> Option<()> {
    let missing = wanted.saturating_sub(length(text));
    if missing <= 0 {
        out.extend_from_slice(characters(text, 0, wanted.max(0)).as_bytes());
        return Some(());
    }
    let missing = usize::try_from(missing).ok().filter(|missing| *missing <= EXPRESSION_BYTES_MAX)?;
    if !before {
        out.extend_from_slice(text.as_bytes());
    }
    fill.chars().cycle().take(missing).for_each(|letter| put_char(letter, out));
    if before {
        out.extend_from_slice(text.as_bytes());
    }
    Some(())
}

/// Part number `number` between separators, from 1, or from the end where it is negative; empty where there is none.
fn split_part<'t>(text: &'t str, separator: &str, number: i64) -> Option<&'t str> {
    let index = usize::try_from(number.unsigned_abs().checked_sub(1)?).unwrap_or(usize::MAX);
    if separator.is_empty() {
        return Some(if index == 0 { text } else { "" });
    }
    let part = if number > 0 { text.split(separator).nth(index) } else { text.rsplit(separator).nth(index) };
    Some(part.unwrap_or_default())
}

/// Whether a text is as a pattern says: `%` stands for any characters, `_` for one, all else for itself.
fn like(text: &str, pattern: &str) -> bool {
    let (mut text, mut pattern) = (text.chars(), pattern.chars());
    // Where to go on if what follows the last `%` does not fit: with one character more for it.
    let mut retry = None;
    loop {
        let text_before = text.clone();
        match pattern.next() {
            Some('%') => {
                retry = Some((text_before, pattern.clone()));
                continue;
            }
            wanted => match (wanted, text.next()) {
                (None, None) => return true,
                (Some('_'), Some(_)) => continue,
                (Some(wanted), Some(found)) if wanted == found => continue,
                _ => {}
            },
        }
        let Some((from, after)) = &mut retry else { return false };
        if from.next().is_none() {
            return false;
        }
        (text, pattern) = (from.clone(), after.clone());
    }
}
