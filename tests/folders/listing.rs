//! The contents of a folder as text: topics with their settings, records, committed offsets, names of producers, share
//! groups.

use std::fmt::Write as _;
use std::time::Duration;

use grouplog::{
    Broker, Consumer, ConsumerConfig, GroupSummary, OwnerSummary, ReadOnlyBroker, Result,
    ShareGroupSummary, TopicDescription, TopicPartition,
};

/// The reading calls of both kinds of brokers.
pub(crate) trait Look {
    fn topics(&self) -> Vec<String>;
    fn topic(&self, name: &str) -> Result<TopicDescription>;
    fn groups(&self) -> Vec<String>;
    fn group(&self, name: &str) -> Result<GroupSummary>;
    fn owners(&self) -> Vec<OwnerSummary>;
    fn share_groups(&self) -> Vec<ShareGroupSummary>;
    fn reader(&self) -> Result<Consumer>;
}

impl Look for Broker {
    fn topics(&self) -> Vec<String> {
        self.list_topics()
    }
    fn topic(&self, name: &str) -> Result<TopicDescription> {
        self.describe_topic(name)
    }
    fn groups(&self) -> Vec<String> {
        self.list_groups()
    }
    fn group(&self, name: &str) -> Result<GroupSummary> {
        self.describe_group(name)
    }
    fn owners(&self) -> Vec<OwnerSummary> {
        self.admin().list_owners().unwrap()
    }
    fn share_groups(&self) -> Vec<ShareGroupSummary> {
        let admin = self.admin();
        let names = admin.list_share_groups();
        names.iter().map(|name| admin.describe_share_group(name).unwrap()).collect()
    }
    fn reader(&self) -> Result<Consumer> {
        self.consumer_with(ConsumerConfig::new())
    }
}

impl Look for ReadOnlyBroker {
    fn topics(&self) -> Vec<String> {
        self.list_topics()
    }
    fn topic(&self, name: &str) -> Result<TopicDescription> {
        self.describe_topic(name)
    }
    fn groups(&self) -> Vec<String> {
        self.list_groups()
    }
    fn group(&self, name: &str) -> Result<GroupSummary> {
        self.describe_group(name)
    }
    fn owners(&self) -> Vec<OwnerSummary> {
        self.list_owners()
    }
    fn share_groups(&self) -> Vec<ShareGroupSummary> {
        let names = self.list_share_groups();
        names.iter().map(|name| self.describe_share_group(name).unwrap()).collect()
    }
    fn reader(&self) -> Result<Consumer> {
        self.consumer()
    }
}

/// Lists the contents of the folder, an item a line.
pub(crate) fn of(broker: &impl Look) -> String {
    let mut out = String::new();
    for name in broker.topics() {
        let topic = broker.topic(&name).unwrap();
        writeln!(out, "topic {name} {}", topic.id).unwrap();
        for (key, value) in &topic.config {
            writeln!(out, "config {name} {key}={value}").unwrap();
        }
        for partition in &topic.partitions {
            let (start, end) = (partition.start_offset, partition.end_offset);
            let epoch = partition.leader_epoch;
            writeln!(out, "partition {} {start}..{end} epoch {epoch:?}", partition.partition)
                .unwrap();
            records(broker, &partition.partition, &mut out);
        }
    }
    for name in broker.groups() {
        let offsets = broker.group(&name).unwrap().offsets;
        for offset in offsets.iter().filter(|offset| offset.committed.is_some()) {
            let at = offset.commit_timestamp.map(grouplog::Timestamp::as_millis);
            writeln!(
                out,
                "offset {name} {} {:?} epoch {:?} at {at:?} {:?}",
                offset.partition, offset.committed, offset.leader_epoch, offset.metadata
            )
            .unwrap();
        }
    }
    for owner in broker.owners() {
        let (name, epoch, last) = (owner.transactional_id, owner.epoch, owner.last_sequence);
        writeln!(out, "owner {name:?} epoch {epoch} sequence {last:?}").unwrap();
    }
    for group in broker.share_groups() {
        share_group(&group, &mut out);
    }
    out
}

/// What has become due is a matter of the clock, and not listed.
fn share_group(group: &ShareGroupSummary, out: &mut String) {
    let name = &group.name;
    writeln!(out, "share {name} paused {}", group.paused).unwrap();
    for (key, value) in &group.config {
        writeln!(out, "share {name} {key}={value}").unwrap();
    }
    for part in &group.partitions {
        let (of, start, end) = (&part.partition, part.start_offset, part.end_offset);
        let (lag, under_way) = (part.lag, part.under_way);
        writeln!(out, "share {name} {of} {start}..{end} lag {lag} under way {under_way}").unwrap();
        for held in &part.records {
            let (first, last, count) = (held.first_offset, held.last_offset, held.delivery_count);
            writeln!(out, "share {name} {of} held {first}..={last} delivery {count}").unwrap();
        }
    }
}

fn records(broker: &impl Look, partition: &TopicPartition, out: &mut String) {
    let mut reader = broker.reader().unwrap();
    reader.assign([partition.clone()]).unwrap();
    reader.seek_to_beginning(partition).unwrap();
    loop {
        let records = reader.poll(Duration::ZERO).unwrap();
        if records.is_empty() {
            return;
        }
        for record in &records {
            let text = |bytes: Option<&[u8]>| bytes.map(|b| String::from_utf8(b.to_vec()).unwrap());
            let (key, value) = (text(record.key()), text(record.value()));
            let (offset, at) = (record.offset(), record.timestamp().as_millis());
            write!(out, "record {partition} {offset} at {at} {key:?} {value:?}").unwrap();
            for header in record.headers() {
                write!(out, " {:?}={:?}", header.name().unwrap(), text(header.value())).unwrap();
            }
            out.push('\n');
        }
    }
}

/// Returns the listing without settings that the other one does not have: later builds add settings.
pub(crate) fn known_to(listing: &str, other: &str) -> String {
    let settings = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| line.starts_with("config "));
        lines.map(|line| line.split_once('=').unwrap().0.to_owned()).collect()
    };
    let known = settings(other);
    let is_known = |line: &&str| {
        !line.starts_with("config ")
            || known.iter().any(|name| line.split_once('=').is_some_and(|(key, _)| key == name))
    };
    listing.lines().filter(is_known).fold(String::new(), |out, line| out + line + "\n")
}
