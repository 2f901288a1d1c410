//! Lengths, distances and phonetic or linguistic forms.
//!
//! Invariant: distances count characters, not bytes.

use headwater_engine::error::Result;
use rust_stemmers::{Algorithm, Stemmer};
use unicode_normalization::UnicodeNormalization;

use super::{
    super::{
        Family,
        column::{Bytes, Char, Str, Text, ToBool, ToI64},
        define::{Definition, scalar},
        kernel::{invalid, text1, text2, value1, value2},
    },
    case::put,
};

fn string(name: &'static str, summary: &'static str) -> Definition {
    scalar(Family::String, name, summary)
}

fn count(text: &str) -> Result<Option<i64>> {
    let count = if text.is_ascii() { text.len() } else { text.chars().count() };
    Ok(i64::try_from(count).ok())
}

fn levenshtein(a: &str, b: &str) -> Result<Option<i64>> {
    const WORK_MAX: usize = 1_000_000;
    if a.len().saturating_mul(b.len()) > WORK_MAX {
        return Err(invalid(format!(
            "the combined inputs for Levenshtein distance are too large: {} * {} > {WORK_MAX}",
            a.len(),
            b.len()
        )));
    }
    Ok(i64::try_from(strsim::levenshtein(a, b)).ok())
}

fn hamming(a: &str, b: &str) -> Result<Option<i64>> {
    let distance = strsim::hamming(a, b)
        .map_err(|_| invalid("the input strings to hamming_distance function must have the same length"))?;
    Ok(i64::try_from(distance).ok())
}

/// American Soundex; H and W do not separate equal codes.
fn soundex(text: &str, out: &mut Text) -> Result<bool> {
    const CODES: &[u8; 26] = b"01230120022455012623010202";
    let (mut written, mut last) = (0, b'0');
    for c in text.chars().filter(|c| c.is_alphabetic()).map(|c| c.to_ascii_uppercase()) {
        let index = u32::from(c).wrapping_sub(u32::from('A'));
        let code = usize::try_from(index).ok().and_then(|index| CODES.get(index).copied());
        let code = code.ok_or_else(|| invalid(format!("the character is not mapped: {c} (index={index})")))?;
        if written == 0 {
            out.push(c);
            (written, last) = (1, code);
        } else if !matches!(c, 'H' | 'W') {
            if code != b'0' && code != last && written < 4 {
                out.push(char::from(code));
                written += 1;
            }
            last = code;
        }
    }
    (written..4).filter(|_| written > 0).for_each(|_| out.push('0'));
    Ok(true)
}

fn normalize(text: &str, form: &str, out: &mut Text) -> Result<bool> {
    match form.to_ascii_uppercase().as_str() {
        "NFC" => text.nfc().for_each(|c| out.push(c)),
        "NFD" => text.nfd().for_each(|c| out.push(c)),
        "NFKC" => text.nfkc().for_each(|c| out.push(c)),
        "NFKD" => text.nfkd().for_each(|c| out.push(c)),
        _ => return Err(invalid("normalization form must be one of [NFD, NFC, NFKD, NFKC]")),
    }
    Ok(true)
}

fn stem(text: &str, language: &str, out: &mut Text) -> Result<bool> {
    let algorithm = match language.to_ascii_lowercase().as_str() {
        "en" => Algorithm::English,
        "da" => Algorithm::Danish,
        "nl" => Algorithm::Dutch,
        "fi" => Algorithm::Finnish,
        "fr" => Algorithm::French,
        "de" => Algorithm::German,
        "hu" => Algorithm::Hungarian,
        "it" => Algorithm::Italian,
        "no" => Algorithm::Norwegian,
        "pt" => Algorithm::Portuguese,
        "ro" => Algorithm::Romanian,
        "ru" => Algorithm::Russian,
        "es" => Algorithm::Spanish,
        "sv" => Algorithm::Swedish,
        "tr" => Algorithm::Turkish,
        _ => return Err(invalid(format!("unknown stemmer language: {language}"))),
    };
    put(&Stemmer::create(algorithm).stem(text), out)
}

fn luhn(text: &str) -> Result<Option<bool>> {
    let mut sum = 0;
    for (index, byte) in text.bytes().rev().enumerate() {
        if !byte.is_ascii_digit() {
            return Err(invalid("input contains non-digit character"));
        }
        let digit = u32::from(byte - b'0');
        let doubled = digit * 2;
        sum += if index % 2 == 0 { digit } else { doubled / 10 + doubled % 10 };
    }
    Ok(Some(!text.is_empty() && sum % 10 == 0))
}

/// The functions.
pub(super) fn definitions() -> Vec<Definition> {
    vec![
        string("length", "the number of characters of a text, or of bytes")
            .on("length(varchar) -> bigint", value1::<Str, ToI64>(count))
            .on("length(char) -> bigint", value1::<Char, ToI64>(count))
            .on("length(varbinary) -> bigint", value1::<Bytes, ToI64>(|bytes| Ok(i64::try_from(bytes.len()).ok())))
            .example("SELECT length('héllo')", "5"),
        string("levenshtein_distance", "how many characters to change, add or remove to make one text the other")
            .on("levenshtein_distance(varchar, varchar) -> bigint", value2::<Str, Str, ToI64>(levenshtein))
            .example("SELECT levenshtein_distance('kitten', 'sitting')", "3"),
        string("hamming_distance", "in how many places two texts of one length differ")
            .on("hamming_distance(varchar, varchar) -> bigint", value2::<Str, Str, ToI64>(hamming))
            .example("SELECT hamming_distance('abc', 'abd')", "1"),
        string("soundex", "the American Soundex code of a name")
            .on("soundex(varchar) -> varchar", text1::<Str>(soundex))
            .example("SELECT soundex('Robert')", "R163"),
        string("normalize", "a text in a Unicode normalization form, NFC unless another is named")
            .on("normalize(varchar) -> varchar", text1::<Str>(|text, out| normalize(text, "NFC", out)))
            .on("normalize(varchar, varchar) -> varchar", text2::<Str, Str>(normalize))
            .example("SELECT length(normalize('é', 'NFD'))", "2"),
        string("word_stem", "the stem of a word, English unless another language is named")
            .on("word_stem(varchar) -> varchar", text1::<Str>(|text, out| stem(text, "en", out)))
            .on("word_stem(varchar, varchar) -> varchar", text2::<Str, Str>(stem))
            .example("SELECT word_stem('running')", "run"),
        string("luhn_check", "whether a text of digits has a right Luhn check digit")
            .on("luhn_check(varchar) -> boolean", value1::<Str, ToBool>(luhn))
            .example("SELECT luhn_check('79927398713')", "true"),
    ]
}
