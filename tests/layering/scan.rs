//! Reading sources as text.

/// The text with comments, strings and character literals replaced by spaces.
pub(crate) fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let mut out = String::with_capacity(text.len());
    let mut i = 0;
    while i < chars.len() {
        let end = literal_end(&chars, i);
        if end == i {
            out.push(at(i));
            i += 1;
        } else {
            out.extend((i..end).map(|j| if at(j) == '\n' { '\n' } else { ' ' }));
            i = end;
        }
    }
    out
}

/// The end of the comment or literal that begins at `i`; `i` if none does.
fn literal_end(chars: &[char], i: usize) -> usize {
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let word = |c: char| c.is_alphanumeric() || c == '_';
    match (at(i), at(i + 1)) {
        ('/', '/') => (i..chars.len()).find(|&j| at(j) == '\n').unwrap_or(chars.len()),
        ('/', '*') => {
            (i + 2..chars.len()).find(|&j| (at(j), at(j + 1)) == ('*', '/')).map_or(i, |j| j + 2)
        }
        ('r', '"' | '#') if i == 0 || !word(at(i - 1)) || at(i - 1) == 'b' => {
            let hashes = (i + 1..chars.len()).take_while(|&j| at(j) == '#').count();
            if at(i + 1 + hashes) != '"' {
                return i; // A raw identifier.
            }
            let closes = |j: &usize| at(*j) == '"' && (1..=hashes).all(|k| at(j + k) == '#');
            let close = (i + 2 + hashes..chars.len()).find(closes);
            close.map_or(chars.len(), |j| j + 1 + hashes)
        }
        ('"', _) => {
            let mut j = i + 1;
            while j < chars.len() && at(j) != '"' {
                j += if at(j) == '\\' { 2 } else { 1 };
            }
            j + 1
        }
        // A character, not a lifetime.
        ('\'', '\\') => (i + 3..chars.len()).find(|&j| at(j) == '\'').map_or(i, |j| j + 1),
        ('\'', _) if at(i + 2) == '\'' => i + 3,
        _ => i,
    }
    .min(chars.len())
}

/// The words and single signs of blanked code; `::` is one sign.
pub(crate) fn tokens(code: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let mut rest = code.trim_start();
    while let Some(first) = rest.chars().next() {
        let word = |c: char| c.is_alphanumeric() || c == '_';
        let len = if word(first) {
            rest.find(|c| !word(c)).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        let (token, tail) = rest.split_at(len);
        out.push(token);
        rest = tail.trim_start();
    }
    out
}
