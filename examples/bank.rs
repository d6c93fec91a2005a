//! Event sourcing without locks. Each account is a partition, and its events are deposits and withdrawals.
//!
//! A transfer decides on a balance, and appends a withdrawal and a deposit in one transaction, only if the account
//! ends where the balance was read (`expect_end`). If another thread was faster, it reads what is new and decides
//! again. So no account falls below zero, and no money is made or lost.
//!
//! ```text
//! cargo run --release --example bank             # in a temporary folder
//! cargo run --release --example bank -- FOLDER   # in this folder; run it again to go on
//! ```
#![allow(clippy::print_stdout, reason = "it shows what it found")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use grouplog::time::{Clock as _, Random as _, SeededRandom, SystemClock};
use grouplog::{
    Acks, Broker, Consumer, ConsumerConfig, Error, Producer, ProducerConfig, Record, TopicConfig,
    TopicPartition,
};

const ACCOUNTS: u32 = 16;
const CENTS: i64 = 1_000;
const THREADS: u64 = 8;
const TRANSFERS: u64 = 2_000;

fn main() -> grouplog::Result<()> {
    if let Some(folder) = std::env::args_os().nth(1) {
        return run(&PathBuf::from(folder));
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    run(&folder.path().join("data"))
}

fn run(folder: &Path) -> grouplog::Result<()> {
    let broker = Broker::open(folder)?;
    broker.ensure_topic("accounts", TopicConfig::new().partitions(ACCOUNTS))?;
    let producer = broker.producer()?;
    for account in 0..ACCOUNTS {
        let opening = CENTS.to_string();
        // The first event, or none: an account is opened once.
        match producer.send_at(0, Record::to("accounts").partition(account).value(&opening)) {
            Ok(_) | Err(Error::UnexpectedEnd { .. }) => {}
            Err(error) => return Err(error),
        }
    }

    let clock = SystemClock::new();
    let done = std::thread::scope(|scope| {
        let teller = || scope.spawn(|| transfer_often(&broker));
        let tellers: Vec<_> = (0..THREADS).map(|_| teller()).collect();
        let done = tellers.into_iter().map(|teller| teller.join().expect("it does not panic"));
        done.collect::<grouplog::Result<Vec<Done>>>()
    })?;
    producer.flush()?;
    let seconds = clock.monotonic().as_secs_f64();
    let sum = |of: fn(&Done) -> u64| done.iter().map(of).sum::<u64>();
    let (transfers, refused) = (sum(|done| done.transfers), sum(|done| done.refused));
    println!("{transfers} transfers, {:.0} a second", transfers as f64 / seconds);
    println!("{refused} more were refused; {} had to decide again", sum(|done| done.again));

    let mut bank = Bank::open(&broker)?;
    bank.read()?; // checks each balance after each event
    let sum: i64 = bank.accounts.iter().map(|account| account.cents).sum();
    assert_eq!(sum, CENTS * i64::from(ACCOUNTS), "no money is made or lost");
    println!("{ACCOUNTS} accounts have {sum} cents, as at the beginning");
    broker.close()
}

/// What one thread did.
#[derive(Default)]
struct Done {
    transfers: u64,
    refused: u64,
    again: u64,
}

fn transfer_often(broker: &Broker) -> grouplog::Result<Done> {
    let producer = broker.producer_with(ProducerConfig::new().acks(Acks::Written))?;
    let (mut bank, mut done) = (Bank::open(broker)?, Done::default());
    let random = SeededRandom::from_os();
    let below = |bound: u32| (random.next_u64() % u64::from(bound)) as u32;
    while done.transfers < TRANSFERS {
        let from = below(ACCOUNTS);
        let to = (from + 1 + below(ACCOUNTS - 1)) % ACCOUNTS;
        transfer(&producer, &mut bank, [from, to], 1 + i64::from(below(300)), &mut done)?;
    }
    Ok(done)
}

/// Moves money, if the account has it.
fn transfer(
    producer: &Producer,
    bank: &mut Bank,
    [from, to]: [u32; 2],
    cents: i64,
    done: &mut Done,
) -> grouplog::Result<()> {
    loop {
        bank.read()?;
        let account = &bank.accounts[from as usize];
        if account.cents < cents {
            done.refused += 1;
            return Ok(());
        }
        let mut transfer = producer.begin()?;
        transfer.expect_end(&TopicPartition::new("accounts", from), account.end)?;
        for (account, cents) in [(from, -cents), (to, cents)] {
            let event = cents.to_string();
            transfer.send(Record::to("accounts").partition(account).value(&event))?;
        }
        match transfer.commit() {
            Ok(_) => {
                done.transfers += 1;
                return Ok(());
            }
            Err(Error::UnexpectedEnd { .. }) => done.again += 1, // another thread was faster
            Err(error) => return Err(error),
        }
    }
}

/// The balances, as far as the events were read.
struct Bank {
    events: Consumer,
    accounts: Vec<Account>,
}

#[derive(Clone, Default)]
struct Account {
    cents: i64,
    end: i64,
}

impl Bank {
    fn open(broker: &Broker) -> grouplog::Result<Self> {
        let mut events = broker.consumer_with(ConsumerConfig::new())?;
        events.assign((0..ACCOUNTS).map(|account| TopicPartition::new("accounts", account)))?;
        Ok(Self { events, accounts: vec![Account::default(); ACCOUNTS as usize] })
    }

    /// Applies the events that are new.
    fn read(&mut self) -> grouplog::Result<()> {
        loop {
            let events = self.events.poll(Duration::ZERO)?;
            if events.is_empty() {
                return Ok(());
            }
            for event in &events {
                let text = std::str::from_utf8(event.value().unwrap_or_default());
                let cents: i64 = text.ok().and_then(|text| text.parse().ok()).expect("a number");
                let account = &mut self.accounts[event.partition() as usize];
                account.cents += cents;
                account.end = event.offset() + 1;
                assert!(account.cents >= 0, "no account is below zero");
            }
        }
    }
}
