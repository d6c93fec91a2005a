//! A report: a table on the terminal and as Markdown, a chart, and what the figures depend on.

use std::path::{Path, PathBuf};

use super::arguments::Arguments;
use super::table::Table;

/// What one bench found out.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    /// The name of the bench, and of the files.
    pub(crate) name: &'a str,
    pub(crate) title: &'a str,
    /// Sentences that say what was measured.
    pub(crate) notes: &'a str,
    pub(crate) table: &'a Table,
    pub(crate) svg: &'a str,
}

impl Report<'_> {
    /// Prints the table, and writes it as Markdown beside the chart.
    pub(crate) fn publish(&self, arguments: &Arguments) {
        let Self { name, title, notes, table, svg } = self;
        let machine = machine(&arguments.dir);
        let made = format!("Runs: {}{}.", arguments.runs, arguments.differs());
        println!("{title}\n\n{}", wrap(&format!("{notes} {made} {machine}")));
        println!("{}", table.text());
        let folder = target().join("bench");
        std::fs::create_dir_all(&folder).unwrap();
        let markdown = format!(
            "# {title}\n\n{notes}\n\n{made} {machine}\n\n![{title}]({name}.svg)\n\n{}",
            table.markdown()
        );
        for (extension, text) in [("md", markdown.trim_end()), ("svg", svg.trim_end())] {
            let path = folder.join(name).with_extension(extension);
            std::fs::write(&path, format!("{text}\n")).unwrap();
            println!("{}", path.display());
        }
    }
}

/// Breaks `text` into lines that a terminal shows whole.
fn wrap(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().unwrap();
        if line.is_empty() {
            line.push_str(word);
        } else if line.len() + word.len() < 100 {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines.join("\n")
}

/// Returns Cargo's target folder: as given, or that of the running binary, which Cargo marks, or
/// that of the build.
fn target() -> PathBuf {
    let given = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from).filter(|dir| dir.is_dir());
    let binary = std::env::current_exe().unwrap();
    let mut around = binary.ancestors().filter(|dir| dir.join("CACHEDIR.TAG").exists());
    let around = around.next().map(Path::to_owned);
    let built = || Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().to_owned();
    given.or(around).unwrap_or_else(built)
}

/// Says what the figures depend on.
fn machine(dir: &Path) -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown", |(_, model)| model);
    let kernel = read("/proc/sys/kernel/osrelease");
    let build = if cfg!(debug_assertions) { " Built without optimisation." } else { "" };
    format!(
        "{cores} cores ({model}), {} {}, {}.{build}",
        std::env::consts::OS,
        kernel.trim(),
        file_system(dir, &read("/proc/self/mounts"))
    )
}

/// Returns the name of the file system that holds `dir`.
fn file_system(dir: &Path, mounts: &str) -> String {
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((fields.next()?, fields.next()?))
    });
    let around = mounts.filter(|(at, _)| dir.starts_with(at));
    let inner = around.max_by_key(|(at, _)| at.len());
    inner.map_or("an unknown file system".to_owned(), |(_, name)| name.to_owned())
}
