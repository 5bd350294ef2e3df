//! Prose for a terminal.

const COLUMNS: usize = 100;

/// `text` beside `head`, each of its lines folded between words where it is wider than [`COLUMNS`]. A word that is wider than that stays whole.
pub(crate) fn beside(head: &str, text: &str) -> String {
    let indent = head.chars().count();
    let mut folded = head.to_owned();
    for (i, line) in text.lines().enumerate() {
        if i > 0 {
            folded += &" ".repeat(indent);
        }
        let mut column = indent;
        for word in line.split_whitespace() {
            let width = word.chars().count();
            if column > indent && column + 1 + width > COLUMNS {
                folded += &format!("\n{}", " ".repeat(indent));
                column = indent;
            } else if column > indent {
                folded.push(' ');
                column += 1;
            }
            folded += word;
            column += width;
        }
        folded.push('\n');
    }
    folded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_wider_and_no_word_is_lost() {
        let text = "a line of many words ".repeat(20) + "\nand a short one";
        let folded = beside("problem      ", &text);
        assert!(folded.lines().all(|line| line.chars().count() <= COLUMNS), "{folded}");
        assert!(folded.lines().skip(1).all(|line| line.starts_with("             ")));
        assert!(folded.lines().any(|line| line.trim() == "and a short one"));
        let words =
            |text: &str| -> Vec<String> { text.split_whitespace().map(Into::into).collect() };
        assert_eq!(words(&folded)[1..], words(&text)[..]);
        let word = "x".repeat(120);
        assert_eq!(beside("> ", &format!("a {word}")), format!("> a\n  {word}\n"));
    }
}
