use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use regex_lite::Regex;

use super::topics::Topics;
use crate::error::{Error, Result};

/// The subscription of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Subscription {
    /// Topics by name, whether they exist or not.
    Topics(BTreeSet<Arc<str>>),
    /// All topics whose names match, including those created later.
    Pattern(TopicPattern),
}

impl Subscription {
    /// Returns the topic names it resolves to now.
    pub(super) fn resolve(&self, topics: &dyn Topics) -> BTreeSet<Arc<str>> {
        match self {
            Self::Topics(names) => names.clone(),
            Self::Pattern(pattern) => {
                topics.names().into_iter().filter(|name| pattern.matches(name)).collect()
            }
        }
    }
}

/// A regular expression that a topic's whole name must match, as in Kafka.
///
/// The syntax is that of the crate `regex-lite`, without look-around and back references, so that
/// matching takes linear time. Topic names are ASCII, and so are the character classes.
#[derive(Clone)]
pub(crate) struct TopicPattern {
    text: Arc<str>,
    regex: Regex,
}

impl TopicPattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// `InvalidPattern` if the pattern is not a valid regular expression.
    pub(crate) fn new(pattern: &str) -> Result<Self> {
        let invalid = |error: regex_lite::Error| Error::InvalidPattern {
            pattern: pattern.to_owned(),
            reason: error.to_string(),
        };
        // Compiled alone first: `a)|(b` is a valid pattern only between the parentheses added here.
        Regex::new(pattern).map_err(invalid)?;
        let regex = Regex::new(&format!("^(?:{pattern})$")).map_err(invalid)?;
        Ok(Self { text: pattern.into(), regex })
    }

    /// Returns whether the whole name matches.
    pub(crate) fn matches(&self, name: &str) -> bool {
        self.regex.is_match(name)
    }
}

impl PartialEq for TopicPattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for TopicPattern {}

impl fmt::Debug for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/", self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::topics::{TopicInfo, TopicsView};
    use crate::types::TopicId;

    #[test]
    fn a_pattern_stands_for_the_topics_whose_whole_names_match() {
        let info = TopicInfo { id: TopicId::from_bytes([1; 16]), partitions: 1 };
        let topics: TopicsView =
            ["a", "ab", "b1", "xb1", "ab.c"].map(|name| (Arc::from(name), info)).into();
        let names = |pattern: &str| {
            let subscription = Subscription::Pattern(TopicPattern::new(pattern).unwrap());
            let names: Vec<Arc<str>> = subscription.resolve(&topics).into_iter().collect();
            names.join(" ")
        };
        assert_eq!(names("a|ab"), "a ab");
        assert_eq!(names("b\\d"), "b1");
        assert_eq!(names("a.*"), "a ab ab.c");
        assert_eq!(names("a\\w*"), "a ab");
        assert_eq!(names("z"), "");
    }

    #[test]
    fn an_invalid_pattern_is_refused_by_name() {
        for text in ["(", "a)|(b", "[", "*", "(?x)a # b", "\\", "(?P<n", "a{1001}{1001}{1001}"] {
            match TopicPattern::new(text) {
                Err(Error::InvalidPattern { pattern, reason }) => {
                    assert_eq!(pattern, text);
                    assert!(!reason.is_empty());
                }
                other => panic!("{text}: {other:?}"),
            }
        }
    }
}
