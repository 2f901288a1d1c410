//! Evaluation of standard JSON paths over a document.
//!
//! Invariant: in lax mode a structural mismatch gives nothing; in strict mode it is an error with its reason.

use std::cmp::Ordering;

use serde_json::{Value, json};

use super::{
    super::canonical::write_double,
    path::{Method, Node, Predicate, StandardPath},
};

type Items = Result<Vec<Value>, String>;

/// The items of a path over a document, or why there are none.
pub fn evaluate(path: &StandardPath, document: &Value) -> Items {
    Evaluation { lax: path.lax, root: document }.items(&path.root, document, 0)
}

struct Evaluation<'a> {
    lax: bool,
    root: &'a Value,
}

impl Evaluation<'_> {
    fn items(&self, node: &Node, current: &Value, last: i64) -> Items {
        match node {
            Node::Root => Ok(vec![self.root.clone()]),
            Node::Current => Ok(vec![current.clone()]),
            Node::Last => Ok(vec![json!(last)]),
            Node::Literal(value) => Ok(vec![value.clone()]),
            Node::Member(of, key) => self.members(self.unwrapped(of, current, last)?, Some(key)),
            Node::Members(of) => self.members(self.unwrapped(of, current, last)?, None),
            Node::Descendants(of, key) => {
                let mut found = Vec::new();
                self.items(of, current, last)?.iter().for_each(|item| descend(item, key, &mut found));
                Ok(found)
            }
            Node::Elements(of) => {
                let mut found = Vec::new();
                for item in self.items(of, current, last)? {
                    found.extend(self.elements(item)?);
                }
                Ok(found)
            }
            Node::Subscripts(of, subscripts) => self.subscripts(of, subscripts, current, last),
            Node::Filter(of, predicate) => {
                let mut kept = self.unwrapped(of, current, last)?;
                kept.retain(|item| self.holds(predicate, item, last) == Some(true));
                Ok(kept)
            }
            Node::Method(of, method) => self.method(*method, of, current, last),
            Node::Negative(of) => {
                self.unwrapped(of, current, last)?.iter().map(|item| arithmetic('-', &json!(0), item)).collect()
            }
            Node::Arithmetic(op, left, right) => {
                let (left, right) = (self.unwrapped(left, current, last)?, self.unwrapped(right, current, last)?);
                match (left.as_slice(), right.as_slice()) {
                    ([left], [right]) => Ok(vec![arithmetic(*op, left, right)?]),
                    _ => Err("arithmetic binary expression requires singleton operands".into()),
                }
            }
        }
    }

    /// Items with arrays opened in lax mode.
    fn unwrapped(&self, node: &Node, current: &Value, last: i64) -> Items {
        let items = self.items(node, current, last)?;
        if !self.lax {
            return Ok(items);
        }
        Ok(items
            .into_iter()
            .flat_map(|item| if let Value::Array(elements) = item { elements } else { vec![item] })
            .collect())
    }

    fn members(&self, items: Vec<Value>, key: Option<&String>) -> Items {
        let mut found = Vec::new();
        for item in items {
            match (item, key) {
                (Value::Object(mut members), Some(key)) => match members.shift_remove(key) {
                    Some(value) => found.push(value),
                    None if self.lax => {}
                    None => return Err(format!("missing member '{key}' in JSON object")),
                },
                (Value::Object(members), None) => found.extend(members.into_iter().map(|(_, value)| value)),
                _ if self.lax => {}
                (other, _) => return Err(format!("a JSON object is expected, not {}", type_name(&other))),
            }
        }
        Ok(found)
    }

    fn elements(&self, item: Value) -> Items {
        match item {
            Value::Array(elements) => Ok(elements),
            item if self.lax => Ok(vec![item]),
            item => Err(format!("a JSON array is expected, not {}", type_name(&item))),
        }
    }

    fn subscripts(&self, of: &Node, subscripts: &[(Node, Option<Node>)], current: &Value, last: i64) -> Items {
        let mut found = Vec::new();
        for item in self.items(of, current, last)? {
            let elements = self.elements(item)?;
            let last = i64::try_from(elements.len()).unwrap_or(i64::MAX) - 1;
            for (from, to) in subscripts {
                let from = self.index(from, current, last)?;
                let to = to.as_ref().map_or(Ok(from), |to| self.index(to, current, last))?;
                if !self.lax && (from < 0 || to > last || from > to) {
                    return Err(format!("invalid array subscript: [{from}, {to}]"));
                }
                for index in from.max(0)..=to.min(last) {
                    found.extend(usize::try_from(index).ok().and_then(|index| elements.get(index)).cloned());
                }
            }
        }
        Ok(found)
    }

    fn index(&self, node: &Node, current: &Value, last: i64) -> Result<i64, String> {
        match self.items(node, current, last)?.as_slice() {
            [item] => number(item).map(|number| number.trunc() as i64).ok_or_else(|| "a subscript is a number".into()),
            _ => Err("a subscript is one number".into()),
        }
    }

    fn method(&self, method: Method, of: &Node, current: &Value, last: i64) -> Items {
        let items = match method {
            Method::Type | Method::Size => self.items(of, current, last)?,
            _ => self.unwrapped(of, current, last)?,
        };
        let mut found = Vec::new();
        for (id, item) in items.into_iter().enumerate() {
            match method {
                Method::Type => found.push(json!(type_name(&item))),
                Method::Size => match &item {
                    Value::Array(elements) => found.push(json!(elements.len())),
                    _ if self.lax => found.push(json!(1)),
                    other => return Err(format!("a JSON array is expected, not {}", type_name(other))),
                },
                Method::KeyValue => match item {
                    Value::Object(members) => {
                        let pairs = members.into_iter();
                        found.extend(pairs.map(|(name, value)| json!({"name": name, "value": value, "id": id})));
                    }
                    other => return Err(format!("a JSON object is expected, not {}", type_name(&other))),
                },
                Method::Double | Method::Ceiling | Method::Floor | Method::Abs => found.push(numeric(method, &item)?),
            }
        }
        Ok(found)
    }

    /// Whether a predicate holds; unknown if it cannot be decided.
    fn holds(&self, predicate: &Predicate, item: &Value, last: i64) -> Option<bool> {
        match predicate {
            Predicate::And(left, right) => match (self.holds(left, item, last), self.holds(right, item, last)) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            },
            Predicate::Or(left, right) => match (self.holds(left, item, last), self.holds(right, item, last)) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            },
            Predicate::Not(inner) => self.holds(inner, item, last).map(|held| !held),
            Predicate::IsUnknown(inner) => Some(self.holds(inner, item, last).is_none()),
            Predicate::Exists(node) => self.items(node, item, last).ok().map(|items| !items.is_empty()),
            Predicate::Compare(op, left, right) => self.any_pair(left, right, item, last, |a, b| compare(op, a, b)),
            Predicate::StartsWith(left, right) => self.any_pair(left, right, item, last, |a, b| match (a, b) {
                (Value::String(a), Value::String(b)) => Some(a.starts_with(b.as_str())),
                _ => None,
            }),
        }
    }

    fn any_pair(
        &self,
        left: &Node,
        right: &Node,
        item: &Value,
        last: i64,
        test: impl Fn(&Value, &Value) -> Option<bool>,
    ) -> Option<bool> {
        let (left, right) = (self.unwrapped(left, item, last).ok()?, self.unwrapped(right, item, last).ok()?);
        let mut held = false;
        for a in &left {
            for b in &right {
                held |= test(a, b)?;
            }
        }
        Some(held)
    }
}

fn descend(item: &Value, key: &str, found: &mut Vec<Value>) {
    match item {
        Value::Object(members) => {
            found.extend(members.get(key).cloned());
            members.values().for_each(|value| descend(value, key, found));
        }
        Value::Array(elements) => elements.iter().for_each(|element| descend(element, key, found)),
        _ => {}
    }
}

fn type_name(item: &Value) -> &'static str {
    match item {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// An item as a number.
pub fn number(item: &Value) -> Option<f64> {
    match item {
        Value::Number(number) => number.to_string().parse().ok(),
        _ => None,
    }
}

/// An item as a whole number.
pub fn integer(item: &Value) -> Option<i64> {
    match item {
        Value::Number(number) => number.to_string().parse().ok(),
        _ => None,
    }
}

fn double(value: f64) -> Result<Value, String> {
    let mut text = String::new();
    write_double(value, &mut text);
    serde_json::from_str(&text).map_err(|_| format!("{text} is not a JSON number"))
}

fn numeric(method: Method, item: &Value) -> Result<Value, String> {
    if let (Method::Double, Value::String(text)) = (method, item) {
        return double(text.trim().parse().map_err(|_| format!("\"{text}\" is not a number"))?);
    }
    if let (Some(whole), true) = (integer(item), method != Method::Double) {
        return Ok(json!(if method == Method::Abs { whole.saturating_abs() } else { whole }));
    }
    let value = number(item).ok_or_else(|| format!("a number is expected, not {}", type_name(item)))?;
    double(match method {
        Method::Ceiling => value.ceil(),
        Method::Floor => value.floor(),
        Method::Abs => value.abs(),
        _ => value,
    })
}

fn arithmetic(op: char, left: &Value, right: &Value) -> Result<Value, String> {
    if let (Some(a), Some(b)) = (integer(left), integer(right)) {
        let result = match op {
            '+' => a.checked_add(b),
            '-' => a.checked_sub(b),
            '*' => a.checked_mul(b),
            '/' => a.checked_div(b),
            _ => a.checked_rem(b),
        };
        return result.map(|value| json!(value)).ok_or_else(|| format!("{a} {op} {b} is out of range"));
    }
    let both = number(left).zip(number(right));
    let (a, b) = both.ok_or_else(|| format!("cannot compute {} {op} {}", type_name(left), type_name(right)))?;
    double(match op {
        '+' => a + b,
        '-' => a - b,
        '*' => a * b,
        '/' => a / b,
        _ => a % b,
    })
}

fn compare(op: &str, a: &Value, b: &Value) -> Option<bool> {
    let order = match (a, b) {
        (Value::Null, Value::Null) => Some(Ordering::Equal),
        (Value::Null, _) | (_, Value::Null) => return Some(op == "<>"),
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (Value::Number(_), Value::Number(_)) => number(a)?.partial_cmp(&number(b)?),
        _ => None,
    }?;
    Some(match op {
        "=" => order.is_eq(),
        "<>" => order.is_ne(),
        "<" => order.is_lt(),
        "<=" => order.is_le(),
        ">" => order.is_gt(),
        _ => order.is_ge(),
    })
}
