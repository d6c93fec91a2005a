//! Exactly once over crashes. A program that is killed again and again gives the same result as one that runs
//! through.
//!
//! The program imports orders from a source outside, and two members of a group turn each order into an invoice.
//! The folder keeps how far the import is with the records themselves (`send_sequenced`). Each transaction has
//! some invoices and the offsets of their orders, so a crash leaves both or neither.
//!
//! It starts itself as a child, kills it with SIGKILL at a random moment, and starts the next one, until a child
//! comes to the end.
//!
//! ```text
//! cargo run --release --example exactly_once             # in a temporary folder
//! cargo run --release --example exactly_once -- FOLDER   # in this folder, which it keeps
//! ```
#![allow(clippy::print_stdout, reason = "it shows what it found")]

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use grouplog::time::{Random as _, SeededRandom};
use grouplog::{
    Broker, ConsumerConfig, Error, ProducerConfig, Record, TopicConfig, TopicPartition,
};

const ORDERS: i64 = 20_000;
const CUSTOMERS: i64 = 37;
const PARTITIONS: u32 = 4;
const GROUP: &str = "billing";

/// Invoices by customer, in order.
type Invoices = BTreeMap<String, Vec<String>>;

fn main() -> grouplog::Result<()> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    match (arguments.next(), arguments.next()) {
        // A line after each transaction shows the parent that the work goes on.
        (Some(folder), Some(_work)) => work(&Broker::open(folder)?, || println!()),
        (Some(folder), None) => run(&folder),
        (None, _) => {
            let folder = tempfile::tempdir().expect("a temporary folder");
            run(&folder.path().join("data"))
        }
    }
}

fn run(folder: &Path) -> grouplog::Result<()> {
    let kills = kill_until_done(folder).expect("the child can be started");
    let found = invoices(&Broker::open(folder)?)?;

    let memory = Broker::open_in_memory()?;
    work(&memory, || ())?;
    assert_eq!(found, invoices(&memory)?, "the same as without a crash");

    let count: usize = found.values().map(Vec::len).sum();
    assert_eq!(count as i64, ORDERS, "each order has one invoice");
    println!("{kills} kills, {ORDERS} orders, {count} invoices for {CUSTOMERS} customers");
    Ok(())
}

/// Starts the work in a child until one comes to the end. Returns how many were killed.
fn kill_until_done(folder: &Path) -> std::io::Result<u32> {
    let random = SeededRandom::from_os();
    let mut kills = 0;
    loop {
        let mut child = Command::new(std::env::current_exe()?)
            .args([folder.as_os_str(), "work".as_ref()])
            .stdout(Stdio::piped())
            .spawn()?;
        // Waits for a random number of transactions, or for the end of the child.
        let mut lines = vec![0; 1 + (random.next_u64() % 120) as usize];
        let ended = child.stdout.take().expect("a pipe").read_exact(&mut lines).is_err();
        if ended {
            assert!(child.wait()?.success(), "the child fails");
            return Ok(kills);
        }
        child.kill()?;
        child.wait()?;
        kills += 1;
    }
}

/// The work of one life, which goes on where the last one was killed. Calls `done` after each transaction.
fn work(broker: &Broker, done: impl Fn() + Sync) -> grouplog::Result<()> {
    broker.ensure_topic("orders", TopicConfig::new().partitions(PARTITIONS))?;
    broker.ensure_topic("invoices", TopicConfig::new().partitions(PARTITIONS))?;
    import(broker, &done)?;
    std::thread::scope(|scope| {
        let members = [(), ()].map(|()| scope.spawn(|| invoice(broker, &done)));
        members.into_iter().try_for_each(|member| member.join().expect("a member does not panic"))
    })
}

/// Imports the orders. Their numbers are the sequences, so the folder knows which is the next.
fn import(broker: &Broker, done: &impl Fn()) -> grouplog::Result<()> {
    let importer = broker.producer_with(ProducerConfig::new().transactional_id("importer"))?;
    let first = importer.last_sequence()?.map_or(0, |last| last + 1);
    for begin in (first..ORDERS).step_by(100) {
        let mut transaction = importer.begin()?;
        for number in begin..ORDERS.min(begin + 100) {
            let (customer, order) =
                (format!("customer {}", number % CUSTOMERS), number.to_string());
            let order = Record::to("orders").key(&customer).value(&order);
            transaction.send_sequenced(number, order)?;
        }
        transaction.commit()?.wait()?;
        done();
    }
    Ok(())
}

/// Turns orders into invoices until the group has no more.
fn invoice(broker: &Broker, done: &impl Fn()) -> grouplog::Result<()> {
    let producer = broker.producer()?;
    let config = ConsumerConfig::new().group(GROUP).enable_auto_commit(false).max_poll_records(40);
    let mut consumer = broker.consumer_with(config)?;
    consumer.subscribe(["orders"])?;
    loop {
        let orders = consumer.poll(Duration::from_millis(10))?;
        if orders.is_empty() && broker.describe_group(GROUP)?.lag() == 0 {
            return Ok(());
        }
        let mut transaction = producer.begin()?;
        for order in &orders {
            let number = String::from_utf8_lossy(order.value().unwrap_or_default());
            let invoice = format!("invoice for order {number}");
            let customer = order.key().unwrap_or_default();
            transaction.send(Record::to("invoices").key(customer).value(&invoice))?;
        }
        transaction.commit_offsets(&mut consumer)?;
        match transaction.commit() {
            Ok(committed) => committed.wait()?,
            // The other member has these orders now. Nothing of this transaction took effect.
            Err(Error::Fenced { .. }) => continue,
            Err(error) => return Err(error),
        }
        done();
    }
}

/// Reads all invoices.
fn invoices(broker: &Broker) -> grouplog::Result<Invoices> {
    let mut consumer = broker.consumer_with(ConsumerConfig::new())?;
    consumer.assign((0..PARTITIONS).map(|number| TopicPartition::new("invoices", number)))?;
    let mut invoices = Invoices::new();
    loop {
        let records = consumer.poll(Duration::ZERO)?;
        if records.is_empty() {
            return Ok(invoices);
        }
        for record in &records {
            let text =
                |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or(b"")).into_owned();
            invoices.entry(text(record.key())).or_default().push(text(record.value()));
        }
    }
}
