//! Checks the table of modules: a module imports only modules below it, and its docs name its importers.
//!
//! Also checks rules that are easy to break unnoticed: `unsafe` stays beside the maps, pure modules are
//! deterministic, and nothing sleeps.
//!
//! The sources are read as text, with comments, strings and character literals blanked out, so test code
//! is held to the same table.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its sources fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

#[path = "layering/cycles.rs"]
mod cycles;
#[path = "layering/scan.rs"]
mod scan;

use cycles::Graph;
use scan::{blank, tokens};

/// Modules of the crate and their ranks. A module may import only lower ranks.
const TABLE: &[(&str, u32)] = &[
    ("types", 0),
    // Locks and atomics, or a model checker's.
    ("sync", 1),
    ("error", 1),
    ("time", 1),
    ("record", 2),
    ("serialization", 2),
    ("storage", 2),
    // Names the codecs of `record` and the clocks of `time`.
    ("config", 3),
    // What Kafka's producers have written to a partition.
    ("producer_state", 3),
    ("segment", 4),
    ("journal", 4),
    ("cleaner", 4),
    ("log", 5),
    // Ids of records: tables and their files.
    ("dedup", 5),
    ("group", 6),
    ("engine", 7),
    ("producer", 8),
    ("consumer", 8),
    ("share", 9),
    // Joins producers and consumers.
    ("transaction", 10),
    // Sends dead letters back in transactions.
    ("redrive", 11),
    // Handles: they make producers and consumers.
    ("broker", 12),
    // Documentation alone.
    ("manual", 0),
    // Bodies of fuzz targets, behind the feature `__internal`.
    ("internal", 13),
];

/// What the pure coordinator may import: it takes time and writes as arguments and results.
const GROUP_MAY_IMPORT: &[&str] = &["error", "types"];

/// Modules whose results must not depend on the order of a hash map.
const PURE: &[&str] = &["types", "record", "segment", "producer_state", "cleaner", "group"];

/// A source file: its path below `src` or `tests`, and its text without comments and literals.
struct Source {
    path: String,
    code: String,
}

fn sources(folder: &str) -> Vec<Source> {
    let root = root(folder);
    let mut paths = Vec::new();
    collect(&root, &mut paths);
    paths.sort();
    let read = |path: &PathBuf| Source {
        path: path.strip_prefix(&root).unwrap().to_str().unwrap().replace('\\', "/"),
        code: blank(&std::fs::read_to_string(path).unwrap()),
    };
    paths.iter().map(read).collect()
}

fn root(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)
}

fn collect(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, out);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            out.push(path);
        }
    }
}

/// How deep below the crate's root the module of a file is: 1 for `group/mod.rs`, 2 for `group/member.rs`.
fn depth(path: &str) -> usize {
    let path = path.trim_end_matches(".rs");
    path.trim_end_matches("/mod").split('/').count()
}

/// The names directly below the crate's root that a file reaches by `crate::` or by enough `super::`.
fn root_names(source: &Source) -> BTreeSet<String> {
    let tokens = tokens(&source.code);
    let at = |i: usize| tokens.get(i).copied().unwrap_or_default();
    let mut found = BTreeSet::new();
    // Braces of inline modules that are open, by the depth of their brace.
    let (mut braces, mut inline) = (0_usize, Vec::new());
    let mut i = 0;
    while i < tokens.len() {
        match at(i) {
            "{" => {
                braces += 1;
                if i >= 2 && at(i - 2) == "mod" {
                    inline.push(braces);
                }
            }
            "}" => {
                if inline.last() == Some(&braces) {
                    inline.pop();
                }
                braces = braces.saturating_sub(1);
            }
            "crate" if at(i + 1) == "::" => first_segments(&tokens, i + 2, &mut found),
            "super" if i == 0 || at(i - 1) != "::" => {
                let mut ups = 1;
                while at(i + 2 * ups - 1) == "::" && at(i + 2 * ups) == "super" {
                    ups += 1;
                }
                if ups >= depth(&source.path) + inline.len() {
                    first_segments(&tokens, i + 2 * ups, &mut found);
                }
            }
            _ => {}
        }
        i += 1;
    }
    found
}

/// The name at `i`, or the first segments of the group in braces at `i`.
fn first_segments(tokens: &[&str], i: usize, found: &mut BTreeSet<String>) {
    let at = |i: usize| tokens.get(i).copied().unwrap_or_default();
    if at(i) != "{" {
        found.insert(at(i).to_owned());
        return;
    }
    let (mut braces, mut j) = (1, i + 1);
    while braces > 0 && j < tokens.len() {
        match at(j) {
            "{" => braces += 1,
            "}" => braces -= 1,
            name if braces == 1 && matches!(at(j - 1), "{" | ",") => {
                found.insert(name.to_owned());
            }
            _ => {}
        }
        j += 1;
    }
}

/// What `lib.rs` re-exports, by the module that it comes from: `crate::Error` is `crate::error`.
fn exports(lib: &Source) -> BTreeMap<String, String> {
    let tokens = tokens(&lib.code);
    let at = |i: usize| tokens.get(i).copied().unwrap_or_default();
    let mut out = BTreeMap::new();
    for i in (0..tokens.len()).filter(|&i| at(i) == "use" && at(i + 2) == "::") {
        let statement = tokens.iter().skip(i + 3).take_while(|token| **token != ";");
        for name in statement {
            out.insert((*name).to_owned(), at(i + 1).to_owned());
        }
    }
    out
}

fn rank(module: &str) -> Option<u32> {
    TABLE.iter().find(|(name, _)| *name == module).map(|(_, rank)| *rank)
}

fn module_of(path: &str) -> &str {
    path.split('/').next().unwrap_or_default().trim_end_matches(".rs")
}

/// What is wrong with the imports of one file.
fn violations(source: &Source, exports: &BTreeMap<String, String>) -> Vec<String> {
    let module = module_of(&source.path);
    let Some(own) = rank(module) else {
        return vec![format!("{}: module `{module}` is not in the table", source.path)];
    };
    let mut out = Vec::new();
    for name in root_names(source) {
        let target = exports.get(&name).unwrap_or(&name);
        let allowed = match rank(target) {
            _ if target == module => true,
            _ if module == "group" => GROUP_MAY_IMPORT.contains(&target.as_str()),
            Some(rank) => rank < own,
            None => false,
        };
        if !allowed {
            out.push(format!("{}: `{module}` must not import `{name}`", source.path));
        }
    }
    out
}

fn is_library(source: &Source) -> bool {
    source.path != "lib.rs" && !source.path.starts_with("bin/")
}

/// The lines that hold one of `words` as a word, or as a path of words.
fn lines_with(sources: &[Source], words: &[&str]) -> Vec<String> {
    let mut out = Vec::new();
    for source in sources {
        for (number, line) in source.code.lines().enumerate() {
            let tokens = tokens(line);
            let holds = |words: &[&str]| tokens.windows(words.len()).any(|window| window == words);
            if words.iter().any(|word| holds(&self::tokens(word))) {
                out.push(format!("{}:{}", source.path, number + 1));
            }
        }
    }
    out
}

/// The module docs at the top of a source file, in paragraphs of one line each.
fn module_docs(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().map_while(|line| line.strip_prefix("//!")).collect();
    let paragraphs = lines.split(|line| line.trim().is_empty());
    paragraphs
        .map(|lines| lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" "))
        .collect()
}

/// The modules named by the sentence `Imported by ...` of a module's docs; `None` if there is no such sentence.
fn named_importers(docs: &[String]) -> Option<BTreeSet<String>> {
    let paragraph = docs.iter().find(|paragraph| paragraph.starts_with("Imported by"))?;
    let sentence = paragraph.split(['.', ';']).next()?;
    Some(sentence.split('`').skip(1).step_by(2).map(str::to_owned).collect())
}

/// The modules that import each module.
fn importers(
    sources: &[Source],
    exports: &BTreeMap<String, String>,
) -> BTreeMap<String, BTreeSet<String>> {
    let mut out: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources.iter().filter(|source| is_library(source)) {
        let module = module_of(&source.path);
        for name in root_names(source) {
            let target = exports.get(&name).unwrap_or(&name);
            if target != module {
                out.entry(target.clone()).or_default().insert(module.to_owned());
            }
        }
    }
    out
}

fn assert_none(found: &[String], what: &str) {
    let list = found.iter().fold(String::new(), |mut list, line| {
        let _infallible = write!(list, "\n  {line}");
        list
    });
    assert!(found.is_empty(), "{what}:{list}");
}

#[test]
fn modules_import_only_what_lies_below_them() {
    let sources = sources("src");
    let lib = sources.iter().find(|source| source.path == "lib.rs").unwrap();
    let exports = exports(lib);
    let found: Vec<String> = sources
        .iter()
        .filter(|source| is_library(source))
        .flat_map(|source| violations(source, &exports))
        .collect();
    assert_none(&found, "imports against the table");
}

#[test]
fn modules_say_what_they_are_and_who_imports_them() {
    let sources = sources("src");
    let lib = sources.iter().find(|source| source.path == "lib.rs").unwrap();
    let importers = importers(&sources, &exports(lib));
    let mut found = Vec::new();
    for source in sources.iter().filter(|source| is_library(source)) {
        let module = module_of(&source.path);
        let is_top = depth(&source.path) == 1;
        let is_folder = source.path.ends_with("/mod.rs") && !source.path.contains("/tests/");
        if !is_top && !is_folder {
            continue;
        }
        let docs = module_docs(&std::fs::read_to_string(root("src").join(&source.path)).unwrap());
        if docs.iter().all(String::is_empty) {
            found.push(format!("{}: no module docs", source.path));
        }
        let actual = importers.get(module).cloned().unwrap_or_default();
        if is_top && named_importers(&docs).as_ref() != Some(&actual) {
            found.push(format!("{}: not `Imported by` {actual:?}", source.path));
        }
    }
    assert_none(&found, "module docs");
}

/// The check above passes only if it reads the docs and the imports as they are.
#[test]
fn the_sentence_on_importers_is_read_as_it_stands() {
    let named = |text: &str| named_importers(&module_docs(text)).map(|names| names.len());
    assert_eq!(named("//! Imported by `a`,\n//! `b` and `c`. Not by `d`.\n"), Some(3));
    assert_eq!(named("//! Text.\n//!\n//! Imported by no other module.\nuse `x`;"), Some(0));
    assert_eq!(named("//! Text.\n\n// Imported by `a`."), None);
    assert!(module_docs("use a;\n//! Late.").iter().all(String::is_empty));
    let source = |path: &str, code: &str| Source { path: path.into(), code: code.into() };
    let sources = [
        source("log/mod.rs", "use crate::log::Log;"),
        source("engine/mod.rs", "use crate::Log;"),
        source("group/mod.rs", "use crate::error::Error;"),
        source("bin/grouplog/main.rs", "use crate::log::Log;"),
    ];
    let exports = BTreeMap::from([("Log".to_owned(), "log".to_owned())]);
    assert_eq!(importers(&sources, &exports)["log"], BTreeSet::from(["engine".to_owned()]));
}

#[test]
fn files_do_not_import_each_other_in_circles() {
    assert_none(&Graph::of(&sources("src")).cycles(), "import cycles between files");
}

#[test]
fn the_binary_uses_the_public_api_alone() {
    let mut binary = sources("src");
    binary.retain(|source| source.path.starts_with("bin/"));
    assert_none(&lines_with(&binary, &["grouplog::internal"]), "internals named by the binary");
    // Files of the library are not taken in by path.
    let paths: Vec<String> = lines_with(&binary, &["[path", "include!"]);
    assert_none(&paths, "sources taken in by the binary");
}

#[test]
fn unsafe_stands_only_beside_the_maps() {
    let mut sources = sources("src");
    sources.retain(|source| {
        source.path != "storage/map.rs" && !source.path.starts_with("storage/map/")
    });
    assert_none(&lines_with(&sources, &["unsafe"]), "unsafe code outside storage/map");
}

#[test]
fn pure_modules_hold_no_hash_maps() {
    let mut sources = sources("src");
    sources.retain(|source| PURE.contains(&module_of(&source.path)));
    assert!(sources.len() > PURE.len());
    assert_none(&lines_with(&sources, &["HashMap", "HashSet"]), "hash maps in pure modules");
}

#[test]
fn nothing_sleeps() {
    for folder in ["src", "tests"] {
        let sources = sources(folder);
        assert_none(&lines_with(&sources, &["thread::sleep", "sleep_ms"]), "sleeps");
        let imports = lines_with(&sources, &["use std::thread::sleep", "thread::park_timeout"]);
        assert_none(&imports, "sleeps");
    }
}

/// The checks above pass only if this scanner sees what it should.
#[test]
fn the_scanner_sees_every_form_of_an_import() {
    let lib = Source { path: "lib.rs".into(), code: "pub use broker::{Broker, Health};".into() };
    let exports = exports(&lib);
    let found = |path: &str, text: &str| {
        let source = Source { path: path.into(), code: blank(text) };
        violations(&source, &exports).len()
    };
    assert_eq!(found("log/mod.rs", "use crate::record::Batch; use crate::error::Error;"), 0);
    assert_eq!(found("log/mod.rs", "use crate::log::Log; use self::read::Cursor;"), 0);
    for text in [
        "use crate::broker::Engine;",
        "use crate::Broker;",
        "use crate::{error::Error, broker::{Engine, log}};",
        "use super::broker::Engine;",
        "fn f() { crate::broker::Engine::new() }",
        "mod tests { use super::super::broker::Engine; }",
        "const A: char = '\"'; use crate::broker::Engine; const B: char = '\"';",
    ] {
        assert_eq!(found("log/mod.rs", text), 1, "{text}");
    }
    assert_eq!(found("log/read.rs", "use super::super::group::Group;"), 1);
    assert_eq!(found("log/read.rs", "use super::group::Group; mod t { use super::super::x; }"), 0);
    for text in
        ["// crate::broker", "/* crate::broker */", "\"crate::broker\"", "r#\"crate::broker\"#"]
    {
        assert_eq!(found("log/mod.rs", text), 0, "{text}");
    }
    assert_eq!(found("journal/mod.rs", "use crate::segment::Walk;"), 1, "sideways");
    assert_eq!(found("group/mod.rs", "use crate::time::Clock;"), 1, "not pure");
    assert_eq!(found("broker/mod.rs", "use crate::consumer::Source;"), 0, "handles make handles");
    assert_eq!(found("engine/state.rs", "use crate::consumer::Source;"), 1, "against the table");
    assert_eq!(found("novel/mod.rs", ""), 1, "not in the table");
}

/// The rule on circles holds only if it sees every form of an import.
#[test]
fn the_graph_sees_every_circle_and_no_other() {
    let circles = |files: &[(&str, &str)]| {
        let source =
            |(path, text): &(&str, &str)| Source { path: (*path).into(), code: blank(text) };
        Graph::of(&files.iter().map(source).collect::<Vec<_>>()).cycles().len()
    };
    let module =
        ("group/mod.rs", "mod a; mod b; pub(crate) use a::A; pub(crate) use b::B; struct C;");
    for (a, b) in [
        ("use super::b::B;", "use super::a::A;"),
        ("use super::B;", "use crate::group::A;"),
        ("use super::{C, b::{self, B}};", "use super::{a, C};"),
        ("fn f() { super::b::f() }", "fn f() -> super::a::A { A }"),
        ("use super::b::*;", "mod tests { use super::super::a::A; }"),
        ("use crate::group::B as Other;", "use crate::{group::A, error::Error};"),
    ] {
        assert_eq!(circles(&[module, ("group/a.rs", a), ("group/b.rs", b)]), 1, "{a} / {b}");
        assert_eq!(
            circles(&[module, ("group/a.rs", a), ("group/b.rs", "use super::C;")]),
            0,
            "{a}"
        );
    }
    // A longer one, through a folder's module and a re-export of a re-export.
    let lib = ("lib.rs", "pub use group::A;");
    let log = ("log/mod.rs", "mod inner; pub use inner::Log;");
    let inner = ("log/inner.rs", "use crate::A; pub struct Log;");
    assert_eq!(circles(&[lib, module, log, inner, ("group/a.rs", "use crate::log::Log;")]), 1);
    // Its own folder's module, visibility, other crates and comments make none.
    let own =
        ("group/a.rs", "use super::C; pub(in crate::group) struct A; use std::b::B; // super::b");
    assert_eq!(circles(&[module, own, ("group/b.rs", "use super::a::A;")]), 0);
    // A file below a folder that names what the folder's parent defines is no exception.
    let below = ("group/b/inner.rs", "use crate::group::C;");
    let parent = ("group/mod.rs", "mod b; use b::inner::I; struct C;");
    assert_eq!(circles(&[parent, ("group/b/mod.rs", "mod inner;"), below]), 1);
}
