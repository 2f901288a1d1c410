//! Names of files with `*`, `?`, `[..]` and `**`, as shells have them.
//!
//! Invariant: `*` and `?` stay within a folder's name; `**` crosses folders.

use object_store::path::Path;

/// Which files of a folder are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
}

/// Characters that make a name a pattern.
pub const SPECIAL: [char; 3] = ['*', '?', '['];

impl Pattern {
    /// A pattern over paths of a store.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into() }
    }

    /// The one path it means, if it has no special characters.
    pub fn exact(&self) -> Option<Path> {
        if self.text.contains(SPECIAL) { None } else { Path::parse(&self.text).ok() }
    }

    /// Whether it means a path.
    pub fn matches(&self, path: &Path) -> bool {
        let (pattern, path): (Vec<char>, Vec<char>) = (self.text.chars().collect(), path.as_ref().chars().collect());
        is_match(&pattern, &path)
    }
}

fn is_match(pattern: &[char], text: &[char]) -> bool {
    match pattern {
        [] => text.is_empty(),
        ['*', '*', '/', rest @ ..] => {
            is_match(rest, text) || text.iter().enumerate().any(|(at, c)| *c == '/' && is_match(rest, &text[at + 1..]))
        }
        ['*', '*', rest @ ..] => (0..=text.len()).any(|at| is_match(rest, &text[at..])),
        ['*', rest @ ..] => {
            let name = text.iter().take_while(|c| **c != '/').count();
            (0..=name).any(|at| is_match(rest, &text[at..]))
        }
        ['?', rest @ ..] => text.first().is_some_and(|c| *c != '/') && is_match(rest, &text[1..]),
        ['[', rest @ ..] => match (rest.iter().position(|c| *c == ']'), text.first()) {
            (Some(end), Some(c)) => is_one_of(&rest[..end], *c) && is_match(&rest[end + 1..], &text[1..]),
            _ => false,
        },
        [c, rest @ ..] => text.first() == Some(c) && is_match(rest, &text[1..]),
    }
}

/// `abc`, `a-z`, `!a-z`.
fn is_one_of(set: &[char], c: char) -> bool {
    let (negated, mut set) = match set {
        ['!', rest @ ..] => (true, rest),
        _ => (false, set),
    };
    let mut found = false;
    while let Some((first, rest)) = set.split_first() {
        if let ['-', last, after @ ..] = rest {
            found |= (*first..=*last).contains(&c);
            set = after;
        } else {
            found |= *first == c;
            set = rest;
        }
    }
    found != negated
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_a_shell() {
        let is_match = |pattern: &str, path: &str| Pattern::new(pattern).matches(&Path::parse(path).unwrap());
        for (pattern, path, expected) in [
            ("a/*.json", "a/x.json", true),
            ("a/*.json", "a/b/x.json", false),
            ("a/**/x.json", "a/x.json", true),
            ("a/**/x.json", "a/b/c/x.json", true),
            ("a/**", "a/b/c", true),
            ("a/d=?/*", "a/d=1/x", true),
            ("a/d=?/*", "a/d=12/x", false),
            ("a/[a-c!]*", "a/bx", true),
            ("a/[!a-c]*", "a/bx", false),
            ("a/x.json", "a/x.json", true),
        ] {
            assert_eq!(is_match(pattern, path), expected, "{pattern} {path}");
        }
        assert_eq!(Pattern::new("a/x").exact(), Path::parse("a/x").ok());
        assert_eq!(Pattern::new("a/*").exact(), None);
    }
}
