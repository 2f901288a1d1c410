//! Colours of what is typed: keywords, texts, numbers, comments, commands.
//!
//! Invariant: the coloured text is the typed text, byte for byte.

use nu_ansi_term::{Color, Style};
use reedline::{Highlighter, StyledText};

use super::{commands, words};
use crate::parser::lexer::{Token, TokenKind, tokens};

/// Colours SQL.
#[derive(Debug, Default)]
pub(super) struct SqlHighlighter;

impl Highlighter for SqlHighlighter {
    fn highlight(&self, line: &str, _cursor: usize) -> StyledText {
        let mut styled = StyledText::new();
        for (style, text) in colours(line) {
            styled.push((style, text.to_owned()));
        }
        styled
    }
}

fn colours(line: &str) -> Vec<(Style, &str)> {
    if commands::is_command(line) {
        return vec![(Style::new().fg(Color::Cyan), line)];
    }
    let (known, rest) = match tokens(line) {
        Ok(known) => (known, line.len()),
        Err(open) => (tokens(&line[..open.start]).unwrap_or_default(), open.start),
    };
    let mut parts = Vec::new();
    let mut at = 0;
    for token in known {
        between(&line[at..token.start], &mut parts);
        let text = &line[token.range()];
        parts.push((style_of(&token, text), text));
        at = token.end;
    }
    between(&line[at..rest], &mut parts);
    parts.push((Style::new().fg(Color::Green), &line[rest..]));
    parts.retain(|(_, text)| !text.is_empty());
    parts
}

/// What lies between tokens is blank or comment.
fn between<'a>(text: &'a str, parts: &mut Vec<(Style, &'a str)>) {
    parts.push((Style::new().fg(Color::DarkGray), text));
}

fn style_of(token: &Token, text: &str) -> Style {
    match token.kind {
        TokenKind::Word if words::is_keyword(text) => Style::new().bold().fg(Color::Blue),
        TokenKind::Text => Style::new().fg(Color::Green),
        TokenKind::Number => Style::new().fg(Color::Magenta),
        TokenKind::Parameter => Style::new().fg(Color::Yellow),
        TokenKind::Word | TokenKind::Quoted(_) | TokenKind::Symbol(_) => Style::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_stays_as_it_was_typed() {
        for line in ["SELECT 'a' -- b\nFROM \"t\" WHERE x > 1.5;", "select 'open", "/* open", r"\d t", "", "é 'ü' ☕"]
        {
            assert_eq!(colours(line).into_iter().map(|(_, text)| text).collect::<String>(), line);
        }
    }

    #[test]
    fn keywords_are_bold_and_names_are_plain() {
        let parts = colours("SELECT name");
        assert!(parts[0].0.is_bold && parts[0].1 == "SELECT");
        assert_eq!(parts[2], (Style::new(), "name"));
    }
}
