//! Lines that are too long for a terminal.

const WIDTH: usize = 100;
/// What hangs under a line that was folded.
const HANG: usize = 4;

/// `text` behind `lead`, as lines of at most 100 columns, with a line end. It is broken between words, and a
/// word that is too long for a line anywhere; further lines are indented four columns deeper than `lead`.
pub(super) fn fold(lead: &str, text: &str) -> String {
    let indent = lead.chars().take_while(|c| *c == ' ').count() + HANG;
    let mut lines = vec![lead.trim_end().to_owned()];
    let mut is_fresh = lead.trim_end().is_empty();
    if is_fresh {
        lines = vec![lead.to_owned()];
    }
    for word in text.split_whitespace() {
        let mut word = word;
        loop {
            let line = lines.last_mut().expect("there is always one");
            let used = line.chars().count() + usize::from(!is_fresh);
            let room = WIDTH.saturating_sub(used);
            let len = word.chars().count();
            if len <= room {
                if !is_fresh {
                    line.push(' ');
                }
                line.push_str(word);
                is_fresh = false;
                break;
            }
            if is_fresh {
                let at = word.char_indices().nth(room).map_or(word.len(), |(at, _)| at);
                line.push_str(&word[..at]);
                word = &word[at..];
            }
            lines.push(" ".repeat(indent));
            is_fresh = true;
        }
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_between_words_and_long_words_anywhere() {
        assert_eq!(fold("  - ", "one"), "  - one\n");
        assert_eq!(fold("", "one two"), "one two\n");
        for text in ["word ".repeat(60), "x".repeat(350), format!("a {} b", "y".repeat(100))] {
            let folded = fold("    + ", &text);
            assert!(folded.lines().all(|line| line.chars().count() <= WIDTH), "{folded}");
            assert!(folded.lines().skip(1).all(|line| line.starts_with("        ")), "{folded}");
            let letters =
                |text: &str| text.chars().filter(|c| c.is_alphabetic()).collect::<String>();
            assert_eq!(letters(&folded), letters(&text));
        }
    }
}
