use std::fmt;

/// Why a topic or group name is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NameReason {
    /// The name is empty.
    Empty,
    /// The name is longer than 249 bytes (Kafka's `Topic.MAX_NAME_LENGTH`).
    TooLong,
    /// The name is `.` or `..`.
    Dots,
    /// The name of a topic contains a character outside `[a-zA-Z0-9._-]`.
    Character,
    /// The name of a group contains a control character, such as a line feed.
    Control,
    /// The name, or its part before the first dot, is a device name on Windows (`CON`, `NUL`, ...).
    Reserved,
    /// Another topic's name differs only in case, or only in `.` against `_`. Kafka rejects the
    /// latter. The former would share a folder on file systems that fold case.
    Collides,
}

impl fmt::Display for NameReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the name is empty",
            Self::TooLong => "the name is longer than 249 bytes",
            Self::Dots => "the name is '.' or '..'",
            Self::Character => "a topic name contains only ASCII letters, digits, '.', '_' and '-'",
            Self::Control => "the name contains a control character, such as a line feed",
            Self::Reserved => "the name is a reserved device name on Windows",
            Self::Collides => {
                "the name differs from an existing topic only in case or in '.' against '_'"
            }
        })
    }
}

const MAX_NAME_BYTES: usize = 249;

/// Checks a topic name by Kafka's rule (`org.apache.kafka.common.internals.Topic`). Also rejects
/// names that Windows reserves, so a folder can move between systems.
pub(crate) fn check_topic_name(name: &str) -> Result<(), NameReason> {
    if name.is_empty() {
        return Err(NameReason::Empty);
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(NameReason::TooLong);
    }
    if name == "." || name == ".." {
        return Err(NameReason::Dots);
    }
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) {
        return Err(NameReason::Character);
    }
    if is_reserved(name) {
        return Err(NameReason::Reserved);
    }
    Ok(())
}

/// Checks a group name: 1 to 249 bytes of any text without control characters. A group name never
/// becomes part of a path. Kafka accepts any text that is not empty. Control characters are rejected
/// here because they would break the lines of logs and tables.
pub(crate) fn check_group_name(name: &str) -> Result<(), NameReason> {
    if name.is_empty() {
        return Err(NameReason::Empty);
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(NameReason::TooLong);
    }
    if name.chars().any(char::is_control) {
        return Err(NameReason::Control);
    }
    Ok(())
}

/// Returns the key under which topic names must be unique. Names with equal keys would share a
/// folder or a Kafka metric name.
pub(crate) fn fold(name: &str) -> String {
    name.to_ascii_lowercase().replace('.', "_")
}

fn is_reserved(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or(name);
    let stem = stem.to_ascii_uppercase();
    if matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL") {
        return true;
    }
    let digit = stem.strip_prefix("COM").or_else(|| stem.strip_prefix("LPT"));
    matches!(digit, Some(d) if d.len() == 1 && matches!(d.as_bytes(), [b'1'..=b'9']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_names_follow_kafkas_rule() {
        let long = "x".repeat(249);
        for good in ["a", "A.b_c-9", "...", "orders", "com10", "console", &long] {
            assert_eq!(check_topic_name(good), Ok(()), "{good}");
        }
        let too_long = "x".repeat(250);
        for (bad, reason) in [
            ("", NameReason::Empty),
            (".", NameReason::Dots),
            ("..", NameReason::Dots),
            ("a/b", NameReason::Character),
            ("a\\b", NameReason::Character),
            ("a\0b", NameReason::Character),
            ("a\nb", NameReason::Character),
            ("a b", NameReason::Character),
            ("\u{fc}ber", NameReason::Character),
            ("con", NameReason::Reserved),
            ("NUL.txt", NameReason::Reserved),
            ("Com1", NameReason::Reserved),
            (too_long.as_str(), NameReason::TooLong),
        ] {
            assert_eq!(check_topic_name(bad), Err(reason), "{bad:?}");
        }
    }

    #[test]
    fn names_that_would_share_a_folder_fold_alike() {
        assert_eq!(fold("Orders.EU"), fold("orders_eu"));
        assert_ne!(fold("orders-eu"), fold("orders_eu"));
    }

    #[test]
    fn group_names_are_any_text_without_control_characters() {
        assert_eq!(check_group_name("billing / n\u{e4}chtlich"), Ok(()));
        assert_eq!(check_group_name(""), Err(NameReason::Empty));
        assert_eq!(check_group_name("../x"), Ok(()));
        for control in ["a\tb", "a\nb", "\0", "a\u{7f}", "\u{85}"] {
            assert_eq!(check_group_name(control), Err(NameReason::Control), "{control:?}");
        }
        assert_eq!(check_group_name(&"g".repeat(250)), Err(NameReason::TooLong));
    }
}
