//! The arguments of the benches that compare the engine with plain files in fresh folders.

use std::path::PathBuf;

/// A number that only one bench takes.
#[derive(Debug)]
pub(crate) struct Own {
    pub(crate) name: &'static str,
    pub(crate) value: u64,
    pub(crate) help: &'static str,
}

/// What the command line asks for.
#[derive(Debug)]
pub(crate) struct Arguments {
    /// True if the bench only shows that it works, in a few seconds.
    pub(crate) quick: bool,
    /// How often each measurement is made.
    pub(crate) runs: usize,
    /// Measures only what has this text in its name.
    filter: Option<String>,
    /// The folder to measure in.
    pub(crate) dir: PathBuf,
    own: Vec<Own>,
}

impl Arguments {
    /// Reads the command line. Ends the process, with a message, if it asks for help or is wrong.
    /// Returns `None` if a test runner only looks for tests.
    pub(crate) fn read(own: Vec<Own>) -> Option<Self> {
        let mut arguments = Self {
            quick: false,
            runs: 0,
            filter: None,
            dir: PathBuf::from(env!("CARGO_TARGET_TMPDIR")),
            own,
        };
        let mut given = std::env::args().skip(1);
        while let Some(argument) = given.next() {
            let mut value = || given.next().unwrap_or_else(|| arguments.refuse(&argument));
            match argument.as_str() {
                "--bench" => {} // Cargo adds it.
                "--test" | "--list" => return None,
                "--quick" => arguments.quick = true,
                "--runs" => arguments.runs = arguments.number(&argument, &value()),
                "--filter" => arguments.filter = Some(value()),
                "--dir" => arguments.dir = value().into(),
                "--help" => arguments.explain(0),
                name => {
                    let Some(at) = arguments.own.iter().position(|own| own.name == name) else {
                        arguments.refuse(name);
                    };
                    arguments.own[at].value = arguments.number(&argument, &value()) as u64;
                }
            }
        }
        if !arguments.dir.is_dir() {
            arguments.refuse("--dir");
        }
        if arguments.runs == 0 {
            arguments.runs = if arguments.quick { 1 } else { 3 };
        }
        Some(arguments)
    }

    /// Returns the value of a number of this bench.
    pub(crate) fn own(&self, name: &str) -> u64 {
        self.own.iter().find(|own| own.name == name).unwrap().value
    }

    /// Returns true if the measurement `name` was asked for.
    pub(crate) fn selects(&self, name: &str) -> bool {
        self.filter.as_deref().is_none_or(|text| name.contains(text))
    }

    /// Says how this run differs from a whole one, for the report.
    pub(crate) fn differs(&self) -> String {
        let quick = if self.quick { "; a quick run, which says nothing about speed" } else { "" };
        let filter = self.filter.as_ref().map(|text| format!("; only \"{text}\""));
        format!("{quick}{}", filter.unwrap_or_default())
    }

    fn number(&self, name: &str, text: &str) -> usize {
        text.parse().ok().filter(|number| *number > 0).unwrap_or_else(|| self.refuse(name))
    }

    fn refuse(&self, argument: &str) -> ! {
        println!("{argument} is not an argument, or its value is missing or wrong");
        self.explain(2)
    }

    fn explain(&self, code: i32) -> ! {
        println!("--quick        a few seconds, to see that it works");
        println!("--runs N       how often each measurement is made (3)");
        println!("--filter TEXT  only the measurements with this text in their names");
        println!("--dir PATH     the folder to measure in, on the disk in question");
        for Own { name, value, help } in &self.own {
            println!("{:<14} {help} ({value})", format!("{name} N"));
        }
        std::process::exit(code)
    }
}
