//! What the children told, and whether the promises of share groups allow it.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use grouplog::{ReadOnlyBroker, TopicPartition};

use super::child::{DEAD, JOBS, LIMIT, PARTITIONS, Plan, REASON};

/// Partition and offset of a job.
type Place = (u32, i64);

/// The message of a dead letter whose job is out of tries.
const OUT_OF_TRIES: &str = "delivery count exceeded";

/// What is known of a job.
#[derive(Debug)]
struct Known {
    /// The checksum of its value.
    value: u32,
    /// The delivery counts that it may have next, as far as it comes again.
    next: RangeInclusive<u16>,
    /// Its last delivery.
    last: Option<Delivery>,
    /// Whether this life has begun it.
    is_begun: bool,
}

/// A delivery that a handler told of.
#[derive(Debug, Clone, Copy)]
struct Delivery {
    number: u64,
    count: u16,
    plan: Plan,
    /// Whether its end is acknowledged.
    has_ended: bool,
}

impl Delivery {
    fn is_final(&self) -> bool {
        self.plan.is_final(self.count)
    }

    /// Returns the next delivery's count once what is planned was said.
    fn next(&self) -> u16 {
        if self.plan == Plan::Snooze { self.count } else { self.count + 1 }
    }
}

/// All lives of a folder.
#[derive(Debug, Default)]
pub(super) struct History {
    jobs: BTreeMap<Place, Known>,
    /// The jobs whose sending was acknowledged, each with the checksum of its value.
    sent: BTreeMap<Place, u32>,
    /// The places of this life's deliveries.
    deliveries: BTreeMap<u64, Place>,
    lives: u16,
    has_ended: bool,
    counts: Counts,
}

/// What has happened, in jobs.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    sent: u64,
    pub(super) begun: u64,
    ended: u64,
    /// Begun, with an end that was not told before the kill.
    open: u64,
    /// More than one delivery of what has not failed.
    untold: u64,
    rejected: u64,
    out_of_tries: u64,
}

impl Counts {
    pub(super) fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.begun += other.begun;
        self.ended += other.ended;
        self.open += other.open;
        self.untold += other.untold;
        self.rejected += other.rejected;
        self.out_of_tries += other.out_of_tries;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sent, begun, ended, open, untold, rejected, out_of_tries } = self;
        write!(
            f,
            "{sent} jobs sent, {begun} deliveries told, {ended} of their ends acknowledged, "
        )?;
        write!(f, "{open} open at a kill, {untold} counted but not told, ")?;
        write!(f, "{rejected} letters of rejected jobs, {out_of_tries} of jobs out of tries")
    }
}

impl History {
    /// Adds what a life told.
    pub(super) fn live(&mut self, life: u64, text: &str) -> Result<(), String> {
        // A partial line tells nothing.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        for (at, line) in whole.lines().enumerate() {
            self.add(life, line).map_err(|what| {
                let rest: Vec<&str> = whole.lines().skip(at).take(20).collect();
                format!("{what}\nat {}", rest.join("\n"))
            })?;
        }
        self.end_life();
        Ok(())
    }

    /// Returns whether the last life has ended by itself, and not by a kill.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended
    }

    fn add(&mut self, life: u64, line: &str) -> Result<(), String> {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| words[at].parse::<i64>().map_err(|_| "no number".to_owned());
        let place = |at: usize| Ok::<_, String>((number(at)? as u32, number(at + 1)?));
        match (words[0], words.len()) {
            ("sent", 4) => {
                self.sent.insert(place(1)?, number(3)? as u32);
                self.counts.sent += 1;
                Ok(())
            }
            ("begun", 8) => {
                let plan = Plan::ALL.iter().find(|(_, name)| *name == words[7]);
                let (plan, _) = *plan.ok_or("no plan")?;
                let (value, born) = (number(5)? as u32, number(6)? as u16);
                let (count, number) = (number(4)? as u16, number(1)? as u64);
                let delivery = Delivery { number, count, plan, has_ended: false };
                self.begin(place(2)?, (value, born), delivery)
            }
            ("ended", 2) => self.end(number(1)? as u64),
            ("over", 1) => {
                self.has_ended = true;
                Ok(())
            }
            _ => Err(format!("life {life} says")),
        }
    }

    fn begin(
        &mut self,
        place: Place,
        (value, born): (u32, u16),
        delivery: Delivery,
    ) -> Result<(), String> {
        self.counts.begun += 1;
        self.deliveries.insert(delivery.number, place);
        // Each life from the one that sent it may have counted a delivery that it did not tell.
        let next = 1..=1 + self.lives.saturating_sub(born);
        let new = || Known { value, next, last: None, is_begun: false };
        let job = self.jobs.entry(place).or_insert_with(new);
        if job.value != value {
            return Err(format!("{place:?} is another job now"));
        }
        if let Some(last) = job.last {
            if last.is_final() && (last.has_ended || job.is_begun) {
                return Err(format!("{place:?} comes again after its end: {last:?}"));
            }
            if job.is_begun {
                job.next = last.next()..=last.next();
            }
        }
        let count = delivery.count;
        if !job.next.contains(&count) || count > LIMIT {
            return Err(format!("{place:?} has count {count}, and not one of {:?}", job.next));
        }
        self.counts.untold += u64::from(count - job.next.start());
        (job.last, job.is_begun) = (Some(delivery), true);
        Ok(())
    }

    fn end(&mut self, number: u64) -> Result<(), String> {
        self.counts.ended += 1;
        let place = self.deliveries.get(&number).ok_or("it ends what did not begin")?;
        let last = self.jobs.get_mut(place).and_then(|job| job.last.as_mut());
        // Another thread may have told of the next delivery already.
        if let Some(last) = last.filter(|last| last.number == number) {
            last.has_ended = true;
        }
        Ok(())
    }

    /// Finds out how each job may go on after a life.
    fn end_life(&mut self) {
        self.lives += 1;
        self.deliveries.clear();
        for job in self.jobs.values_mut() {
            let is_begun = std::mem::take(&mut job.is_begun);
            // The kill may have come between the count of a delivery and its telling.
            let untold = u16::from(!self.has_ended);
            let Some(last) = job.last.as_mut().filter(|_| is_begun) else {
                job.next = *job.next.start()..=job.next.end() + untold;
                continue;
            };
            // The last life ends in order, and with it all that it has begun.
            last.has_ended |= self.has_ended;
            let (next, lost) = (last.next(), last.count + 1);
            job.next = if last.has_ended {
                next..=next + untold
            } else if last.is_final() {
                lost..=lost
            } else {
                next..=next + untold
            };
            self.counts.open += u64::from(!last.has_ended);
        }
    }

    /// Checks what is left after the last life.
    pub(super) fn check(&self, reader: &ReadOnlyBroker) -> Result<Counts, String> {
        let group = reader.describe_share_group(JOBS).map_err(|error| error.to_string())?;
        if group.lag() != 0 {
            return Err(format!("jobs are left: {group:?}"));
        }
        let logs = read_jobs(reader)?;
        for (place, value) in &self.sent {
            if logs.get(place) != Some(value) {
                return Err(format!("the job at {place:?} was acknowledged and is not there"));
            }
        }
        let letters = read_letters(reader)?;
        let mut counts = self.counts;
        for (place, value) in &logs {
            let job = self.jobs.get(place);
            if job.is_some_and(|job| job.value != *value) {
                return Err(format!("{place:?} was another job when it was run"));
            }
            check_end(job, letters.get(place), self.lives, &mut counts)
                .map_err(|what| format!("{place:?} {what}: {job:?}, {:?}", letters.get(place)))?;
        }
        if let Some(place) =
            letters.keys().chain(self.jobs.keys()).find(|at| !logs.contains_key(at))
        {
            return Err(format!("there was no job at {place:?}"));
        }
        Ok(counts)
    }
}

/// Each job ends once: it is done, or there is one dead letter.
fn check_end(
    job: Option<&Known>,
    letter: Option<&Letter>,
    lives: u16,
    counts: &mut Counts,
) -> Result<(), &'static str> {
    let last = job.and_then(|job| job.last);
    let Some(letter) = letter else {
        let is_done = last.is_some_and(|last| matches!(last.plan, Plan::Accept | Plan::Cancel));
        return if is_done { Ok(()) } else { Err("is lost") };
    };
    let is_rejected = last.filter(|last| last.plan == Plan::Reject);
    if letter.message == REASON && is_rejected.is_some_and(|last| last.count == letter.count) {
        counts.rejected += 1;
        return Ok(());
    }
    if last.is_some_and(|last| last.has_ended && last.is_final() && last.plan != Plan::Release) {
        return Err("has a dead letter after its end");
    }
    // One delivery less than there would be next.
    let most = job.map_or(lives, |job| job.next.end() - 1);
    if letter.message == OUT_OF_TRIES && letter.count == LIMIT && most >= LIMIT {
        counts.out_of_tries += 1;
        return Ok(());
    }
    Err("has a dead letter without a cause")
}

/// A dead letter.
#[derive(Debug)]
struct Letter {
    message: String,
    count: u16,
}

fn read_jobs(reader: &ReadOnlyBroker) -> Result<BTreeMap<Place, u32>, String> {
    let mut jobs = BTreeMap::new();
    for (place, value, _) in read(reader, JOBS, PARTITIONS)? {
        jobs.insert(place, crc32fast::hash(&value));
    }
    Ok(jobs)
}

fn read_letters(reader: &ReadOnlyBroker) -> Result<BTreeMap<Place, Letter>, String> {
    let mut letters = BTreeMap::new();
    if reader.describe_topic(DEAD).is_err() {
        return Ok(letters);
    }
    for (_, _, headers) in read(reader, DEAD, 1)? {
        let header = |name: &str| headers.get(name).map_or("", String::as_str);
        let number = |name: &str| header(name).parse::<i64>().map_err(|error| error.to_string());
        let place = (number("__dlq.errors.partition")? as u32, number("__dlq.errors.offset")?);
        let count = number("__dlq.errors.delivery.count")? as u16;
        let letter = Letter { message: header("__dlq.errors.message").to_owned(), count };
        if let Some(before) = letters.insert(place, letter) {
            return Err(format!("{place:?} has two dead letters, and one of them is {before:?}"));
        }
    }
    Ok(letters)
}

type Read = (Place, Vec<u8>, BTreeMap<String, String>);

fn read(reader: &ReadOnlyBroker, topic: &str, partitions: u32) -> Result<Vec<Read>, String> {
    let text = |error: grouplog::Error| format!("reading fails: {error:?}");
    let mut consumer = reader.consumer().map_err(text)?;
    let all = (0..partitions).map(|number| TopicPartition::new(topic, number));
    consumer.assign(all).map_err(text)?;
    let mut read = Vec::new();
    loop {
        let records = consumer.poll(Duration::ZERO).map_err(text)?;
        if records.is_empty() {
            return Ok(read);
        }
        for record in &records {
            let string = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let headers = record.headers().map(|header| {
                (string(header.name_bytes()), header.value().map(string).unwrap_or_default())
            });
            let place = (record.partition(), record.offset());
            read.push((place, record.value().unwrap_or_default().to_vec(), headers.collect()));
        }
    }
}
