//! A job queue: retries, delays, dead letters, the order of each customer, and a graceful end on Ctrl-C.
//!
//! It starts itself as a child that works, kills that at a random moment, interrupts the third one as Ctrl-C does, and
//! so on until a child has done all jobs.
#![allow(clippy::print_stdout, reason = "it shows what it found")]

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use grouplog::time::{Random as _, SeededRandom};
use grouplog::{
    Backoff, Broker, ConsumerConfig, JobError, Record, ShareGroupConfig, TopicConfig,
    TopicPartition,
};
use rustix::process::{Pid, Signal, kill_process};

const MAILS: u32 = 2_000;
const CUSTOMERS: u32 = 37;

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn main() -> Outcome {
    match std::env::args_os().nth(1) {
        Some(folder) => work(Path::new(&folder)),
        None => run(&tempfile::tempdir()?.path().join("data")),
    }
}

/// Works until all is done, or until Ctrl-C.
fn work(folder: &Path) -> Outcome {
    let (interrupt, interrupted) = std::sync::mpsc::channel();
    let mut signals = signal_hook::iterator::Signals::new([signal_hook::consts::SIGINT])?;
    std::thread::spawn(move || signals.forever().try_for_each(|_| interrupt.send(())));
    let broker = Broker::open(folder)?;
    let producer = broker.producer()?;
    let config = ShareGroupConfig::new()
        .ordered_by_key(true)
        .delivery_count_limit(100)
        .retry_backoff(Backoff::exponential(Duration::from_millis(5)))
        .dead_letter_topic("mails.dead");
    let workers = broker.workers("mails").threads(4).config(config).run(move |job| {
        match std::str::from_utf8(job.value().unwrap_or_default())?.parse::<u32>()? % 100 {
            7 => return Err(JobError::reject("no such address")),
            13 if job.delivery_count() == 1 => return Err(JobError::retry("the server is busy")),
            _ => {}
        }
        let sent = Record::to("sent").key(job.key().unwrap_or_default());
        producer.send(sent.value(job.value().unwrap_or_default()))?;
        println!(); // A line for each mail shows the parent that the work goes on.
        Ok(())
    })?;
    while broker.admin().describe_share_group("mails")?.lag() > 0
        && interrupted.recv_timeout(Duration::from_millis(10)).is_err()
    {}
    workers.shutdown(Duration::from_secs(5))?;
    Ok(())
}

fn run(folder: &Path) -> Outcome {
    let broker = Broker::open(folder)?;
    for topic in ["mails", "sent", "mails.dead"] {
        broker.create_topic(topic, TopicConfig::new())?;
    }
    let producer = broker.producer()?;
    for number in 0..MAILS {
        let (customer, text) = ((number % CUSTOMERS).to_string(), number.to_string());
        // The last mail of each customer is due later.
        let delay = Duration::from_millis(if number + CUSTOMERS < MAILS { 0 } else { 300 });
        producer.send(Record::to("mails").key(&customer).value(&text).deliver_after(delay))?;
    }
    broker.close()?;
    let random = SeededRandom::from_os();
    for life in 0.. {
        let mut child = Command::new(std::env::current_exe()?);
        let mut child = child.arg(folder).stdout(Stdio::piped()).spawn()?;
        let mut pipe = child.stdout.take().ok_or("no pipe")?;
        let mut lines = vec![0; 1 + (random.next_u64() % 300) as usize];
        let is_done = pipe.read_exact(&mut lines).is_err();
        match life {
            _ if is_done => println!("{life} children were killed or interrupted"),
            2 => kill_process(Pid::from_child(&child), Signal::INT)?,
            _ => child.kill()?,
        }
        assert!(child.wait()?.success() || !(is_done || life == 2), "the child ends well");
        if is_done {
            break;
        }
    }
    let mut consumer = Broker::open(folder)?.consumer_with(ConsumerConfig::new())?;
    consumer.assign(["sent", "mails.dead"].map(|topic| TopicPartition::new(topic, 0)))?;
    let mut ended: BTreeMap<_, Vec<u32>> = BTreeMap::new();
    while let mails = consumer.poll(Duration::ZERO)?
        && !mails.is_empty()
    {
        for mail in &mails {
            let number = std::str::from_utf8(mail.value().unwrap_or_default())?.parse()?;
            let key = (mail.topic().to_owned(), mail.key().map(<[u8]>::to_vec));
            ended.entry(key).or_default().push(number);
        }
    }
    // A mail whose child was killed before the end was noted is sent again, before the next one of its customer.
    assert!(ended.values().all(|numbers| numbers.is_sorted()), "in order: {ended:?}");
    ended.values_mut().for_each(Vec::dedup);
    assert_eq!(ended.values().map(Vec::len).sum::<usize>(), MAILS as usize);
    println!("each of {MAILS} mails was sent, or rejected");
    Ok(())
}
