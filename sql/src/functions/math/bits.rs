//! Functions of bits, in two's complement.
//!
//! Invariant: shifts keep the type of what is shifted; a shift by its width or more gives 0, or the sign.

use super::super::{
    Family,
    column::{I8, I16, I32, I64, Str, ToBool, ToI8, ToI16, ToI32, ToI64},
    define::{Definition, scalar},
    kernel::{invalid, value1, value2},
};
use headwater_engine::error::Result;

fn math(name: &'static str, summary: &'static str) -> Definition {
    scalar(Family::Math, name, summary)
}

pub(super) fn definitions() -> Vec<Definition> {
    vec![
        math("bitwise_and", "the bits set in both numbers")
            .on("bitwise_and(bigint, bigint) -> bigint", value2::<I64, I64, ToI64>(|a, b| Ok(Some(a & b))))
            .example("SELECT bitwise_and(19, 25)", "17"),
        math("bitwise_or", "the bits set in either number")
            .on("bitwise_or(bigint, bigint) -> bigint", value2::<I64, I64, ToI64>(|a, b| Ok(Some(a | b))))
            .example("SELECT bitwise_or(19, 25)", "27"),
        math("bitwise_xor", "the bits set in one number only")
            .on("bitwise_xor(bigint, bigint) -> bigint", value2::<I64, I64, ToI64>(|a, b| Ok(Some(a ^ b))))
            .example("SELECT bitwise_xor(19, 25)", "10"),
        math("bitwise_not", "the bits not set")
            .on("bitwise_not(bigint) -> bigint", value1::<I64, ToI64>(|a| Ok(Some(!a))))
            .example("SELECT bitwise_not(19)", "-20"),
        left_shift(),
        right_shift(),
        arithmetic_shift(),
        math("bit_count", "how many of a number's lowest bits are set")
            .on(
                "bit_count(bigint, bigint) -> bigint",
                value2::<I64, I64, ToI64>(|x, bits| bit_count(x, bits).map(Some)),
            )
            .example("SELECT bit_count(9, 64)", "2"),
        math("luhn_check", "whether the last digit of a number written as text is its Luhn check digit")
            .on("luhn_check(varchar) -> boolean", value1::<Str, ToBool>(|text| luhn(text).map(Some)))
            .example("SELECT luhn_check('79927398713')", "true"),
    ]
}

/// A shift by `n` of a number of `width` bits as Java has it: from the width on nothing is left, and of a negative `n`
/// the lowest six bits count.
fn left(x: i64, n: i64, width: i64) -> i64 {
    if n >= width { 0 } else { x.wrapping_shl(n as u32 & 63) }
}

fn right(x: i64, n: i64, width: i64) -> i64 {
    match n {
        n if n >= width => 0,
        0 => x,
        n => ((x as u64 & u64::MAX >> (64 - width)).wrapping_shr(n as u32 & 63)) as i64,
    }
}

fn arithmetic(x: i64, n: i64, width: i64) -> i64 {
    if n >= width { x >> 63 } else { x.wrapping_shr(n as u32 & 63) }
}

fn left_shift() -> Definition {
    math("bitwise_left_shift", "a number's bits moved to the left")
        .on(
            "bitwise_left_shift(tinyint, bigint) -> tinyint",
            value2::<I8, I64, ToI8>(|x, n| Ok(Some(left(i64::from(x), n, 8) as i8))),
        )
        .on(
            "bitwise_left_shift(smallint, bigint) -> smallint",
            value2::<I16, I64, ToI16>(|x, n| Ok(Some(left(i64::from(x), n, 16) as i16))),
        )
        .on(
            "bitwise_left_shift(integer, bigint) -> integer",
            value2::<I32, I64, ToI32>(|x, n| Ok(Some(left(i64::from(x), n, 32) as i32))),
        )
        .on("bitwise_left_shift(bigint, bigint) -> bigint", value2::<I64, I64, ToI64>(|x, n| Ok(Some(left(x, n, 64)))))
        .example("SELECT bitwise_left_shift(19, 2)", "76")
}

fn right_shift() -> Definition {
    math("bitwise_right_shift", "a number's bits moved to the right, zeros following")
        .on(
            "bitwise_right_shift(tinyint, bigint) -> tinyint",
            value2::<I8, I64, ToI8>(|x, n| Ok(Some(right(i64::from(x), n, 8) as i8))),
        )
        .on(
            "bitwise_right_shift(smallint, bigint) -> smallint",
            value2::<I16, I64, ToI16>(|x, n| Ok(Some(right(i64::from(x), n, 16) as i16))),
        )
        .on(
            "bitwise_right_shift(integer, bigint) -> integer",
            value2::<I32, I64, ToI32>(|x, n| Ok(Some(right(i64::from(x), n, 32) as i32))),
        )
        .on(
            "bitwise_right_shift(bigint, bigint) -> bigint",
            value2::<I64, I64, ToI64>(|x, n| Ok(Some(right(x, n, 64)))),
        )
        .example("SELECT bitwise_right_shift(-8, 62)", "0")
}

fn arithmetic_shift() -> Definition {
    math("bitwise_right_shift_arithmetic", "a number's bits moved to the right, its sign following")
        .on(
            "bitwise_right_shift_arithmetic(tinyint, bigint) -> tinyint",
            value2::<I8, I64, ToI8>(|x, n| Ok(Some(arithmetic(i64::from(x), n, 8) as i8))),
        )
        .on(
            "bitwise_right_shift_arithmetic(smallint, bigint) -> smallint",
            value2::<I16, I64, ToI16>(|x, n| Ok(Some(arithmetic(i64::from(x), n, 16) as i16))),
        )
        .on(
            "bitwise_right_shift_arithmetic(integer, bigint) -> integer",
            value2::<I32, I64, ToI32>(|x, n| Ok(Some(arithmetic(i64::from(x), n, 32) as i32))),
        )
        .on(
            "bitwise_right_shift_arithmetic(bigint, bigint) -> bigint",
            value2::<I64, I64, ToI64>(|x, n| Ok(Some(arithmetic(x, n, 64)))),
        )
        .example("SELECT bitwise_right_shift_arithmetic(-8, 2)", "-2")
}

fn bit_count(x: i64, bits: i64) -> Result<i64> {
    if !(2..=64).contains(&bits) {
        return Err(invalid(format!("bits specified in bit_count must be between 2 and 64, got {bits}")));
    }
    if bits == 64 {
        return Ok(i64::from(x.count_ones()));
    }
    let limit = 1i64 << (bits - 1);
    if !(-limit..limit).contains(&x) {
        return Err(invalid(format!(
            "number must be representable with the bits specified: {x} can not be represented with {bits} bits"
        )));
    }
    Ok(i64::from((x & ((1i64 << bits) - 1)).count_ones()))
}

fn luhn(text: &str) -> Result<bool> {
    if !text.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(invalid("input contains non-digit characters"));
    }
    let sum: u32 = text
        .bytes()
        .rev()
        .enumerate()
        .map(|(index, digit)| {
            let value = u32::from(digit - b'0') * if index % 2 == 1 { 2 } else { 1 };
            value / 10 + value % 10
        })
        .sum();
    Ok(!text.is_empty() && sum.is_multiple_of(10))
}
