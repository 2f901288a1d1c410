//! Java's pattern syntax in the spelling of Rust's engines.
//!
//! Invariant: what is not named here is passed on unchanged.

/// The translated pattern, and whether it needs backtracking.
pub(super) fn translate(pattern: &str) -> (String, bool) {
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut backtracks = ["(?=", "(?!", "(?<=", "(?<!", "(?>", "\\k<"].iter().any(|mark| pattern.contains(mark));
    let mut depth = 0usize;
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('Q') => quote(&mut chars, &mut out),
                Some('u') => {
                    let digits: String = chars.by_ref().take(4).collect();
                    out.push_str(&format!("\\x{{{digits}}}"));
                }
                Some(digit @ '1'..='9') if depth == 0 => {
                    backtracks = true;
                    out.push('\\');
                    out.push(digit);
                }
                Some(class) => escape(class, depth > 0, &mut out),
                None => out.push('\\'),
            },
            '[' => {
                depth += 1;
                out.push('[');
                if chars.next_if_eq(&'^').is_some() {
                    out.push('^');
                }
                if chars.next_if_eq(&']').is_some() {
                    out.push_str("\\]");
                }
            }
            ']' if depth > 0 => {
                depth -= 1;
                out.push(']');
            }
            '+' | '*' | '?' | '}' if depth == 0 => {
                out.push(c);
                backtracks |= chars.peek() == Some(&'+');
            }
            c => out.push(c),
        }
    }
    (out, backtracks)
}

fn quote(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, out: &mut String) {
    let rest: String = chars.clone().collect();
    let literal = rest.split("\\E").next().unwrap_or("");
    out.push_str(&regex::escape(literal));
    for _ in 0..literal.chars().count() + 2 {
        chars.next();
    }
}

fn escape(class: char, inside: bool, out: &mut String) {
    let text = match (class, inside) {
        ('d', true) => "0-9",
        ('w', true) => "a-zA-Z0-9_",
        ('s', true) => " \\t\\n\\x0B\\f\\r",
        ('d', false) => "[0-9]",
        ('w', false) => "[a-zA-Z0-9_]",
        ('s', false) => "[ \\t\\n\\x0B\\f\\r]",
        ('D', _) => "[^0-9]",
        ('W', _) => "[^a-zA-Z0-9_]",
        ('S', _) => "[^ \\t\\n\\x0B\\f\\r]",
        ('Z', _) => "\\z",
        ('e', _) => "\\x1B",
        _ => "",
    };
    if !text.is_empty() {
        out.push_str(text);
        return;
    }
    if matches!(class, 'h' | 'H' | 'N' | 'R' | 'X' | 'K' | 'v' | 'V') {
        out.push(class);
        return;
    }
    let needless = !class.is_ascii_alphanumeric() && !regex_syntax_special(class);
    if !needless {
        out.push('\\');
    }
    out.push(class);
}

fn regex_syntax_special(c: char) -> bool {
    matches!(
        c,
        '\\' | '.'
            | '+'
            | '*'
            | '?'
            | '('
            | ')'
            | '|'
            | '['
            | ']'
            | '{'
            | '}'
            | '^'
            | '$'
            | '#'
            | '&'
            | '-'
            | '~'
            | '/'
    )
}
