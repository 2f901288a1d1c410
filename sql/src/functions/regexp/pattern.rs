//! Compiled patterns: the linear-time engine where it can, the backtracking one for lookaround and back references.
//!
//! A pattern owns what its searches write to, so that a search allocates nothing; patterns no batch is using are kept
//! for the next one.
//!
//! Invariant: after an empty match the search goes on one character further, so adjacent empty matches are found.

use arrow::array::{Array, StringArray};
use fancy_regex::Regex as Fancy;
use headwater_engine::error::Result;
use parking_lot::Mutex;
use regex_automata::{
    Input, MatchKind, PatternID,
    meta::{Cache, Config, Regex},
    util::primitives::NonMaxUsize,
};

use super::{
    super::kernel::invalid,
    memo::{Found, Memo, TOGETHER},
    translate::translate,
};

/// Where a match or a group is, in bytes.
pub(crate) type Span = (usize, usize);

/// Where a match and its groups are.
pub(crate) type Groups = Vec<Option<Span>>;

/// Patterns kept beyond the batches that used them; the oldest leaves first.
const KEPT_MAX: usize = 16;

/// Bytes a compiled pattern may take, and the searcher's cache of it.
const PATTERN_BYTES_MAX: usize = 10 << 20;
const CACHE_BYTES_MAX: usize = 2 << 20;

static KEPT: Mutex<Vec<(String, Pattern)>> = Mutex::new(Vec::new());

#[derive(Debug)]
enum Engine {
    Linear { regex: Regex, cache: Box<Cache>, slots: Vec<Option<NonMaxUsize>> },
    Backtracking(Fancy),
}

/// A compiled pattern.
#[derive(Debug)]
pub(crate) struct Pattern {
    engine: Engine,
    groups: Groups,
    memo: Memo,
}

/// The last pattern seen.
#[derive(Debug, Default)]
pub(crate) struct Cached(Option<(String, Pattern)>);

impl Cached {
    /// The compiled form of a pattern.
    pub(crate) fn get(&mut self, text: &str) -> Result<&mut Pattern> {
        let known = self.0.as_ref().is_some_and(|(known, _)| known == text);
        if !known {
            self.keep();
            self.0 = Some(match kept(text) {
                Some(kept) => kept,
                None => (text.to_owned(), Pattern::new(text)?),
            });
        }
        self.0.as_mut().map(|(_, pattern)| pattern).ok_or_else(|| invalid("no pattern"))
    }

    fn keep(&mut self) {
        if let Some(used) = self.0.take() {
            let mut kept = KEPT.lock();
            if kept.len() >= KEPT_MAX {
                kept.remove(0);
            }
            kept.push(used);
        }
    }
}

impl Drop for Cached {
    fn drop(&mut self) {
        self.keep();
    }
}

fn kept(text: &str) -> Option<(String, Pattern)> {
    let mut kept = KEPT.lock();
    let at = kept.iter().position(|(known, _)| known == text)?;
    Some(kept.remove(at))
}

fn linear(translated: &str) -> Option<Engine> {
    let config = Config::new()
        .match_kind(MatchKind::LeftmostFirst)
        .nfa_size_limit(Some(PATTERN_BYTES_MAX))
        .hybrid_cache_capacity(CACHE_BYTES_MAX);
    let regex = Regex::builder().configure(config).build(translated).ok()?;
    let slots = vec![None; regex.group_info().slot_len()];
    Some(Engine::Linear { cache: Box::new(regex.create_cache()), regex, slots })
}

fn span(slots: &[Option<NonMaxUsize>], group: usize) -> Option<Span> {
    let at = |index: usize| slots.get(index).copied().flatten().map(NonMaxUsize::get);
    Some((at(2 * group)?, at(2 * group + 1)?))
}

impl Engine {
    /// A group of the first match from a byte on.
    fn find_group(&mut self, text: &str, from: usize, group: usize) -> Result<Found> {
        match self {
            Self::Linear { regex, cache, slots } => {
                let wanted = slots.get_mut(..2 * group + 2).unwrap_or_default();
                let found = regex.search_slots_with(cache, &Input::new(text).range(from..), wanted);
                Ok(found.map(|_| span(slots, group)))
            }
            Self::Backtracking(regex) => {
                let found = regex.captures_from_pos(text, from).map_err(|error| invalid(error.to_string()))?;
                Ok(found.map(|found| found.get(group).map(|group| (group.start(), group.end()))))
            }
        }
    }
}

impl Pattern {
    /// Compiles a pattern.
    pub(crate) fn new(text: &str) -> Result<Self> {
        let (translated, backtracks) = translate(text);
        let engine = match if backtracks { None } else { linear(&translated) } {
            Some(linear) => linear,
            None => Engine::Backtracking(
                Fancy::new(&translated).map_err(|error| invalid(format!("pattern '{text}': {error}")))?,
            ),
        };
        Ok(Self { engine, groups: Vec::new(), memo: Memo::default() })
    }

    /// How many groups there are, the whole match included.
    pub(crate) fn groups(&self) -> usize {
        match &self.engine {
            Engine::Linear { regex, .. } => regex.group_info().group_len(PatternID::ZERO),
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
        match &self.engine {
            Engine::Linear { regex, .. } => regex.group_info().to_index(PatternID::ZERO, name),
            Engine::Backtracking(regex) => regex.capture_names().position(|own| own == Some(name)),
        }
    }

    /// Whether a part of a text matches.
    pub(crate) fn is_match(&mut self, text: &str) -> Result<bool> {
        match &mut self.engine {
            Engine::Linear { regex, cache, .. } => {
                Ok(regex.search_half_with(cache, &Input::new(text).earliest(true)).is_some())
            }
            Engine::Backtracking(regex) => regex.is_match(text).map_err(|error| invalid(error.to_string())),
        }
    }

    /// A group of the first match; a text that was seen before is not searched again.
    pub(crate) fn first_group(&mut self, text: &str, group: usize) -> Result<Found> {
        let (memo, engine) = (&mut self.memo, &mut self.engine);
        memo.find(text, group, || engine.find_group(text, 0, group))
    }

    /// A group of the first match of each text of a column that is not NULL, and NULL of the others.
    pub(crate) fn first_groups(
        &mut self,
        texts: &StringArray,
        group: usize,
        mut f: impl FnMut(Option<&str>),
    ) -> Result<()> {
        let (memo, engine) = (&mut self.memo, &mut self.engine);
        for start in (0..texts.len()).step_by(TOGETHER) {
            let rows = start..texts.len().min(start + TOGETHER);
            let glances = memo.glance(rows.clone().map(|row| texts.value(row)));
            for (row, glance) in rows.zip(glances) {
                if texts.is_null(row) {
                    f(None);
                    continue;
                }
                let text = texts.value(row);
                let found = memo.find_glanced(glance, text, group, || engine.find_group(text, 0, group))?;
                f(found.flatten().map(|(start, end)| &text[start..end]));
            }
        }
        Ok(())
    }

    /// The groups of the first match from a byte on.
    fn find(&mut self, text: &str, from: usize, groups: &mut Groups) -> Result<bool> {
        groups.clear();
        match &mut self.engine {
            Engine::Linear { regex, cache, slots } => {
                if regex.search_slots_with(cache, &Input::new(text).range(from..), slots).is_none() {
                    return Ok(false);
                }
                groups.extend((0..slots.len() / 2).map(|group| span(slots, group)));
            }
            Engine::Backtracking(regex) => {
                let found = regex.captures_from_pos(text, from).map_err(|error| invalid(error.to_string()))?;
                let Some(found) = found else { return Ok(false) };
                groups.extend(found.iter().map(|group| group.map(|group| (group.start(), group.end()))));
            }
        }
        Ok(true)
    }

    /// Every match with its groups.
    pub(crate) fn each(&mut self, text: &str, f: impl FnMut(&Groups) -> Result<()>) -> Result<()> {
        let mut groups = std::mem::take(&mut self.groups);
        let done = self.each_with(text, &mut groups, f);
        self.groups = groups;
        done
    }

    fn each_with(&mut self, text: &str, groups: &mut Groups, mut f: impl FnMut(&Groups) -> Result<()>) -> Result<()> {
        let mut next = Some(0);
        while let Some(from) = next
            && self.find(text, from, groups)?
        {
            f(groups)?;
            next = groups.first().copied().flatten().and_then(|found| after(text, found));
        }
        Ok(())
    }

    /// Every match from a byte on, without its groups.
    pub(crate) fn each_span(&mut self, text: &str, from: usize, mut f: impl FnMut(Span) -> Result<()>) -> Result<()> {
        let mut next = Some(from);
        while let Some(from) = next
            && let Some(Some(found)) = self.engine.find_group(text, from, 0)?
        {
            f(found)?;
            next = after(text, found);
        }
        Ok(())
    }
}

/// Where the search goes on after a match, if there is text or an end of it left.
fn after(text: &str, (start, end): Span) -> Option<usize> {
    let next = if start == end { end + text[end..].chars().next().map_or(1, char::len_utf8) } else { end };
    (next <= text.len()).then_some(next)
}
