//! The path language of the SQL standard: `lax $.a[*] ? (@.b > 1).size()`.
//!
//! Invariant: a path that parses has a mode, and every node of it can be evaluated.

use headwater_engine::error::{Error, Result};
use serde_json::Value;

/// A path with its mode.
#[derive(Debug, Clone, PartialEq)]
pub struct StandardPath {
    /// Whether structural mismatches are smoothed over (`lax`) or errors (`strict`).
    pub lax: bool,
    /// What it computes.
    pub root: Node,
}

/// A part of a path that gives items.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// `$`.
    Root,
    /// `@`.
    Current,
    /// `last`, inside brackets.
    Last,
    /// A literal.
    Literal(Value),
    /// `.key`.
    Member(Box<Node>, String),
    /// `.*`.
    Members(Box<Node>),
    /// `..key`.
    Descendants(Box<Node>, String),
    /// `[*]`.
    Elements(Box<Node>),
    /// `[1, 3 to last]`.
    Subscripts(Box<Node>, Vec<(Node, Option<Node>)>),
    /// `? (..)`.
    Filter(Box<Node>, Box<Predicate>),
    /// `.size()`.
    Method(Box<Node>, Method),
    /// `-x`.
    Negative(Box<Node>),
    /// `x + y`.
    Arithmetic(char, Box<Node>, Box<Node>),
}

/// A method of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// The type's name.
    Type,
    /// The number of elements.
    Size,
    /// The number a text stands for.
    Double,
    /// Rounded up.
    Ceiling,
    /// Rounded down.
    Floor,
    /// Without its sign.
    Abs,
    /// The members as objects of name, value and id.
    KeyValue,
}

/// A part of a path that is true, false or unknown.
#[derive(Debug, Clone, PartialEq)]
pub enum Predicate {
    /// `x == y`.
    Compare(&'static str, Node, Node),
    /// `&&`.
    And(Box<Predicate>, Box<Predicate>),
    /// `||`.
    Or(Box<Predicate>, Box<Predicate>),
    /// `!`.
    Not(Box<Predicate>),
    /// `exists(x)`.
    Exists(Node),
    /// `x starts with "y"`.
    StartsWith(Node, Node),
    /// `(..) is unknown`.
    IsUnknown(Box<Predicate>),
}

impl StandardPath {
    /// Parses a path; after a mark, `VARIABLES`, the object of its variables may follow.
    pub fn parse(text: &str) -> Result<Self> {
        let (text, variables) = match text.split_once(VARIABLES) {
            Some((text, object)) => (text, serde_json::from_str(object).unwrap_or_default()),
            None => (text, Value::Null),
        };
        let mut reader = Reader { rest: text, variables: &variables };
        let lax = reader.word("lax");
        if !lax && !reader.word("strict") {
            return Err(reader.error("a JSON path begins with 'lax' or 'strict'"));
        }
        let root = reader.sum()?;
        reader.space();
        if !reader.rest.is_empty() {
            return Err(reader.error("the JSON path should end here"));
        }
        Ok(Self { lax, root })
    }
}

/// Stands between a path and its variables.
const VARIABLES: char = '\u{1}';

struct Reader<'a> {
    rest: &'a str,
    variables: &'a Value,
}

impl Reader<'_> {
    fn error(&self, problem: &str) -> Error {
        Error::user("SYNTAX_ERROR", format!("{problem}, at \"{}\"", self.rest))
    }

    fn space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn eat(&mut self, text: &str) -> bool {
        self.space();
        let rest = self.rest.strip_prefix(text);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn need(&mut self, text: &str) -> Result<()> {
        if self.eat(text) { Ok(()) } else { Err(self.error(&format!("'{text}' is expected"))) }
    }

    fn word(&mut self, word: &str) -> bool {
        self.space();
        let after = self.rest.strip_prefix(word).filter(|rest| !rest.starts_with(is_key));
        self.rest = after.unwrap_or(self.rest);
        after.is_some()
    }

    fn sum(&mut self) -> Result<Node> {
        let mut left = self.product()?;
        loop {
            let op = if self.eat("+") {
                '+'
            } else if self.eat("-") {
                '-'
            } else {
                return Ok(left);
            };
            left = Node::Arithmetic(op, Box::new(left), Box::new(self.product()?));
        }
    }

    fn product(&mut self) -> Result<Node> {
        let mut left = self.unary()?;
        loop {
            let op = if self.eat("*") {
                '*'
            } else if self.eat("/") {
                '/'
            } else if self.eat("%") {
                '%'
            } else {
                return Ok(left);
            };
            left = Node::Arithmetic(op, Box::new(left), Box::new(self.unary()?));
        }
    }

    fn unary(&mut self) -> Result<Node> {
        if self.eat("-") {
            return Ok(Node::Negative(Box::new(self.unary()?)));
        }
        if self.eat("+") {
            return self.unary();
        }
        let mut node = self.primary()?;
        while let Some(next) = self.accessor(&node)? {
            node = next;
        }
        Ok(node)
    }

    fn primary(&mut self) -> Result<Node> {
        self.space();
        if self.eat("(") {
            let inner = self.sum()?;
            self.need(")")?;
            return Ok(inner);
        }
        if self.rest.starts_with('$') && self.rest[1..].starts_with(is_key) {
            self.rest = &self.rest[1..];
            let name = self.key()?;
            let unknown = || {
                Error::user("INVALID_PATH", format!("no value passed for parameter {name} of the JSON path"))
                    .with_hint("write PASSING value AS \"name\", the name in double quotes")
            };
            return self.variables.get(&name).cloned().map(Node::Literal).ok_or_else(unknown);
        }
        for (word, node) in [("$", Node::Root), ("@", Node::Current)] {
            if self.eat(word) {
                return Ok(node);
            }
        }
        if self.word("last") {
            return Ok(Node::Last);
        }
        for (word, value) in [("true", Value::Bool(true)), ("false", Value::Bool(false)), ("null", Value::Null)] {
            if self.word(word) {
                return Ok(Node::Literal(value));
            }
        }
        if self.rest.starts_with('"') {
            return Ok(Node::Literal(Value::String(self.quoted()?)));
        }
        let end = self.rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(self.rest.len());
        let number = serde_json::from_str::<Value>(&self.rest[..end]).map_err(|_| self.error("a value is expected"))?;
        self.rest = &self.rest[end..];
        Ok(Node::Literal(number))
    }

    fn quoted(&mut self) -> Result<String> {
        let mut text = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = &self.rest[at + 1..];
                    return Ok(text);
                }
                '\\' => text.extend(chars.next().map(|(_, escaped)| escaped)),
                c => text.push(c),
            }
        }
        Err(self.error("the text does not end"))
    }

    fn key(&mut self) -> Result<String> {
        if self.rest.starts_with('"') {
            return self.quoted();
        }
        let end = self.rest.find(|c: char| !is_key(c)).unwrap_or(self.rest.len());
        if end == 0 {
            return Err(self.error("a key is expected"));
        }
        let key = self.rest[..end].to_owned();
        self.rest = &self.rest[end..];
        Ok(key)
    }

    fn accessor(&mut self, node: &Node) -> Result<Option<Node>> {
        let of = Box::new(node.clone());
        if self.eat("..") {
            return Ok(Some(Node::Descendants(of, self.key()?)));
        }
        if self.eat(".") {
            if self.eat("*") {
                return Ok(Some(Node::Members(of)));
            }
            let key = self.key()?;
            if self.rest.starts_with('(') {
                return self.method(of, &key).map(Some);
            }
            return Ok(Some(Node::Member(of, key)));
        }
        if self.eat("[") {
            return self.subscripts(of).map(Some);
        }
        if self.eat("?") {
            self.need("(")?;
            let predicate = self.or()?;
            self.need(")")?;
            return Ok(Some(Node::Filter(of, Box::new(predicate))));
        }
        Ok(None)
    }

    fn method(&mut self, of: Box<Node>, name: &str) -> Result<Node> {
        let method = match name {
            "type" => Method::Type,
            "size" => Method::Size,
            "double" => Method::Double,
            "ceiling" => Method::Ceiling,
            "floor" => Method::Floor,
            "abs" => Method::Abs,
            "keyvalue" => Method::KeyValue,
            other => return Err(Error::not_supported(format!("method {other}() of JSON paths is not supported"))),
        };
        self.need("(")?;
        self.need(")")?;
        Ok(Node::Method(of, method))
    }

    fn subscripts(&mut self, of: Box<Node>) -> Result<Node> {
        if self.eat("*") {
            self.need("]")?;
            return Ok(Node::Elements(of));
        }
        let mut subscripts = Vec::new();
        loop {
            let from = self.sum()?;
            let to = if self.word("to") { Some(self.sum()?) } else { None };
            subscripts.push((from, to));
            if !self.eat(",") {
                break;
            }
        }
        self.need("]")?;
        Ok(Node::Subscripts(of, subscripts))
    }

    fn or(&mut self) -> Result<Predicate> {
        let mut left = self.and()?;
        while self.eat("||") {
            left = Predicate::Or(Box::new(left), Box::new(self.and()?));
        }
        Ok(left)
    }

    fn and(&mut self) -> Result<Predicate> {
        let mut left = self.test()?;
        while self.eat("&&") {
            left = Predicate::And(Box::new(left), Box::new(self.test()?));
        }
        Ok(left)
    }

    fn test(&mut self) -> Result<Predicate> {
        if self.eat("!") {
            return Ok(Predicate::Not(Box::new(self.test()?)));
        }
        if self.word("exists") {
            self.need("(")?;
            let inner = self.sum()?;
            self.need(")")?;
            return Ok(Predicate::Exists(inner));
        }
        let before = self.rest;
        if self.eat("(") {
            if let Ok(inner) = self.or()
                && self.eat(")")
            {
                if self.word("is") {
                    self.need("unknown")?;
                    return Ok(Predicate::IsUnknown(Box::new(inner)));
                }
                return Ok(inner);
            }
            self.rest = before;
        }
        self.comparison()
    }

    fn comparison(&mut self) -> Result<Predicate> {
        let left = self.sum()?;
        if self.word("starts") {
            self.need("with")?;
            return Ok(Predicate::StartsWith(left, self.sum()?));
        }
        if self.word("like_regex") {
            return Err(Error::not_supported("like_regex predicate in JSON path is not yet supported"));
        }
        for (op, meaning) in
            [("==", "="), ("!=", "<>"), ("<>", "<>"), ("<=", "<="), (">=", ">="), ("<", "<"), (">", ">")]
        {
            if self.eat(op) {
                return Ok(Predicate::Compare(meaning, left, self.sum()?));
            }
        }
        Err(self.error("a comparison is expected"))
    }
}

fn is_key(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}
