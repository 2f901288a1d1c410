//! Reads the text of a type, in Trino's, Hive's and Flink's spelling.
//!
//! Invariant: what a type displays as reads back as that type (but for the zone of a timestamp, which has no text).

use std::sync::Arc;

use datafusion::sql::sqlparser::ast;
use headwater_engine::error::{Error, Result};

use super::Type;
use crate::sketches::Sketch;

impl Type {
    /// Reads a type.
    pub fn parse(text: &str) -> Result<Self> {
        let tokens = tokens(text);
        let mut reader = Reader { text, tokens: &tokens, at: 0 };
        let parsed = reader.read()?;
        if reader.at < tokens.len() { Err(reader.unknown()) } else { Ok(parsed) }
    }

    /// The type of a parsed data type.
    pub fn from_ast(data_type: &ast::DataType) -> Result<Self> {
        match data_type {
            ast::DataType::Custom(name, modifiers) if modifiers.is_empty() && name.0.len() == 1 => {
                match name.0.first().and_then(ast::ObjectNamePart::as_ident) {
                    Some(ident) => Self::parse(&ident.value),
                    None => Self::parse(&data_type.to_string()),
                }
            }
            other => Self::parse(&other.to_string()),
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Word(String),
    Quoted(String),
    Mark(char),
}

fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' | '`' => tokens.push(Token::Quoted(quoted(c, &mut chars))),
            c if c == '_' || c.is_alphanumeric() => {
                let mut word = String::from(c);
                while let Some(more) = chars.next_if(|c| *c == '_' || *c == '$' || c.is_alphanumeric()) {
                    word.push(more);
                }
                tokens.push(Token::Word(word));
            }
            c if c.is_whitespace() => {}
            c => tokens.push(Token::Mark(c)),
        }
    }
    tokens
}

fn quoted(quote: char, chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> String {
    let mut word = String::new();
    while let Some(c) = chars.next() {
        if c == quote && chars.next_if_eq(&quote).is_none() {
            break;
        }
        word.push(c);
    }
    word
}

struct Reader<'a> {
    text: &'a str,
    tokens: &'a [Token],
    at: usize,
}

impl Reader<'_> {
    fn unknown(&self) -> Error {
        Error::user("TYPE_NOT_FOUND", format!("unknown type \"{}\"", self.text)).with_hint(
            "types are varchar, bigint, double, decimal(p,s), timestamp(p), array(..), map(.., ..), row(..) ..",
        )
    }

    fn word(&self) -> Option<String> {
        match self.tokens.get(self.at) {
            Some(Token::Word(word)) => Some(word.to_lowercase()),
            _ => None,
        }
    }

    fn take_word(&mut self, wanted: &str) -> bool {
        let found = self.word().is_some_and(|word| word == wanted);
        self.at += usize::from(found);
        found
    }

    fn mark(&mut self, wanted: char) -> bool {
        let found = self.tokens.get(self.at) == Some(&Token::Mark(wanted));
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, wanted: char) -> Result<()> {
        if self.mark(wanted) { Ok(()) } else { Err(self.unknown()) }
    }

    fn read(&mut self) -> Result<Type> {
        let mut read = self.read_one()?;
        loop {
            if self.take_word("array") || (self.mark('[') && self.mark(']')) {
                read = Type::array(read);
            } else {
                return Ok(read);
            }
        }
    }

    fn read_one(&mut self) -> Result<Type> {
        let Some(name) = self.word() else { return Err(self.unknown()) };
        self.at += 1;
        if let Some(simple) = simple(&name) {
            return Ok(simple);
        }
        match name.as_str() {
            "double" => {
                self.take_word("precision");
                Ok(Type::Double)
            }
            "decimal" | "numeric" | "dec" => self.decimal(),
            "varchar" | "char" | "character" => self.text(&name),
            "time" | "timestamp" => self.time(&name),
            "interval" => self.interval(),
            "array" => {
                let close = self.open()?;
                let element = self.read()?;
                self.expect(close)?;
                Ok(Type::array(element))
            }
            "map" => {
                let close = self.open()?;
                let key = self.read()?;
                self.expect(',')?;
                let value = self.read()?;
                self.expect(close)?;
                Ok(Type::map(key, value))
            }
            "row" | "struct" => self.row(),
            "qdigest" => {
                let close = self.open()?;
                let of = self.read()?;
                self.expect(close)?;
                Sketch::named(&format!("qdigest({of})")).map(Type::Sketch).ok_or_else(|| self.unknown())
            }
            name if let Some(sketch) = Sketch::named(name) => Ok(Type::Sketch(sketch)),
            _ => Err(self.unknown()),
        }
    }

    fn open(&mut self) -> Result<char> {
        if self.mark('(') {
            return Ok(')');
        }
        self.expect('<')?;
        Ok('>')
    }

    fn numbers(&mut self) -> Result<Vec<u32>> {
        let mut numbers = Vec::new();
        if !self.mark('(') {
            return Ok(numbers);
        }
        loop {
            let number = self.word().and_then(|word| word.parse().ok()).ok_or_else(|| self.unknown())?;
            numbers.push(number);
            self.at += 1;
            if !self.mark(',') {
                self.expect(')')?;
                return Ok(numbers);
            }
        }
    }

    fn decimal(&mut self) -> Result<Type> {
        let numbers = self.numbers()?;
        let precision = numbers.first().copied().unwrap_or(38);
        let scale = numbers.get(1).copied().unwrap_or(0);
        if precision == 0 || precision > 38 || scale > precision {
            return Err(Error::user(
                "INVALID_FUNCTION_ARGUMENT",
                format!("decimal precision must be from 1 to 38 and not below the scale: decimal({precision},{scale})"),
            ));
        }
        Ok(Type::Decimal(precision as u8, scale as i8))
    }

    fn text(&mut self, name: &str) -> Result<Type> {
        let varying = name == "varchar" || self.take_word("varying");
        let length = self.numbers()?.first().copied();
        if varying {
            return Ok(Type::Varchar(length.filter(|length| *length < i32::MAX as u32)));
        }
        match length.unwrap_or(1) {
            length @ 1..=65_536 => Ok(Type::Char(length)),
            length => Err(Error::user("INVALID_ARGUMENTS", format!("char length {length} is not from 1 to 65536"))),
        }
    }

    fn time(&mut self, name: &str) -> Result<Type> {
        let precision = self.numbers()?.first().copied().unwrap_or(3).min(9) as u8;
        let with = self.take_word("with");
        let local = with && self.take_word("local");
        if with || self.take_word("without") {
            let complete = self.take_word("time") && self.take_word("zone");
            if !complete {
                return Err(self.unknown());
            }
        }
        match (name, with) {
            ("time", false) => Ok(Type::Time(precision)),
            ("time", true) => Ok(Type::TimeTz(precision)),
            (_, true) if !local => Ok(Type::TimestampTz(precision, "UTC".into())),
            _ => Ok(Type::Timestamp(precision)),
        }
    }

    fn interval(&mut self) -> Result<Type> {
        if self.take_word("year") {
            if self.take_word("to") && self.take_word("month") {
                return Ok(Type::IntervalYearMonth);
            }
        } else if self.take_word("day") && self.take_word("to") && self.take_word("second") {
            return Ok(Type::IntervalDaySecond);
        }
        Err(self.unknown())
    }

    fn row(&mut self) -> Result<Type> {
        let close = self.open()?;
        let mut fields = Vec::new();
        loop {
            fields.push(self.row_field(close)?);
            if self.mark(close) {
                return Ok(Type::Row(fields));
            }
            self.expect(',')?;
        }
    }

    fn row_field(&mut self, close: char) -> Result<(Option<Arc<str>>, Type)> {
        let start = self.at;
        if let Ok(anonymous) = self.read()
            && matches!(self.tokens.get(self.at), Some(Token::Mark(mark)) if *mark == ',' || *mark == close)
        {
            return Ok((None, anonymous));
        }
        self.at = start;
        let name: Arc<str> = match self.tokens.get(self.at) {
            Some(Token::Word(word) | Token::Quoted(word)) => word.as_str().into(),
            _ => return Err(self.unknown()),
        };
        self.at += 1;
        self.mark(':');
        Ok((Some(name), self.read()?))
    }
}

fn simple(name: &str) -> Option<Type> {
    Some(match name {
        "unknown" | "null" => Type::Unknown,
        "boolean" | "bool" => Type::Boolean,
        "tinyint" => Type::Tinyint,
        "smallint" => Type::Smallint,
        "integer" | "int" => Type::Integer,
        "bigint" | "long" => Type::Bigint,
        "real" | "float" => Type::Real,
        "string" | "text" => Type::VARCHAR,
        "varbinary" | "binary" | "bytes" | "bytea" => Type::Varbinary,
        "json" => Type::Json,
        "date" => Type::Date,
        "datetime" => Type::Timestamp(3),
        "timestamp_ltz" => Type::Timestamp(3),
        "uuid" => Type::Uuid,
        "ipaddress" => Type::IpAddress,
        _ => return None,
    })
}
