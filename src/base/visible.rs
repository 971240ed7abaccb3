//! Text of others, made safe to show: what would move the cursor, change colours, or turn the order of letters round is
//! written out.

use std::borrow::Cow;

/// The text with every control character but line breaks and tabs as `\u{1b}` and the like, and so every mark that is
/// not seen itself and changes how its neighbours are read.
pub fn visible(text: &str) -> Cow<'_, str> {
    written_out(text, |c| is_unseen(c) && !matches!(c, '\n' | '\t'))
}

/// As [`visible`], in one line: line breaks and tabs are written out too.
pub fn visible_line(text: &str) -> Cow<'_, str> {
    written_out(text, is_unseen)
}

fn written_out(text: &str, is_bad: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_bad) {
        return text.into();
    }
    let write = |out: &mut String, c: char| match c {
        '\n' => out.push_str("\\n"),
        '\t' => out.push_str("\\t"),
        c => out.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
    };
    let mut out = String::with_capacity(text.len() + 16);
    text.chars().for_each(|c| if is_bad(c) { write(&mut out, c) } else { out.push(c) });
    out.into()
}

/// Whether a character is a control character, or an invisible mark of direction or width.
pub fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_a_terminal_but_letters_and_line_breaks() {
        assert!(matches!(visible("plain, ä 漢\n\tx"), Cow::Borrowed(_)));
        assert_eq!(visible("a\u{1b}[2Jb\rc"), "a\\u{1b}[2Jb\\u{d}c");
        assert_eq!(visible("\u{202e}gnp.x\u{9b}1m"), "\\u{202e}gnp.x\\u{9b}1m");
        assert_eq!(visible_line("a\n  runs no commands\t"), "a\\n  runs no commands\\t");
    }
}
