//! Import cycles between files.
//!
//! A file imports another one if it names something that is defined there: by `use`, or by a path that begins
//! with `crate`, `self`, `super` or a module of its own. A name that a module only re-exports belongs to the
//! file that defines it. A file may name what its own folder's `mod.rs` defines, for that is what the folder
//! is about; such imports do not count.

use std::collections::{BTreeMap, BTreeSet};

use crate::Source;
use crate::scan::tokens;

/// A module's path from the root of its crate, which is `crate` for the library and `bin` for the binary.
type Module = Vec<String>;

/// Files and what each imports of the others.
pub(crate) struct Graph {
    imports: BTreeMap<String, BTreeSet<String>>,
}

impl Graph {
    pub(crate) fn of(sources: &[Source]) -> Self {
        let files = Files::of(sources);
        let mut imports = BTreeMap::new();
        for source in sources {
            imports.insert(source.path.clone(), files.imports(&source.path));
        }
        Self { imports }
    }

    /// The files of each circle, and the imports between them.
    pub(crate) fn cycles(&self) -> Vec<String> {
        let mut reach = BTreeMap::new();
        for file in self.imports.keys() {
            reach.insert(file.as_str(), self.reachable(file));
        }
        let mut told: BTreeSet<&str> = BTreeSet::new();
        let mut out = Vec::new();
        for (file, reached) in &reach {
            if !reached.contains(file) || told.contains(file) {
                continue;
            }
            let members: BTreeSet<&str> =
                reached.iter().copied().filter(|other| reach[other].contains(file)).collect();
            told.extend(&members);
            let arrow = |from: &&str| {
                let to = self.imports[*from].iter().filter(|to| members.contains(to.as_str()));
                format!("{from} -> {}", to.cloned().collect::<Vec<_>>().join(", "))
            };
            out.push(members.iter().map(arrow).collect::<Vec<_>>().join("\n    "));
        }
        out
    }

    fn reachable(&self, from: &str) -> BTreeSet<&str> {
        let mut found = BTreeSet::new();
        let mut next: Vec<&str> = self.imports[from].iter().map(String::as_str).collect();
        while let Some(file) = next.pop() {
            if found.insert(file) {
                next.extend(self.imports[file].iter().map(String::as_str));
            }
        }
        found
    }
}

/// All files, the modules they hold, and the paths that stand in them.
struct Files {
    /// Module to file.
    modules: BTreeMap<Module, String>,
    /// File to what it names.
    named: BTreeMap<String, Named>,
}

#[derive(Default)]
struct Named {
    /// Paths from the root: of `use` declarations, with the name by which the file knows them, ...
    uses: Vec<(String, Module)>,
    /// ... and of expressions and types.
    paths: Vec<Module>,
}

impl Files {
    fn of(sources: &[Source]) -> Self {
        let modules: BTreeMap<Module, String> =
            sources.iter().map(|source| (module_of(&source.path), source.path.clone())).collect();
        let mut named = BTreeMap::new();
        for source in sources {
            named.insert(source.path.clone(), Scan::new(source, &modules).run());
        }
        Self { modules, named }
    }

    fn imports(&self, path: &str) -> BTreeSet<String> {
        let named = &self.named[path];
        let paths = named.uses.iter().map(|(_, to)| to).chain(&named.paths);
        let mut found: BTreeSet<String> = paths.filter_map(|to| self.definer(to, 0)).collect();
        found.remove(path);
        if let Some(parent) = parent_file(path) {
            found.remove(&parent);
        }
        found
    }

    /// The file that defines what a path names.
    fn definer(&self, path: &[String], depth: usize) -> Option<String> {
        // The longest prefix that is a module.
        let at = (1..=path.len()).rev().find(|&at| self.modules.contains_key(&path[..at]))?;
        let file = &self.modules[&path[..at]];
        let Some(name) = path.get(at) else { return Some(file.clone()) };
        let reexport = self.named[file].uses.iter().find(|(known_as, _)| known_as == name);
        match reexport {
            // Deep enough for every re-export of a re-export; no further, should two name each other.
            Some((_, to)) if depth < 8 => self.definer(to, depth + 1),
            _ => Some(file.clone()),
        }
    }
}

/// The module that a file holds.
fn module_of(path: &str) -> Module {
    let (root, rest) = match path.strip_prefix("bin/grouplog/") {
        Some(rest) => ("bin", rest),
        None => ("crate", path),
    };
    let rest = rest.trim_end_matches(".rs").trim_end_matches("/mod");
    let names = rest.split('/').filter(|name| !matches!(*name, "lib" | "main"));
    std::iter::once(root).chain(names).map(str::to_owned).collect()
}

/// The `mod.rs` of a file's folder, or the file that stands for it.
fn parent_file(path: &str) -> Option<String> {
    let (folder, name) = path.rsplit_once('/')?;
    match (folder, name) {
        ("bin/grouplog", _) => Some("bin/grouplog/main.rs".to_owned()),
        (_, "mod.rs") => None,
        _ if is_styled_flat(folder) => Some(format!("{folder}.rs")),
        _ => Some(format!("{folder}/mod.rs")),
    }
}

/// Whether a folder's module is `folder.rs` and not `folder/mod.rs`.
fn is_styled_flat(folder: &str) -> bool {
    crate::root("src").join(format!("{folder}.rs")).exists()
}

/// Reads the paths of one file.
struct Scan<'a> {
    tokens: Vec<&'a str>,
    modules: &'a BTreeMap<Module, String>,
    module: Module,
    /// Names of the inline modules that are open, with the depth of their brace.
    inline: Vec<(usize, String)>,
    out: Named,
}

impl<'a> Scan<'a> {
    fn new(source: &'a Source, modules: &'a BTreeMap<Module, String>) -> Self {
        let (tokens, module) = (tokens(&source.code), module_of(&source.path));
        Self { tokens, modules, module, inline: Vec::new(), out: Named::default() }
    }

    fn at(&self, i: usize) -> &'a str {
        self.tokens.get(i).copied().unwrap_or_default()
    }

    fn run(mut self) -> Named {
        let (mut i, mut braces) = (0, 0_usize);
        while i < self.tokens.len() {
            match self.at(i) {
                "{" => {
                    braces += 1;
                    if i >= 2 && self.at(i - 2) == "mod" {
                        self.inline.push((braces, self.at(i - 1).to_owned()));
                    }
                }
                "}" => {
                    if self.inline.last().is_some_and(|(depth, _)| *depth == braces) {
                        self.inline.pop();
                    }
                    braces = braces.saturating_sub(1);
                }
                "use" => {
                    let end = (i..self.tokens.len()).find(|&j| self.at(j) == ";");
                    let end = end.unwrap_or(self.tokens.len());
                    self.tree(&[], i + 1, end);
                    i = end;
                }
                // `pub(in crate::log)` imports nothing.
                "in" if i > 0 && self.at(i - 1) == "(" => i += 1,
                _ if self.at(i + 1) == "::" && (i == 0 || self.at(i - 1) != "::") => {
                    let path = self.path(i);
                    if let Some(path) = self.absolute(&path) {
                        self.out.paths.push(path);
                    }
                }
                _ => {}
            }
            i += 1;
        }
        self.out
    }

    /// The segments of the path at `i`.
    fn path(&self, mut i: usize) -> Vec<&'a str> {
        let mut path = vec![self.at(i)];
        while self.at(i + 1) == "::" && is_word(self.at(i + 2)) {
            path.push(self.at(i + 2));
            i += 2;
        }
        path
    }

    /// Takes in a tree of `use` from `i` to `end`.
    fn tree(&mut self, prefix: &[&'a str], mut i: usize, end: usize) {
        while i < end {
            let mut path = prefix.to_vec();
            let mut name = None;
            while i < end && self.at(i) != "," {
                match self.at(i) {
                    "{" => {
                        let close = self.closing(i);
                        self.tree(&path, i + 1, close);
                        path.clear();
                        i = close;
                    }
                    "as" => {
                        name = Some(self.at(i + 1));
                        i += 1;
                    }
                    "::" => {}
                    segment => path.push(segment),
                }
                i += 1;
            }
            i += 1;
            if path.len() > 1 && path.last() == Some(&"self") {
                path.pop();
            }
            // Whoever takes everything of a module imports the module.
            let all = path.last() == Some(&"*");
            if all {
                path.pop();
            }
            let Some(last) = path.last() else { continue };
            let name = if all { "*" } else { name.unwrap_or(last) };
            let name = name.to_owned();
            if let Some(path) = self.absolute(&path) {
                // Below an inline module a name is not the file's.
                let name = if self.inline.is_empty() { name } else { String::new() };
                self.out.uses.push((name, path));
            }
        }
    }

    fn closing(&self, open: usize) -> usize {
        let mut braces = 0;
        for i in open..self.tokens.len() {
            match self.at(i) {
                "{" => braces += 1,
                "}" => braces -= 1,
                _ => {}
            }
            if braces == 0 {
                return i;
            }
        }
        self.tokens.len()
    }

    /// A path from the root; `None` for one of another crate, or of nothing but local names.
    fn absolute(&self, path: &[&str]) -> Option<Module> {
        let own = self.module[0].clone();
        let inline = self.inline.iter().map(|(_, name)| name.clone());
        let mut here: Module = self.module.iter().cloned().chain(inline).collect();
        let mut rest = path;
        match *path.first()? {
            "crate" => {
                here = vec![own];
                rest = &rest[1..];
            }
            "self" => rest = &rest[1..],
            "super" => {
                while rest.first() == Some(&"super") {
                    here.pop();
                    rest = &rest[1..];
                }
            }
            // The binary uses the library by its name.
            "grouplog" => return None,
            child => {
                here.push(child.to_owned());
                if !self.modules.contains_key(&here) {
                    return None;
                }
                here.pop();
            }
        }
        here.extend(rest.iter().map(|&segment| segment.to_owned()));
        Some(here)
    }
}

fn is_word(token: &str) -> bool {
    token.chars().next().is_some_and(|c| c.is_alphabetic() || c == '_')
}
