//! Rust source as the rules see it: which bytes are code, which text, which comment. A small scanner
//! rather than a parser: xtask compiles first, and the rules ask only for words.

/// A source file taken apart. Every view has the lines and columns of the original.
pub(crate) struct Source {
    /// Code alone: text and comments are blank.
    pub(crate) code: String,
    /// Code and the content of string literals: comments are blank.
    pub(crate) code_and_text: String,
    /// Comments alone.
    pub(crate) comments: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Code,
    Text,
    Comment,
}

impl Source {
    /// Takes the source apart.
    pub(crate) fn scan(source: &str) -> Self {
        let bytes = source.as_bytes();
        let mut classes = vec![Class::Code; bytes.len()];
        let mut at = 0;
        while at < bytes.len() {
            let (class, end) = token(bytes, at);
            classes[at..end].fill(class);
            at = end;
        }
        let view = |shown: &[Class]| {
            let kept = bytes.iter().zip(&classes).map(|(&byte, class)| match byte {
                b'\n' => b'\n',
                byte if shown.contains(class) && byte.is_ascii() => byte,
                _ => b' ',
            });
            kept.map(char::from).collect()
        };
        Self {
            code: view(&[Class::Code]),
            code_and_text: view(&[Class::Code, Class::Text]),
            comments: view(&[Class::Comment]),
        }
    }
}

/// What starts at `at`, and where it ends.
fn token(bytes: &[u8], at: usize) -> (Class, usize) {
    let rest = &bytes[at..];
    if rest.starts_with(b"//") {
        return (Class::Comment, at + rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len()));
    }
    if rest.starts_with(b"/*") {
        return (Class::Comment, at + block_comment_len(rest));
    }
    let after_word = at > 0 && is_word(bytes[at - 1]);
    if let Some(len) = raw_string_len(rest).filter(|_| !after_word) {
        return (Class::Text, at + len);
    }
    match rest[0] {
        b'"' => (Class::Text, at + quoted_len(rest, b'"')),
        b'\'' if is_char_literal(rest) => (Class::Text, at + quoted_len(rest, b'\'')),
        _ => (Class::Code, at + 1),
    }
}

fn block_comment_len(rest: &[u8]) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    at
}

/// The length of `r"…"` or `r#"…"#`, with a `b` or `c` before it or not.
fn raw_string_len(rest: &[u8]) -> Option<usize> {
    let prefix = usize::from(matches!(rest[0], b'b' | b'c'));
    if rest.get(prefix) != Some(&b'r') {
        return None;
    }
    let hashes = rest[prefix + 1..].iter().take_while(|&&b| b == b'#').count();
    let open = prefix + 1 + hashes;
    if rest.get(open) != Some(&b'"') {
        return None;
    }
    let close = [&b"\""[..], &vec![b'#'; hashes]].concat();
    let body = &rest[open + 1..];
    let end = body.windows(close.len()).position(|window| window == close);
    Some(end.map_or(rest.len(), |end| open + 1 + end + close.len()))
}

fn quoted_len(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// A quote that opens a character, not a lifetime.
fn is_char_literal(rest: &[u8]) -> bool {
    match rest.get(1) {
        Some(b'\\') => true,
        Some(byte) if byte.is_ascii() => rest.get(2) == Some(&b'\''),
        Some(_) => true,
        None => false,
    }
}

/// A byte of a name.
pub(crate) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// The whole words of a line, with where they start.
pub(crate) fn words(line: &str) -> impl Iterator<Item = (usize, &str)> {
    let start_of = move |word: &str| word.as_ptr() as usize - line.as_ptr() as usize;
    let words = line.split(|c: char| !c.is_ascii() || !is_word(c as u8));
    words.filter(|word| !word.is_empty()).map(move |word| (start_of(word), word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_text_are_not_code() {
        let source = Source::scan("let a = \"tokio\"; // async\n/* x /* y */ aya */ let b;");
        assert_eq!(source.code, "let a =        ;         \n                    let b;");
        assert!(source.code_and_text.contains("\"tokio\""));
        assert!(!source.code_and_text.contains("async"));
    }

    #[test]
    fn raw_text_ends_at_its_own_fence() {
        let source = Source::scan("r#\"a \" unsafe\"# unsafe");
        assert_eq!(words(&source.code).count(), 1);
    }

    #[test]
    fn lifetime_opens_no_text_and_quote_character_does_not_either() {
        let code = Source::scan("fn f<'a>(x: &'a str) { x == '\"' && y == '\\'' } aya").code;
        assert!(code.contains("'a str") && code.ends_with("aya"));
        assert!(!code.contains('"'));
    }

    #[test]
    fn words_are_whole() {
        let found: Vec<_> = words("aya_ebpf::x + aya").collect();
        assert_eq!(found, [(0, "aya_ebpf"), (10, "x"), (14, "aya")]);
    }
}
