//! From bytes of a text to its lines and columns, and back.
//!
//! Invariant: `byte(location(at)) == at` for every character boundary; both take constant or logarithmic time in ASCII
//! texts, so that a script with very many tokens is read in linear time.

use headwater_engine::error::Location;

/// Where the lines of a text begin.
#[derive(Debug, Clone)]
pub(crate) struct Lines {
    starts: Vec<usize>,
    is_ascii: bool,
}

impl Lines {
    /// The lines of a text.
    pub(crate) fn of(text: &str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { starts, is_ascii: text.is_ascii() }
    }

    /// Line and column of a byte; `text` is the one these lines are of.
    pub(crate) fn location(&self, text: &str, at: usize) -> Location {
        let line = self.starts.partition_point(|start| *start <= at).max(1);
        let start = self.starts.get(line - 1).copied().unwrap_or_default();
        let column = match self.is_ascii {
            true => at - start,
            false => text.get(start..at).map_or(0, |before| before.chars().count()),
        };
        Location { line: line as u64, column: 1 + column as u64 }
    }

    /// The byte at a line and column; `text` is the one these lines are of.
    pub(crate) fn byte(&self, text: &str, location: Location) -> usize {
        let index = usize::try_from(location.line).unwrap_or(usize::MAX).saturating_sub(1);
        let Some(start) = self.starts.get(index).copied() else { return text.len() };
        let skipped = usize::try_from(location.column).unwrap_or(usize::MAX).saturating_sub(1);
        match self.is_ascii {
            true => start.saturating_add(skipped).min(text.len()),
            false => text[start..].char_indices().nth(skipped).map_or(text.len(), |(at, _)| start + at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_locations_are_inverse() {
        for text in ["a\nbc\n\nd", "é\nñb\n", "x"] {
            let lines = Lines::of(text);
            for (at, _) in text.char_indices() {
                assert_eq!(lines.byte(text, lines.location(text, at)), at, "{text:?} {at}");
            }
        }
        assert_eq!(Lines::of("é\nñb").location("é\nñb", 5), Location { line: 2, column: 2 });
    }
}
