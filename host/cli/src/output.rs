//! What goes to standard output and standard error, and how it looks.

use std::io::{self, IsTerminal, Write};

use serde_json::Value as Json;
use unicode_width::UnicodeWidthStr;

use crate::failure::{Exit, Failure, Outcome};

/// How this run prints.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    pub(crate) format: Format,
    pub(crate) quiet: bool,
    color: bool,
}

/// The form of results on standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    #[default]
    Text,
    Json,
}

/// When to print in colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Color {
    #[default]
    Auto,
    Always,
    Never,
}

impl Color {
    pub(crate) fn on(self, terminal: bool) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        }
    }
}

/// What a piece of text is, where colours are on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Paint {
    Bad,
    Head,
}

impl Output {
    pub(crate) fn new(format: Format, color: Color, quiet: bool) -> Self {
        Self { format, quiet, color: color.on(io::stdout().is_terminal()) }
    }

    /// The same, but for what is not a result.
    pub(crate) const fn quiet(self) -> Self {
        Self { quiet: true, ..self }
    }

    /// The text in its colour.
    pub(crate) fn paint(self, paint: Paint, text: &str) -> String {
        paint_if(self.color, paint, text)
    }

    /// Writes to standard output.
    pub(crate) fn print(self, text: &str) -> Outcome {
        self.print_bytes(text.as_bytes())
    }

    /// Writes a line to standard output.
    pub(crate) fn line(self, text: &str) -> Outcome {
        self.print(&format!("{text}\n"))
    }

    /// Writes bytes to standard output.
    pub(crate) fn print_bytes(self, bytes: &[u8]) -> Outcome {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::new(Exit::OutputClosed, "standard output is closed"),
            _ => Failure::new(Exit::Failed, format!("cannot write to standard output: {error}")),
        })
    }

    /// Writes a line that is not a result: to standard error, and not at all if the run is to be quiet.
    pub(crate) fn note(self, text: &str) {
        if !self.quiet {
            // Nobody is left to tell that standard error is closed.
            let _ = writeln!(io::stderr(), "{text}");
        }
    }

    /// Prints a result: `text` for people, `json` for programs.
    pub(crate) fn result(self, json: impl FnOnce() -> Json, text: impl FnOnce() -> String) -> Outcome {
        match self.format {
            Format::Json => self.line(&pretty(&json())),
            Format::Text => self.print(&text()),
        }
    }
}

/// The text in its colour, if there are colours.
pub(crate) fn paint_if(on: bool, paint: Paint, text: &str) -> String {
    if !on {
        return text.to_owned();
    }
    let code = match paint {
        Paint::Bad => "1;31",
        Paint::Head => "1",
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

/// JSON over several lines.
pub(crate) fn pretty(json: &Json) -> String {
    format!("{json:#}")
}

/// Rows under headings, in columns as wide as their widest cell.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

/// Which side of its column a cell keeps to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

impl Table {
    /// A table of these columns. A heading that ends with `#` is of numbers, which keep to the right.
    pub(crate) fn new(headings: &[&'static str]) -> Self {
        let column = |heading: &&'static str| match heading.strip_suffix('#') {
            Some(heading) => (heading, Align::Right),
            None => (*heading, Align::Left),
        };
        Self { columns: headings.iter().map(column).collect(), rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The table as text; each line ends with a line feed and none with spaces.
    pub(crate) fn render(&self, output: Output) -> String {
        let headings: Vec<String> = self.columns.iter().map(|(heading, _)| (*heading).to_owned()).collect();
        let aligns: Vec<Align> = self.columns.iter().map(|(_, align)| *align).collect();
        render(&headings, &aligns, &self.rows, |heading| output.paint(Paint::Head, heading))
    }
}

/// Lays out cells in columns. `heading` gives the headings their colour.
pub(crate) fn render(headings: &[String], aligns: &[Align], rows: &[Vec<String>], heading: impl Fn(&str) -> String) -> String {
    let mut widths: Vec<usize> = headings.iter().map(|heading| heading.width()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.width());
        }
    }
    let mut text = String::new();
    let mut line = |cells: &[String], paint: &dyn Fn(&str) -> String| {
        let mut line = String::new();
        for (index, ((cell, width), align)) in cells.iter().zip(&widths).zip(aligns).enumerate() {
            let gap = " ".repeat(width.saturating_sub(cell.width()));
            let between = if index == 0 { "" } else { "  " };
            match align {
                Align::Left => line.extend([between, &paint(cell), &gap]),
                Align::Right => line.extend([between, &gap, &paint(cell)]),
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    };
    line(headings, &|cell| heading(cell));
    for row in rows {
        line(row, &str::to_owned);
    }
    text
}

/// A count with its thousands apart: `1,234,567`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A size in the largest unit that leaves at least 1.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// A length of time, about.
pub(crate) fn duration(span: std::time::Duration) -> String {
    let seconds = span.as_secs_f64();
    if seconds < 0.001 {
        format!("{:.0} µs", seconds * 1e6)
    } else if seconds < 1.0 {
        format!("{:.0} ms", seconds * 1e3)
    } else if seconds < 90.0 {
        format!("{seconds:.1} s")
    } else if seconds < 5_400.0 {
        format!("{:.0} min", seconds / 60.0)
    } else if seconds < 172_800.0 {
        format!("{:.0} h", seconds / 3_600.0)
    } else {
        format!("{:.0} days", seconds / 86_400.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let mut table = Table::new(&["name", "rows#", "city"]);
        table.row(["a".into(), "1".into(), "Zürich".into()]);
        table.row(["longer".into(), "1,000".into(), "東京".into()]);
        let text = table.render(Output { format: Format::Text, quiet: false, color: false });
        assert_eq!(text, "name     rows  city\na           1  Zürich\nlonger  1,000  東京\n");
    }

    #[test]
    fn counts_sizes_and_times_read_well() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([5, 2048, 3 << 20].map(size), ["5 B", "2.0 KiB", "3.0 MiB"]);
        let show = |micros| duration(std::time::Duration::from_micros(micros));
        assert_eq!([12, 3_400, 2_500_000, 7_200_000_000].map(show), ["12 µs", "3 ms", "2.5 s", "2 h"]);
    }
}
