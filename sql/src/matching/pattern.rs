//! Row patterns: from their text to a program for the matcher.
//!
//! ```text
//!  pattern := concat ('|' concat)*        quantified := primary ('*' | '+' | '?' | '{n}' | '{n,m}') '?'?
//!  concat  := quantified*                 primary := label | '(' pattern ')' | '()' | '^' | '$'
//!                                                  | PERMUTE(pattern, ..) | '{-' pattern '-}'
//! ```
//!
//! Invariant: of two ways on, a program tries the preferred one first.

use headwater_engine::error::{Error, Result};

/// A step of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A row with a label; `true`: left out of the result.
    Row(u16, bool),
    /// Two ways on, the preferred one first.
    Either(usize, usize),
    /// Goes on elsewhere.
    Jump(usize),
    /// Remembers the row an iteration starts at.
    Enter(usize),
    /// Goes on here if the iteration of this loop took a row, else there.
    Progress(usize, usize),
    /// Only before the first row of the partition.
    AtStart,
    /// Only after the last row of the partition.
    AtEnd,
    /// The match is found.
    Done,
}

/// A compiled pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The steps; the first one is where it starts.
    pub steps: Vec<Step>,
    /// How many loops remember a row.
    pub loops: usize,
}

/// How many steps a pattern may become.
const STEPS_MAX: usize = 50_000;

/// A parsed pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    /// No row.
    Empty,
    /// A row with a label.
    Label(String),
    /// `^`
    Start,
    /// `$`
    End,
    /// One after the other.
    Concat(Vec<Self>),
    /// One of these, the first preferred.
    Alternation(Vec<Self>),
    /// In any order.
    Permute(Vec<Self>),
    /// Left out of the result.
    Exclude(Box<Self>),
    /// Repeated from `.1` to `.2` times; `.3`: as often as possible.
    Repeat(Box<Self>, usize, Option<usize>, bool),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Label(String),
    Number(String),
    Symbol(char),
}

fn tokens(text: &str) -> Result<Vec<Token>> {
    let mut out = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let word = |character: char| character.is_alphanumeric() || character == '_';
        let taken = if first == '"' || first == '`' {
            let end = rest[1..].find(first).ok_or_else(|| wrong("a quoted label does not end"))?;
            out.push(Token::Label(rest[1..=end].to_owned()));
            end + 2
        } else if first.is_ascii_digit() {
            let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            out.push(Token::Number(rest[..end].to_owned()));
            end
        } else if word(first) {
            let end = rest.find(|c: char| !word(c)).unwrap_or(rest.len());
            out.push(Token::Label(rest[..end].to_uppercase()));
            end
        } else {
            out.push(Token::Symbol(first));
            first.len_utf8()
        };
        rest = rest[taken..].trim_start();
    }
    Ok(out)
}

fn wrong(message: impl Into<String>) -> Error {
    Error::user("SYNTAX_ERROR", format!("row pattern: {}", message.into()))
}

struct Parser {
    tokens: Vec<Token>,
    next: usize,
}

/// Parses a pattern.
pub fn parse(text: &str) -> Result<Pattern> {
    let mut parser = Parser { tokens: tokens(text)?, next: 0 };
    let pattern = parser.pattern()?;
    match parser.tokens.get(parser.next) {
        None => Ok(pattern),
        Some(left) => Err(wrong(format!("unexpected {left:?}"))),
    }
}

impl Parser {
    fn take(&mut self, symbol: char) -> bool {
        let found = self.tokens.get(self.next) == Some(&Token::Symbol(symbol));
        self.next += usize::from(found);
        found
    }

    fn expect(&mut self, symbol: char) -> Result<()> {
        if self.take(symbol) { Ok(()) } else { Err(wrong(format!("expected '{symbol}'"))) }
    }

    fn pattern(&mut self) -> Result<Pattern> {
        let mut parts = vec![self.concat()?];
        while self.take('|') {
            parts.push(self.concat()?);
        }
        Ok(one_or(parts, Pattern::Alternation))
    }

    fn concat(&mut self) -> Result<Pattern> {
        let mut parts = Vec::new();
        while let Some(token) = self.tokens.get(self.next) {
            match token {
                Token::Symbol('|' | ')' | ',' | '-') => break,
                _ => parts.push(self.quantified()?),
            }
        }
        if parts.is_empty() { Err(wrong("a part is empty")) } else { Ok(one_or(parts, Pattern::Concat)) }
    }

    fn quantified(&mut self) -> Result<Pattern> {
        let primary = self.primary()?;
        let excluding = self.tokens.get(self.next + 1) == Some(&Token::Symbol('-'));
        let (least, most) = match self.tokens.get(self.next) {
            Some(Token::Symbol('*')) => (0, None),
            Some(Token::Symbol('+')) => (1, None),
            Some(Token::Symbol('?')) => (0, Some(1)),
            Some(Token::Symbol('{')) if !excluding => {
                self.next += 1;
                let bounds = self.bounds()?;
                let greedy = !self.take('?');
                return Ok(Pattern::Repeat(Box::new(primary), bounds.0, bounds.1, greedy));
            }
            _ => return Ok(primary),
        };
        self.next += 1;
        let greedy = !self.take('?');
        Ok(Pattern::Repeat(Box::new(primary), least, most, greedy))
    }

    fn number(&mut self) -> Result<Option<usize>> {
        let Some(Token::Number(digits)) = self.tokens.get(self.next) else { return Ok(None) };
        let number = digits.parse().map_err(|_| range(format!("quantifier bound {digits} is too large")))?;
        self.next += 1;
        Ok(Some(number))
    }

    fn bounds(&mut self) -> Result<(usize, Option<usize>)> {
        let least = self.number()?;
        let bounds = if self.take(',') {
            (least.unwrap_or(0), self.number()?)
        } else {
            let exact = least.ok_or_else(|| wrong("a quantifier in braces has a number"))?;
            (exact, Some(exact))
        };
        self.expect('}')?;
        if bounds.1 == Some(0) {
            return Err(range("the upper bound of a quantifier must be positive"));
        }
        match bounds.1 {
            Some(most) if most < bounds.0 => {
                Err(Error::user("INVALID_RANGE", "the lower bound of a quantifier is above its upper bound"))
            }
            _ => Ok(bounds),
        }
    }

    /// Whether parts separated by commas follow in parentheses; else PERMUTE is a label like any other.
    fn has_several(&self) -> bool {
        let mut depth = 0usize;
        for token in &self.tokens[self.next..] {
            match token {
                Token::Symbol('(' | '{') => depth += 1,
                Token::Symbol(')' | '}') => depth = depth.saturating_sub(1),
                Token::Symbol(',') if depth == 1 => return true,
                _ => {}
            }
            if depth == 0 {
                return false;
            }
        }
        false
    }

    fn primary(&mut self) -> Result<Pattern> {
        let token = self.tokens.get(self.next).cloned();
        self.next += 1;
        match token {
            Some(Token::Label(name)) if name == "PERMUTE" && self.has_several() => {
                self.expect('(')?;
                let mut parts = vec![self.pattern()?];
                while self.take(',') {
                    parts.push(self.pattern()?);
                }
                self.expect(')')?;
                Ok(Pattern::Permute(parts))
            }
            Some(Token::Label(name)) => Ok(Pattern::Label(name)),
            Some(Token::Symbol('(')) if self.take(')') => Ok(Pattern::Empty),
            Some(Token::Symbol('(')) => {
                let inner = self.pattern()?;
                self.expect(')')?;
                Ok(inner)
            }
            Some(Token::Symbol('{')) => {
                self.expect('-')?;
                let inner = self.pattern()?;
                self.expect('-')?;
                self.expect('}')?;
                Ok(Pattern::Exclude(Box::new(inner)))
            }
            Some(Token::Symbol('^')) => Ok(Pattern::Start),
            Some(Token::Symbol('$')) => Ok(Pattern::End),
            Some(other) => Err(wrong(format!("unexpected {other:?}"))),
            None => Err(wrong("unexpected end")),
        }
    }
}

fn range(message: impl Into<String>) -> Error {
    Error::user("NUMERIC_VALUE_OUT_OF_RANGE", message.into())
}

fn one_or(mut parts: Vec<Pattern>, several: impl FnOnce(Vec<Pattern>) -> Pattern) -> Pattern {
    if parts.len() == 1 { parts.remove(0) } else { several(parts) }
}

impl Pattern {
    /// The labels in the order they are first written.
    pub fn labels(&self, out: &mut Vec<String>) {
        match self {
            Self::Label(name) if !out.contains(name) => out.push(name.clone()),
            Self::Label(_) | Self::Empty | Self::Start | Self::End => {}
            Self::Concat(parts) | Self::Alternation(parts) | Self::Permute(parts) => {
                parts.iter().for_each(|part| part.labels(out));
            }
            Self::Exclude(inner) | Self::Repeat(inner, ..) => inner.labels(out),
        }
    }

    /// Whether a part holds.
    pub fn any(&self, test: &dyn Fn(&Self) -> bool) -> bool {
        test(self)
            || match self {
                Self::Label(_) | Self::Empty | Self::Start | Self::End => false,
                Self::Concat(parts) | Self::Alternation(parts) | Self::Permute(parts) => {
                    parts.iter().any(|part| part.any(test))
                }
                Self::Exclude(inner) | Self::Repeat(inner, ..) => inner.any(test),
            }
    }

    /// Whether it may match without a row.
    fn may_be_empty(&self) -> bool {
        match self {
            Self::Empty | Self::Start | Self::End => true,
            Self::Label(_) => false,
            Self::Concat(parts) | Self::Permute(parts) => parts.iter().all(Self::may_be_empty),
            Self::Alternation(parts) => parts.iter().any(Self::may_be_empty),
            Self::Exclude(inner) => inner.may_be_empty(),
            Self::Repeat(inner, least, ..) => *least == 0 || inner.may_be_empty(),
        }
    }

    /// Compiles it; `labels` are numbered in this order.
    pub fn compile(&self, labels: &[String]) -> Result<Program> {
        let mut compiler = Compiler { steps: Vec::new(), loops: 0, labels };
        compiler.add(self, false)?;
        compiler.push(Step::Done)?;
        Ok(Program { steps: compiler.steps, loops: compiler.loops })
    }
}

struct Compiler<'l> {
    steps: Vec<Step>,
    loops: usize,
    labels: &'l [String],
}

impl Compiler<'_> {
    fn push(&mut self, step: Step) -> Result<usize> {
        if self.steps.len() >= STEPS_MAX {
            return Err(Error::not_supported(format!("a row pattern of more than {STEPS_MAX} steps is not supported"))
                .with_hint("repeat less, or permute fewer parts"));
        }
        self.steps.push(step);
        Ok(self.steps.len() - 1)
    }

    fn add(&mut self, pattern: &Pattern, excluded: bool) -> Result<()> {
        match pattern {
            Pattern::Empty => {}
            Pattern::Label(name) => {
                let label = self.labels.iter().position(|known| known == name);
                let label = label.ok_or_else(|| Error::internal(format!("label {name} has no number")))?;
                self.push(Step::Row(label as u16, excluded))?;
            }
            Pattern::Start => {
                self.push(Step::AtStart)?;
            }
            Pattern::End => {
                self.push(Step::AtEnd)?;
            }
            Pattern::Concat(parts) => {
                for part in parts {
                    self.add(part, excluded)?;
                }
            }
            Pattern::Alternation(parts) => {
                let parts: Vec<Vec<&Pattern>> = parts.iter().map(|part| vec![part]).collect();
                self.alternatives(&parts, excluded)?;
            }
            Pattern::Permute(parts) => {
                let parts: Vec<&Pattern> = parts.iter().collect();
                self.permutations(&parts, excluded)?;
            }
            Pattern::Exclude(inner) => self.add(inner, true)?,
            Pattern::Repeat(inner, least, most, greedy) => self.repeat(inner, (*least, *most), *greedy, excluded)?,
        }
        Ok(())
    }

    fn alternatives(&mut self, parts: &[Vec<&Pattern>], excluded: bool) -> Result<()> {
        let mut ends = Vec::new();
        for (index, part) in parts.iter().enumerate() {
            let last = index + 1 == parts.len();
            let split = if last { None } else { Some(self.push(Step::Either(0, 0))?) };
            for one in part {
                self.add(one, excluded)?;
            }
            if let Some(split) = split {
                ends.push(self.push(Step::Jump(0))?);
                self.steps[split] = Step::Either(split + 1, self.steps.len());
            }
        }
        let end = self.steps.len();
        for jump in ends {
            self.steps[jump] = Step::Jump(end);
        }
        Ok(())
    }

    /// All orders of the parts, in the order of the parts as written.
    fn permutations(&mut self, parts: &[&Pattern], excluded: bool) -> Result<()> {
        let mut orders: Vec<Vec<usize>> = vec![Vec::new()];
        for _ in parts {
            orders = orders
                .iter()
                .flat_map(|order| {
                    let free = (0..parts.len()).filter(|part| !order.contains(part));
                    free.map(|part| [order.as_slice(), &[part]].concat()).collect::<Vec<_>>()
                })
                .collect();
            if orders.len() > STEPS_MAX {
                return Err(Error::not_supported(format!("PERMUTE of {} parts is not supported", parts.len()))
                    .with_hint("permute at most seven parts"));
            }
        }
        let orders: Vec<Vec<&Pattern>> =
            orders.iter().map(|order| order.iter().map(|index| parts[*index]).collect()).collect();
        self.alternatives(&orders, excluded)
    }

    fn repeat(
        &mut self,
        inner: &Pattern,
        (least, most): (usize, Option<usize>),
        greedy: bool,
        excluded: bool,
    ) -> Result<()> {
        for _ in 0..least {
            self.add(inner, excluded)?;
        }
        let Some(most) = most else { return self.endless(inner, greedy, excluded) };
        let mut splits = Vec::new();
        for _ in least..most {
            splits.push(self.push(Step::Either(0, 0))?);
            self.add(inner, excluded)?;
        }
        let end = self.steps.len();
        for split in splits {
            self.steps[split] = either(split + 1, end, greedy);
        }
        Ok(())
    }

    fn endless(&mut self, inner: &Pattern, greedy: bool, excluded: bool) -> Result<()> {
        let split = self.push(Step::Either(0, 0))?;
        let guard = inner.may_be_empty().then_some(self.loops);
        if let Some(number) = guard {
            self.loops += 1;
            self.push(Step::Enter(number))?;
        }
        self.add(inner, excluded)?;
        if let Some(number) = guard {
            let here = self.steps.len();
            self.push(Step::Progress(number, here + 2))?;
        }
        self.push(Step::Jump(split))?;
        let end = self.steps.len();
        self.steps[split] = either(split + 1, end, greedy);
        Ok(())
    }
}

fn either(inside: usize, after: usize, greedy: bool) -> Step {
    if greedy { Step::Either(inside, after) } else { Step::Either(after, inside) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_what_is_written() {
        let label = |name: &str| Pattern::Label(name.to_owned());
        let parsed = parse("a B + ? | { - \"c\" - } {2,}").unwrap();
        let repeated = Pattern::Repeat(Box::new(label("B")), 1, None, false);
        let excluded = Pattern::Exclude(Box::new(label("c")));
        assert_eq!(
            parsed,
            Pattern::Alternation(vec![
                Pattern::Concat(vec![label("A"), repeated]),
                Pattern::Repeat(Box::new(excluded), 2, None, true),
            ])
        );
        assert_eq!(parse("A {2,1}").unwrap_err().code().0, "INVALID_RANGE");
        assert_eq!(parse("A )").unwrap_err().code().0, "SYNTAX_ERROR");
    }

    #[test]
    fn permutes_in_the_order_written() {
        let labels = ["A".to_owned(), "B".to_owned()];
        let permuted = parse("PERMUTE(A, B)").unwrap().compile(&labels).unwrap();
        let written = parse("A B | B A").unwrap().compile(&labels).unwrap();
        assert_eq!(permuted, written);
    }
}
