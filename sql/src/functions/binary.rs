//! Bytes: encodings, hashes, numbers as bytes.
//!
//! Invariant: what an encoding writes its decoding reads back; text that is no encoding is an error.

use arrow::array::FixedSizeBinaryBuilder;
use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use datafusion::logical_expr::Volatility;
use headwater_engine::error::{Error, Result};
use hmac::{Hmac, Mac};
use md5::{Digest, Md5};
use sha1::Sha1;
use sha2::{Sha256, Sha512};

use super::{
    Family, Function,
    column::{Bytes, F32, F64, I32, I64, Str, ToBytes, ToF32, ToF64, ToI32, ToI64},
    define::{self, Definition, scalar},
    kernel::{invalid, text1, text2, value1, value2},
    scalar::Kernel,
};

/// The family's functions.
pub fn functions() -> Result<Vec<Function>> {
    let mut all = texts();
    all.extend(bases());
    all.extend(hashes());
    all.extend(keyed());
    all.extend(numbers());
    all.push(uuid());
    all.extend(super::spooky::definitions(binary));
    define::build(all)
}

fn uuid() -> Definition {
    binary("uuid", "a random UUID")
        .on(
            "uuid() -> uuid",
            super::kernel::whole(|call| {
                let mut out = FixedSizeBinaryBuilder::with_capacity(call.rows, 16);
                for _ in 0..call.rows {
                    let mut bytes: [u8; 16] = rand::random();
                    bytes[6] = bytes[6] & 0x0F | 0x40;
                    bytes[8] = bytes[8] & 0x3F | 0x80;
                    out.append_value(bytes)?;
                }
                Ok(std::sync::Arc::new(out.finish()))
            }),
        )
        .volatility(Volatility::Volatile)
        .example("SELECT uuid() IS NOT NULL", "true")
}

fn binary(name: &'static str, summary: &'static str) -> Definition {
    scalar(Family::Binary, name, summary)
}

const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

fn encode(f: fn(&[u8]) -> String) -> Kernel {
    text1::<Bytes>(move |bytes, out| {
        out.push_str(&f(bytes));
        Ok(true)
    })
}

fn decode(f: fn(&str) -> Result<Vec<u8>>) -> Kernel {
    value1::<Str, ToBytes>(move |text| f(text).map(Some))
}

/// Bytes as text. A sequence that is complete but means no character is replaced once, a broken one up to where it
/// breaks, as Trino does.
fn utf8(bytes: &[u8], with: &str) -> String {
    let mut out = String::with_capacity(bytes.len());
    let mut rest = bytes;
    while !rest.is_empty() {
        let (good, bad) = match std::str::from_utf8(rest) {
            Ok(text) => (text, 0),
            Err(error) => {
                let (good, bad) = rest.split_at(error.valid_up_to());
                (std::str::from_utf8(good).unwrap_or_default(), broken_length(bad))
            }
        };
        out.push_str(good);
        if bad > 0 {
            out.push_str(with);
        }
        rest = &rest[good.len() + bad..];
    }
    out
}

/// How many bytes a sequence takes that is no character.
fn broken_length(bytes: &[u8]) -> usize {
    let wanted = match bytes.first() {
        Some(0xC0..=0xDF) => 2,
        Some(0xE0..=0xEF) => 3,
        Some(0xF0..=0xF7) => 4,
        Some(0xF8..=0xFB) => 5,
        Some(0xFC..=0xFD) => 6,
        _ => 1,
    };
    1 + bytes.iter().skip(1).take(wanted - 1).take_while(|byte| **byte & 0xC0 == 0x80).count()
}

/// The same of text that comes as bytes.
fn decode_bytes(f: fn(&str) -> Result<Vec<u8>>) -> Kernel {
    value1::<Bytes, ToBytes>(move |bytes| {
        let text = std::str::from_utf8(bytes).map_err(|error| invalid(error.to_string()))?;
        f(text).map(Some)
    })
}

fn texts() -> Vec<Definition> {
    vec![
        binary("to_utf8", "a text's bytes")
            .on("to_utf8(varchar) -> varbinary", value1::<Str, ToBytes>(|text| Ok(Some(text.as_bytes().to_vec()))))
            .example("SELECT to_hex(to_utf8('a'))", "61"),
        binary("from_utf8", "bytes as text; what is no UTF-8 is replaced")
            .on("from_utf8(varbinary) -> varchar", encode(|bytes| utf8(bytes, "\u{FFFD}")))
            .on(
                "from_utf8(varbinary, varchar) -> varchar",
                text2::<Bytes, Str>(|bytes, with, out| {
                    if with.chars().nth(1).is_some() {
                        return Err(invalid("replacement character string must empty or a single character"));
                    }
                    out.push_str(&utf8(bytes, with));
                    Ok(true)
                }),
            )
            .on(
                "from_utf8(varbinary, bigint) -> varchar",
                text2::<Bytes, I64>(|bytes, code, out| {
                    let with = u32::try_from(code).ok().and_then(char::from_u32);
                    let with = with.ok_or_else(|| invalid(format!("invalid replacement code point {code}")))?;
                    out.push_str(&utf8(bytes, with.encode_utf8(&mut [0; 4])));
                    Ok(true)
                }),
            )
            .example("SELECT from_utf8(X'61')", "a"),
        binary("to_hex", "bytes in hexadecimal")
            .on("to_hex(varbinary) -> varchar", encode(|bytes| hex::encode_upper(bytes)))
            .example("SELECT to_hex(X'0a')", "0A"),
        binary("from_hex", "the bytes hexadecimal text writes")
            .on(
                "from_hex(varchar) -> varbinary",
                decode(|text| hex::decode(text).map_err(|error| invalid(error.to_string()))),
            )
            .on(
                "from_hex(varbinary) -> varbinary",
                decode_bytes(|text| hex::decode(text).map_err(|error| invalid(error.to_string()))),
            )
            .example("SELECT to_hex(from_hex('0a'))", "0A"),
    ]
}

fn bases() -> Vec<Definition> {
    vec![
        binary("to_base64", "bytes in base64")
            .on("to_base64(varbinary) -> varchar", encode(|bytes| STANDARD.encode(bytes)))
            .example("SELECT to_base64(X'61')", "YQ=="),
        binary("from_base64", "the bytes base64 text writes")
            .on(
                "from_base64(varchar) -> varbinary",
                decode(|text| STANDARD.decode(text).map_err(|error| invalid(error.to_string()))),
            )
            .on(
                "from_base64(varbinary) -> varbinary",
                decode_bytes(|text| STANDARD.decode(text).map_err(|error| invalid(error.to_string()))),
            )
            .example("SELECT to_hex(from_base64('YQ=='))", "61"),
        binary("to_base64url", "bytes in base64 with the URL alphabet")
            .on("to_base64url(varbinary) -> varchar", encode(|bytes| URL.encode(bytes)))
            .example("SELECT to_base64url(X'FF')", "_w=="),
        binary("from_base64url", "the bytes base64 text of the URL alphabet writes")
            .on(
                "from_base64url(varchar) -> varbinary",
                decode(|text| URL.decode(text).map_err(|error| invalid(error.to_string()))),
            )
            .on(
                "from_base64url(varbinary) -> varbinary",
                decode_bytes(|text| URL.decode(text).map_err(|error| invalid(error.to_string()))),
            )
            .example("SELECT to_hex(from_base64url('_w=='))", "FF"),
        binary("to_base32", "bytes in base32")
            .on("to_base32(varbinary) -> varchar", encode(to_base32))
            .example("SELECT to_base32(X'61')", "ME======"),
        binary("from_base32", "the bytes base32 text writes")
            .on("from_base32(varchar) -> varbinary", decode(from_base32))
            .on("from_base32(varbinary) -> varbinary", decode_bytes(from_base32))
            .example("SELECT to_hex(from_base32('ME======'))", "61"),
    ]
}

const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

fn to_base32(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.chunks(5) {
        let mut block = [0u8; 8];
        block[3..3 + chunk.len()].copy_from_slice(chunk);
        let bits = u64::from_be_bytes(block);
        let digits = (chunk.len() * 8).div_ceil(5);
        for index in 0..8 {
            if index < digits {
                out.push(char::from(BASE32[(bits >> (35 - 5 * index) & 31) as usize]));
            } else {
                out.push('=');
            }
        }
    }
    out
}

fn from_base32(text: &str) -> Result<Vec<u8>> {
    let (mut bits, mut held, mut out) = (0u64, 0, Vec::new());
    let digits = text.trim_end_matches('=').len();
    if matches!(digits % 8, 1 | 3 | 6) {
        return Err(invalid(format!("invalid input length {digits}")));
    }
    for c in text.trim_end_matches('=').bytes() {
        let digit = BASE32
            .iter()
            .position(|known| *known == c)
            .ok_or_else(|| invalid(format!("unrecognized character: {}", char::from(c))))?;
        bits = bits << 5 | digit as u64;
        held += 5;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
        }
    }
    Ok(out)
}

fn digest(f: fn(&[u8]) -> Vec<u8>) -> Kernel {
    value1::<Bytes, ToBytes>(move |bytes| Ok(Some(f(bytes))))
}

fn hashes() -> Vec<Definition> {
    vec![
        binary("md5", "the MD5 digest")
            .on("md5(varbinary) -> varbinary", digest(|b| Md5::digest(b).to_vec()))
            .example("SELECT to_hex(md5(X''))", "D41D8CD98F00B204E9800998ECF8427E"),
        binary("sha1", "the SHA-1 digest")
            .on("sha1(varbinary) -> varbinary", digest(|b| Sha1::digest(b).to_vec()))
            .example("SELECT length(sha1(X''))", "20"),
        binary("sha256", "the SHA-256 digest")
            .on("sha256(varbinary) -> varbinary", digest(|b| Sha256::digest(b).to_vec()))
            .example("SELECT length(sha256(X''))", "32"),
        binary("sha512", "the SHA-512 digest")
            .on("sha512(varbinary) -> varbinary", digest(|b| Sha512::digest(b).to_vec()))
            .example("SELECT length(sha512(X''))", "64"),
        binary("crc32", "the CRC-32 checksum")
            .on("crc32(varbinary) -> bigint", value1::<Bytes, ToI64>(|b| Ok(Some(i64::from(crc32fast::hash(b))))))
            .example("SELECT crc32(X'')", "0"),
        binary("xxhash64", "the xxHash64 of bytes")
            .on(
                "xxhash64(varbinary) -> varbinary",
                digest(|b| twox_hash::XxHash64::oneshot(0, b).to_be_bytes().to_vec()),
            )
            .example("SELECT to_hex(xxhash64(X''))", "EF46DB3751D8E999"),
        binary("murmur3", "the 128-bit Murmur3 hash of bytes")
            .on(
                "murmur3(varbinary) -> varbinary",
                value1::<Bytes, ToBytes>(|b| {
                    let mut bytes = b;
                    let hash =
                        murmur3::murmur3_x64_128(&mut bytes, 0).map_err(|error| Error::internal(error.to_string()))?;
                    Ok(Some(hash.to_le_bytes().to_vec()))
                }),
            )
            .example("SELECT length(murmur3(X''))", "16"),
    ]
}

fn mac<M: Mac + hmac::digest::KeyInit>(data: &[u8], key: &[u8]) -> Result<Option<Vec<u8>>> {
    let mut mac = <M as Mac>::new_from_slice(key).map_err(|error| invalid(error.to_string()))?;
    mac.update(data);
    Ok(Some(mac.finalize().into_bytes().to_vec()))
}

fn keyed() -> Vec<Definition> {
    vec![
        binary("hmac_md5", "the HMAC with MD5 of bytes and a key")
            .on("hmac_md5(varbinary, varbinary) -> varbinary", value2::<Bytes, Bytes, ToBytes>(mac::<Hmac<Md5>>))
            .example("SELECT length(hmac_md5(X'', X'01'))", "16"),
        binary("hmac_sha1", "the HMAC with SHA-1 of bytes and a key")
            .on("hmac_sha1(varbinary, varbinary) -> varbinary", value2::<Bytes, Bytes, ToBytes>(mac::<Hmac<Sha1>>))
            .example("SELECT length(hmac_sha1(X'', X'01'))", "20"),
        binary("hmac_sha256", "the HMAC with SHA-256 of bytes and a key")
            .on("hmac_sha256(varbinary, varbinary) -> varbinary", value2::<Bytes, Bytes, ToBytes>(mac::<Hmac<Sha256>>))
            .example("SELECT length(hmac_sha256(X'', X'01'))", "32"),
        binary("hmac_sha512", "the HMAC with SHA-512 of bytes and a key")
            .on("hmac_sha512(varbinary, varbinary) -> varbinary", value2::<Bytes, Bytes, ToBytes>(mac::<Hmac<Sha512>>))
            .example("SELECT length(hmac_sha512(X'', X'01'))", "64"),
    ]
}

fn sized<const N: usize>(bytes: &[u8], what: &str) -> Result<[u8; N]> {
    <[u8; N]>::try_from(bytes).map_err(|_| invalid(format!("expected {N} bytes for {what}, found {}", bytes.len())))
}

fn numbers() -> Vec<Definition> {
    vec![
        binary("to_big_endian_32", "an integer as four bytes, the highest first")
            .on(
                "to_big_endian_32(integer) -> varbinary",
                value1::<I32, ToBytes>(|x| Ok(Some(x.to_be_bytes().to_vec()))),
            )
            .example("SELECT to_hex(to_big_endian_32(1))", "00000001"),
        binary("to_big_endian_64", "a bigint as eight bytes, the highest first")
            .on("to_big_endian_64(bigint) -> varbinary", value1::<I64, ToBytes>(|x| Ok(Some(x.to_be_bytes().to_vec()))))
            .example("SELECT to_hex(to_big_endian_64(1))", "0000000000000001"),
        binary("from_big_endian_32", "the integer four bytes write")
            .on(
                "from_big_endian_32(varbinary) -> integer",
                value1::<Bytes, ToI32>(|b| Ok(Some(i32::from_be_bytes(sized(b, "an integer")?)))),
            )
            .example("SELECT from_big_endian_32(X'00000001')", "1"),
        binary("from_big_endian_64", "the bigint eight bytes write")
            .on(
                "from_big_endian_64(varbinary) -> bigint",
                value1::<Bytes, ToI64>(|b| Ok(Some(i64::from_be_bytes(sized(b, "a bigint")?)))),
            )
            .example("SELECT from_big_endian_64(X'0000000000000001')", "1"),
        binary("to_ieee754_32", "a real as four bytes")
            .on("to_ieee754_32(real) -> varbinary", value1::<F32, ToBytes>(|x| Ok(Some(x.to_be_bytes().to_vec()))))
            .example("SELECT to_hex(to_ieee754_32(REAL '1.5'))", "3FC00000"),
        binary("to_ieee754_64", "a double as eight bytes")
            .on("to_ieee754_64(double) -> varbinary", value1::<F64, ToBytes>(|x| Ok(Some(x.to_be_bytes().to_vec()))))
            .example("SELECT to_hex(to_ieee754_64(1.5))", "3FF8000000000000"),
        binary("from_ieee754_32", "the real four bytes write")
            .on(
                "from_ieee754_32(varbinary) -> real",
                value1::<Bytes, ToF32>(|b| Ok(Some(f32::from_be_bytes(sized(b, "a real")?)))),
            )
            .example("SELECT from_ieee754_32(X'3FC00000')", "1.5"),
        binary("from_ieee754_64", "the double eight bytes write")
            .on(
                "from_ieee754_64(varbinary) -> double",
                value1::<Bytes, ToF64>(|b| Ok(Some(f64::from_be_bytes(sized(b, "a double")?)))),
            )
            .example("SELECT from_ieee754_64(X'3FF8000000000000')", "1.5"),
    ]
}
