//! Compiled patterns: the linear-time engine where it can, the backtracking one for lookaround and back references.
//!
//! Invariant: after an empty match the search goes on one character further, so adjacent empty matches are found.

use fancy_regex::Regex as Fancy;
use headwater_engine::error::Result;
use regex::Regex;

use super::{super::kernel::invalid, translate::translate};

/// Where a match and its groups are, in bytes.
pub(crate) type Groups = Vec<Option<(usize, usize)>>;

#[derive(Debug)]
enum Engine {
    Linear(Regex),
    Backtracking(Fancy),
}

/// A compiled pattern.
#[derive(Debug)]
pub(crate) struct Pattern(Engine);

/// The last pattern seen.
#[derive(Debug, Default)]
pub(crate) struct Cached(Option<(String, Pattern)>);

impl Cached {
    /// The compiled form of a pattern.
    pub(crate) fn get(&mut self, text: &str) -> Result<&Pattern> {
        let known = self.0.as_ref().is_some_and(|(known, _)| known == text);
        if !known {
            self.0 = Some((text.to_owned(), Pattern::new(text)?));
        }
        match &self.0 {
            Some((_, pattern)) => Ok(pattern),
            None => Err(invalid("no pattern")),
        }
    }
}

impl Pattern {
    /// Compiles a pattern.
    pub(crate) fn new(text: &str) -> Result<Self> {
        let (translated, backtracks) = translate(text);
        let refused = |message: String| invalid(format!("pattern '{text}': {message}"));
        if !backtracks && let Ok(linear) = Regex::new(&translated) {
            return Ok(Self(Engine::Linear(linear)));
        }
        Fancy::new(&translated)
            .map(|fancy| Self(Engine::Backtracking(fancy)))
            .map_err(|error| refused(error.to_string()))
    }

    /// How many groups there are, the whole match included.
    pub(crate) fn groups(&self) -> usize {
        match &self.0 {
            Engine::Linear(regex) => regex.captures_len(),
            Engine::Backtracking(regex) => regex.captures_len(),
        }
    }

    /// A group's number, checked.
    pub(crate) fn group(&self, group: i64) -> Result<usize> {
        let count = self.groups() - 1;
        match usize::try_from(group) {
            Err(_) => Err(invalid("group cannot be negative")),
            Ok(group) if group > count => {
                Err(invalid(format!("pattern has {count} groups. Cannot access group {group}")))
            }
            Ok(group) => Ok(group),
        }
    }

    /// The number of a named group.
    pub(crate) fn named(&self, name: &str) -> Option<usize> {
        match &self.0 {
            Engine::Linear(regex) => regex.capture_names().position(|own| own == Some(name)),
            Engine::Backtracking(regex) => regex.capture_names().position(|own| own == Some(name)),
        }
    }

    /// The first match from a byte on.
    pub(crate) fn find(&self, text: &str, from: usize) -> Result<Option<Groups>> {
        Ok(match &self.0 {
            Engine::Linear(regex) => regex
                .captures_at(text, from)
                .map(|found| found.iter().map(|group| group.map(|group| (group.start(), group.end()))).collect()),
            Engine::Backtracking(regex) => regex
                .captures_from_pos(text, from)
                .map_err(|error| invalid(error.to_string()))?
                .map(|found| found.iter().map(|group| group.map(|group| (group.start(), group.end()))).collect()),
        })
    }

    /// Every match.
    pub(crate) fn each(&self, text: &str, f: impl FnMut(&Groups) -> Result<()>) -> Result<()> {
        self.each_from(text, 0, f)
    }

    /// Every match from a byte on.
    pub(crate) fn each_from(&self, text: &str, from: usize, mut f: impl FnMut(&Groups) -> Result<()>) -> Result<()> {
        let mut next = from;
        while next <= text.len() {
            let Some(found) = self.find(text, next)? else { break };
            f(&found)?;
            let Some(Some((start, end))) = found.first().copied() else { break };
            next = if start == end { end + text[end..].chars().next().map_or(1, char::len_utf8) } else { end };
        }
        Ok(())
    }
}
