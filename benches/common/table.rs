//! Tables of figures, on the terminal and as Markdown.

use std::fmt::Write as _;

/// A table in sections. Its first column is text, the others are figures.
#[derive(Debug)]
pub(crate) struct Table {
    head: Vec<String>,
    sections: Vec<(String, Vec<Vec<String>>)>,
}

impl Table {
    pub(crate) fn new(head: &[&str]) -> Self {
        Self { head: head.iter().map(ToString::to_string).collect(), sections: Vec::new() }
    }

    /// Begins a section.
    pub(crate) fn section(&mut self, title: &str) {
        self.sections.push((title.to_owned(), Vec::new()));
    }

    /// Adds a row to the last section.
    pub(crate) fn row(&mut self, cells: impl Into<Vec<String>>) {
        if self.sections.is_empty() {
            self.section("");
        }
        self.sections.last_mut().unwrap().1.push(cells.into());
    }

    fn rows(&self) -> impl Iterator<Item = &Vec<String>> {
        self.sections.iter().flat_map(|(_, rows)| rows)
    }

    /// Formats the table with aligned columns.
    pub(crate) fn text(&self) -> String {
        let width = |column: usize| {
            let cells = self.rows().chain([&self.head]).filter_map(|row| row.get(column));
            let titles = self.sections.iter().map(|(title, _)| title).filter(|_| column == 0);
            cells.chain(titles).map(String::len).max().unwrap_or(0)
        };
        let widths: Vec<_> = (0..self.head.len()).map(width).collect();
        let mut out = String::new();
        let mut line = |cells: &[String]| {
            let mut line = format!("{:<1$}", cells[0], widths[0]);
            for (cell, width) in cells.iter().zip(&widths).skip(1) {
                let _ = write!(line, "  {cell:>width$}");
            }
            out.push_str(line.trim_end());
            out.push('\n');
        };
        for (title, rows) in &self.sections {
            let mut head = self.head.clone();
            if !title.is_empty() {
                line(&[String::new()]);
                head[0].clone_from(title);
            }
            line(&head);
            for row in rows {
                line(row);
            }
        }
        out
    }

    /// Formats the table as Markdown, each section with a heading.
    pub(crate) fn markdown(&self) -> String {
        let line = |cells: &[String]| {
            let cells: Vec<_> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
            format!("| {} |\n", cells.join(" | "))
        };
        let mut out = String::new();
        for (title, rows) in &self.sections {
            if !title.is_empty() {
                let _ = writeln!(out, "## {title}\n");
            }
            out.push_str(&line(&self.head));
            let _ = writeln!(out, "|---{}|", "|---:".repeat(self.head.len() - 1));
            for row in rows {
                out.push_str(&line(row));
            }
            out.push('\n');
        }
        out
    }
}

/// Returns the median.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    if values.len() % 2 == 1 { values[half] } else { f64::midpoint(values[half - 1], values[half]) }
}

/// Formats a rate with three digits.
pub(crate) fn rate(per_second: f64) -> String {
    let (number, unit) = match per_second {
        at if at >= 999_500.0 => (at / 1e6, " M"),
        at if at >= 999.5 => (at / 1e3, " k"),
        at => (at, ""),
    };
    format!("{}{unit}", digits(number))
}

/// Formats a number with three digits.
pub(crate) fn digits(number: f64) -> String {
    match number {
        at if at >= 99.95 => format!("{at:.0}"),
        at if at >= 9.995 => format!("{at:.1}"),
        at => format!("{at:.2}"),
    }
}
