//! Text on a terminal: lines of words that end before the edge, cells of a table, quoted words.

/// `text` from `first` on, continued after `rest`; no line is longer than `width` unless one word is.
pub(super) fn wrap(text: &str, first: &str, rest: &str, width: usize) -> String {
    let begins = std::iter::once(first).chain(std::iter::repeat(rest));
    text.lines().zip(begins).map(|(line, begin)| wrap_line(line, begin, rest, width)).collect()
}

fn wrap_line(text: &str, first: &str, rest: &str, width: usize) -> String {
    let mut lines = vec![first.to_owned()];
    // One space each, so that what is laid out in columns keeps them.
    for (number, word) in text.split(' ').enumerate() {
        let last = lines.len() - 1;
        if number == 0 {
            lines[last].push_str(word);
        } else if lines[last].chars().count() + 1 + word.chars().count() <= width {
            lines[last] = format!("{} {word}", lines[last]);
        } else {
            lines.push(format!("{rest}{word}"));
        }
    }
    lines.join("\n") + "\n"
}

/// `text` with room after its last line up to `width`.
pub(super) fn cell(text: &str, width: usize) -> String {
    let last = text.rsplit('\n').next().unwrap_or_default();
    let room = width.saturating_sub(last.chars().count());
    format!("{text}{}", " ".repeat(room))
}

/// Words as a shell takes them.
pub(super) fn command_line(words: &[&str]) -> String {
    let quoted = words.iter().map(|word| {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@[]".contains(c);
        if !word.is_empty() && word.chars().all(is_plain) {
            (*word).to_owned()
        } else {
            format!("'{word}'")
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_goes_on_below_itself() {
        assert_eq!(wrap("one two three", "> ", "  ", 10), "> one two\n  three\n");
    }

    #[test]
    fn lines_stay_lines() {
        assert_eq!(wrap("one\ntwo", "> ", "  ", 10), "> one\n  two\n");
    }

    #[test]
    fn a_table_line_keeps_its_columns() {
        assert_eq!(wrap("a    b", "> ", "  ", 10), "> a    b\n");
    }

    #[test]
    fn a_cell_has_room_after_its_last_line() {
        assert_eq!(cell("long line\nab", 4), "long line\nab  ");
    }

    #[test]
    fn words_that_a_shell_would_change_are_quoted() {
        assert_eq!(command_line(&["netd", "-f", "{{.ID}} x"]), "netd -f '{{.ID}} x'");
    }
}
