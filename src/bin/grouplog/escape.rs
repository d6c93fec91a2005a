//! Escapes in text on the command line: `\n`, `\t`, `\r`, `\0` and `\\`.

/// Replaces the escapes in a text.
pub(crate) fn unescape(text: &str) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        out.push(if c == '\\' { escape(chars.next())? } else { c });
    }
    Ok(out)
}

/// Returns the character for a backslash and this letter.
pub(crate) fn escape(letter: Option<char>) -> Result<char, String> {
    match letter {
        Some('n') => Ok('\n'),
        Some('t') => Ok('\t'),
        Some('r') => Ok('\r'),
        Some('0') => Ok('\0'),
        Some('\\') => Ok('\\'),
        Some(other) => Err(format!("\\{other} is not known: use \\n \\t \\r \\0 or \\\\")),
        None => Err("a single \\ at the end: write \\\\ for a backslash".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_stand_for_one_character_each() {
        assert_eq!(unescape(r"a\tb").as_deref(), Ok("a\tb"));
        assert_eq!(unescape(r"\n\r\0\\ \\t").as_deref(), Ok("\n\r\0\\ \\t"));
        assert_eq!(unescape("::").as_deref(), Ok("::"));
        for bad in [r"\q", r"a\"] {
            assert!(unescape(bad).is_err(), "{bad}");
        }
    }
}
