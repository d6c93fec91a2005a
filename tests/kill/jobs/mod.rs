//! A job queue whose process is killed. Eight threads run jobs that are accepted, fail, are put off or given up, while a
//! producer sends more of them. The child tells of each delivery before anything is said of it, and of its end once that
//! is acknowledged. After many lives, all of them killed but the last one, the whole history must be one that the promises
//! of share groups allow (`history`).

mod child;
mod history;

use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use grouplog::Broker;
use grouplog::time::{Random, SeededRandom};

use crate::{KILLS, KILLS_OF_A_FOLDER, fail, kills};
use child::{JOBS, Setup};
use history::{Counts, History};

/// Tells the child its folder, setup and life.
const TOLD: [&str; 3] =
    ["GROUPLOG_KILL_JOBS_FOLDER", "GROUPLOG_KILL_JOBS_SETUP", "GROUPLOG_KILL_JOBS_LIFE"];

/// Longer than the last life of any folder takes.
const LONG: Duration = Duration::from_mins(2);

#[test]
fn jobs_survive_sigkill() {
    let kills = kills(KILLS);
    let random = SeededRandom::from_os();
    let mut counts = Counts::default();
    for first in (0..kills).step_by(KILLS_OF_A_FOLDER as usize) {
        let setup = Setup::of(first / KILLS_OF_A_FOLDER, &random);
        let lives = KILLS_OF_A_FOLDER.min(kills - first);
        let context = format!("folder {}, {setup:?}", first / KILLS_OF_A_FOLDER);
        let counted = run_folder(setup, lives, &random);
        counts.add(&counted.unwrap_or_else(|what| fail(&context, &what)));
    }
    println!("{kills} kills, {counts}");
    assert!(counts.begun > kills, "the children are killed before their first job");
}

/// Kills this many lives in one folder, and lets a last one run to its end.
fn run_folder(setup: Setup, lives: u64, random: &dyn Random) -> Result<Counts, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let mut history = History::default();
    for life in 0..lives {
        let delay = Duration::from_micros(random.next_u64() % 150_000);
        let text = run_child(&path, setup, Some(life), delay);
        history.live(life, &text).map_err(|what| format!("life {life}, {delay:?}: {what}"))?;
    }
    let text = run_child(&path, setup, None, LONG);
    history.live(lives, &text).map_err(|what| format!("the last life: {what}"))?;
    if !history.has_ended() {
        return Err("the last life does not end".to_owned());
    }
    let reader = Broker::open_read_only(&path).unwrap();
    let counts = history.check(&reader)?;
    drop(reader);
    nothing_is_left(&path, setup)?;
    Ok(counts)
}

/// Whoever opens the folder again gets no job.
fn nothing_is_left(path: &Path, setup: Setup) -> Result<(), String> {
    let broker = Broker::open_with(path, setup.config()).unwrap();
    let mut member = broker.share_consumer(JOBS).unwrap();
    member.subscribe([JOBS]).unwrap();
    let left = member.poll(Duration::ZERO).unwrap().len();
    if left == 0 { Ok(()) } else { Err(format!("{left} jobs come again after the last life")) }
}

/// Lets a child live in the folder, and kills it unless it ends by itself before. Returns what it has told.
fn run_child(path: &Path, setup: Setup, life: Option<u64>, delay: Duration) -> String {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["jobs::jobs_child", "--exact", "--nocapture", "--test-threads=1"])
        .env(TOLD[0], path)
        .env(TOLD[1], setup.to_string())
        .env(TOLD[2], life.map_or("last".to_owned(), |life| life.to_string()))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stderr.take().unwrap();
    let (told, hear) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).unwrap();
        told.send(bytes)
    });
    // Returns early only if the child ends early.
    let early = hear.recv_timeout(delay).ok();
    child.kill().unwrap();
    child.wait().unwrap();
    let bytes = early.unwrap_or_else(|| hear.recv().unwrap());
    reader.join().unwrap().unwrap();
    String::from_utf8(bytes).unwrap()
}

/// The child's part. Does nothing unless the parent started it.
#[test]
fn jobs_child() {
    let [folder, setup, life] = TOLD.map(|name| std::env::var(name).ok());
    if let (Some(folder), Some(setup), Some(life)) = (folder, setup, life) {
        child::work_in(Path::new(&folder), Setup::parse(&setup), life.parse().ok());
    }
}
