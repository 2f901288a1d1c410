//! How large an item is to the service, and what it refuses before it looks at a table.
//!
//! The rules are those of the developer guide's "Item sizes and formats": names and texts count their UTF-8 bytes, a
//! number about half its significant digits, a list or map three bytes and one for each member.
//!
//! Invariant: what is refused here would be refused by the service.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;

/// An item, by attribute.
pub(super) type Item = HashMap<String, AttributeValue>;

/// Bytes of an item, at most.
pub(super) const ITEM_BYTES_MAX: usize = 400 << 10;
/// Levels of lists and maps in an item, at most.
const DEPTH_MAX: usize = 32;
/// Bytes of a partition key and of a sort key, at most.
pub(super) const KEY_BYTES_MAX: [usize; 2] = [2048, 1024];

/// Bytes of an item.
pub(super) fn item_bytes(item: &Item) -> usize {
    item.iter().map(|(name, value)| name.len() + value_bytes(value)).sum()
}

/// Bytes of a value.
pub(super) fn value_bytes(value: &AttributeValue) -> usize {
    match value {
        AttributeValue::S(text) => text.len(),
        AttributeValue::N(number) => number_bytes(number),
        AttributeValue::B(bytes) => bytes.as_ref().len(),
        AttributeValue::Ss(texts) => texts.iter().map(String::len).sum(),
        AttributeValue::Ns(numbers) => numbers.iter().map(|number| number_bytes(number)).sum(),
        AttributeValue::Bs(all) => all.iter().map(|bytes| bytes.as_ref().len()).sum(),
        AttributeValue::L(values) => 3 + values.iter().map(|value| 1 + value_bytes(value)).sum::<usize>(),
        AttributeValue::M(values) => {
            3 + values.iter().map(|(name, value)| 1 + name.len() + value_bytes(value)).sum::<usize>()
        }
        _ => 1,
    }
}

fn number_bytes(number: &str) -> usize {
    let digits = number.split(['e', 'E']).next().unwrap_or(number);
    let digits = digits.trim_start_matches(['-', '0', '.']).trim_end_matches('0');
    let count = digits.bytes().filter(u8::is_ascii_digit).count();
    count.div_ceil(2) + 1 + usize::from(number.starts_with('-'))
}

/// Why the service would not take an item, if it would not.
pub(super) fn refusal(item: &Item) -> Option<String> {
    if let Some((name, _)) = item.iter().find(|(_, value)| depth(value) > DEPTH_MAX) {
        return Some(format!("attribute \"{name}\" is nested deeper than {DEPTH_MAX} levels"));
    }
    let bytes = item_bytes(item);
    (bytes > ITEM_BYTES_MAX).then(|| format!("the item has {bytes} bytes, DynamoDB takes {ITEM_BYTES_MAX}"))
}

fn depth(value: &AttributeValue) -> usize {
    match value {
        AttributeValue::L(values) => 1 + values.iter().map(depth).max().unwrap_or(0),
        AttributeValue::M(values) => 1 + values.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_follow_the_developer_guide() {
        let n = |text: &str| value_bytes(&AttributeValue::N(text.into()));
        assert_eq!((n("0"), n("27"), n("-27"), n("27000"), n("3.14159")), (1, 2, 3, 2, 4));
        let list = AttributeValue::L(vec![AttributeValue::S("ab".into()), AttributeValue::Null(true)]);
        assert_eq!(value_bytes(&list), 3 + 3 + 2);
        let item = Item::from([("name".to_owned(), list), ("é".to_owned(), AttributeValue::Bool(true))]);
        assert_eq!(item_bytes(&item), 4 + 8 + 2 + 1);
    }

    #[test]
    fn what_is_too_large_or_too_deep_is_refused() {
        let text = |bytes: usize| Item::from([("a".to_owned(), AttributeValue::S("x".repeat(bytes)))]);
        assert_eq!(refusal(&text(ITEM_BYTES_MAX - 1)), None);
        let refused = refusal(&text(ITEM_BYTES_MAX)).unwrap_or_default();
        assert_eq!(refused, "the item has 409601 bytes, DynamoDB takes 409600");
        let mut value = AttributeValue::Bool(true);
        for _ in 0..33 {
            value = AttributeValue::L(vec![value]);
        }
        assert!(refusal(&Item::from([("deep".to_owned(), value)])).unwrap_or_default().contains("\"deep\""));
    }
}
