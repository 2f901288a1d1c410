//! Functions over sketches: distinct counts, quantiles and sets that can be compared.
//!
//! Invariant: a sketch is only ever read as the type its signature names.

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BinaryArray, Float32Array, Float64Array, Int16Builder, Int64Array, Int64Builder,
        ListArray, MapBuilder,
    },
    buffer::{NullBuffer, OffsetBuffer},
    datatypes::{DataType, Field, Float64Type},
};
use headwater_engine::error::{Error, Result};

use super::{
    Family, Function,
    define::{self, Definition, scalar},
    kernel::{invalid, whole},
    scalar::{Call, Kernel},
};
use crate::{
    kernels::tdigest::Digest,
    sketches::{Sketch, aggregate::ordered, hll::Hll, qdigest::QDigest, set_digest::SetDigest},
};

/// The family's functions.
pub fn functions() -> Result<Vec<Function>> {
    let mut all = sets();
    all.extend(quantiles());
    define::build(all)
}

fn aggregate(name: &'static str, summary: &'static str) -> Definition {
    scalar(Family::Aggregate, name, summary)
}

/// The sketches of an argument, as bytes.
fn bytes(call: &Call<'_>, index: usize) -> Result<BinaryArray> {
    Sketch::unwrap(&call.full(index)?)
}

/// A number of each sketch.
pub(super) fn count(of: fn(&[u8]) -> Result<i64>) -> Kernel {
    whole(move |call| {
        let counts = bytes(call, 0)?.iter().map(|one| one.map(of).transpose()).collect::<Result<Int64Array>>()?;
        Ok(Arc::new(counts))
    })
}

/// `cardinality(hyperloglog)`
pub(super) fn count_of_hll(bytes: &[u8]) -> Result<i64> {
    Ok(Hll::from_bytes(bytes)?.cardinality())
}

/// `cardinality(setdigest)`
pub(super) fn count_of_set(bytes: &[u8]) -> Result<i64> {
    Ok(SetDigest::from_bytes(bytes)?.cardinality())
}

fn two_sets<T>(call: &Call<'_>, of: impl Fn(&SetDigest, &SetDigest) -> Result<T>) -> Result<Vec<Option<T>>> {
    let (a, b) = (bytes(call, 0)?, bytes(call, 1)?);
    a.iter()
        .zip(b.iter())
        .map(|(a, b)| match (a, b) {
            (Some(a), Some(b)) => of(&SetDigest::from_bytes(a)?, &SetDigest::from_bytes(b)?).map(Some),
            _ => Ok(None),
        })
        .collect()
}

/// Bucket bits of an empty set.
const EMPTY_BITS: u8 = 12;

fn sets() -> Vec<Definition> {
    vec![
        aggregate("empty_approx_set", "a distinct count of nothing")
            .on(
                "empty_approx_set() -> hyperloglog",
                whole(|call| {
                    let empty = Hll::new(EMPTY_BITS).to_bytes();
                    Sketch::HyperLogLog.wrap(BinaryArray::from_iter_values(std::iter::repeat_n(&empty, call.rows)))
                }),
            )
            .example("SELECT cardinality(empty_approx_set())", "0"),
        aggregate("intersection_cardinality", "about how many values two sets share")
            .on(
                "intersection_cardinality(setdigest, setdigest) -> bigint",
                whole(|call| Ok(Arc::new(Int64Array::from(two_sets(call, |a, b| a.intersection(b))?)))),
            )
            .example(
                "SELECT intersection_cardinality(make_set_digest(a), make_set_digest(b)) FROM (VALUES (1, 2), (2, 3)) t(a, b)",
                "1",
            ),
        aggregate("jaccard_index", "about which share of their values two sets share")
            .on(
                "jaccard_index(setdigest, setdigest) -> double",
                whole(|call| Ok(Arc::new(Float64Array::from(two_sets(call, |a, b| Ok(a.jaccard(b)))?)))),
            )
            .example("SELECT jaccard_index(make_set_digest(x), make_set_digest(x)) FROM (VALUES 1, 2) t(x)", "1.0"),
        aggregate("hash_counts", "the hashes of a set's values and how often each came")
            .on(
                "hash_counts(setdigest) -> map(bigint, smallint)",
                whole(|call| {
                    let mut out = MapBuilder::new(None, Int64Builder::new(), Int16Builder::new());
                    for one in bytes(call, 0)?.iter() {
                        if let Some(one) = one {
                            for (hash, times) in SetDigest::from_bytes(one)?.counts() {
                                out.keys().append_value(hash);
                                out.values().append_value(times);
                            }
                        }
                        out.append(one.is_some())?;
                    }
                    let made: ArrayRef = Arc::new(out.finish());
                    crate::kernels::fit(made, call.result)
                }),
            )
            .example("SELECT cardinality(hash_counts(make_set_digest(x))) FROM (VALUES 1, 1, 2) t(x)", "2"),
    ]
}

/// Something that has quantiles.
enum Quantiles {
    Digest(Digest),
    Ranks(QDigest),
}

impl Quantiles {
    fn read(sketch: Sketch, bytes: &[u8]) -> Result<Self> {
        Ok(match sketch {
            Sketch::TDigest => {
                let mut digest = Digest::from_bytes(bytes)?;
                digest.finish();
                Self::Digest(digest)
            }
            _ => Self::Ranks(QDigest::from_bytes(bytes)?),
        })
    }

    fn at(&self, sketch: Sketch, share: f64) -> Result<Option<Number>> {
        if !(0.0..=1.0).contains(&share) {
            return Err(invalid(format!("quantile must be within bounds [0, 1], was: {share:?}")));
        }
        Ok(match self {
            Self::Digest(digest) => digest.quantile(share).map(Number::Double),
            Self::Ranks(ranks) => ranks.value_at(share).map(|value| match sketch {
                Sketch::QDigestDouble => Number::Double(f64::from_bits(folded(value) as u64)),
                Sketch::QDigestReal => Number::Double(f64::from(real(value))),
                _ => Number::Bigint(value),
            }),
        })
    }
}

/// A value of a digest.
#[derive(Clone, Copy)]
enum Number {
    Bigint(i64),
    Double(f64),
}

fn folded(bits: i64) -> i64 {
    if bits < 0 { bits ^ i64::MAX } else { bits }
}

fn real(value: i64) -> f32 {
    let bits = value as i32;
    f32::from_bits((if bits < 0 { bits ^ i32::MAX } else { bits }) as u32)
}

fn numbers(values: Vec<Option<Number>>, of: &DataType) -> Result<ArrayRef> {
    let double = |value: Option<Number>| match value {
        Some(Number::Double(value)) => Some(value),
        _ => None,
    };
    Ok(match of {
        DataType::Int64 => Arc::new(
            values
                .into_iter()
                .map(|value| match value {
                    Some(Number::Bigint(value)) => Some(value),
                    _ => None,
                })
                .collect::<Int64Array>(),
        ),
        DataType::Float32 => {
            Arc::new(values.into_iter().map(|value| double(value).map(|value| value as f32)).collect::<Float32Array>())
        }
        DataType::Float64 => Arc::new(values.into_iter().map(double).collect::<Float64Array>()),
        other => return Err(Error::internal(format!("a quantile is no {other}"))),
    })
}

fn value_at(sketch: Sketch) -> Kernel {
    whole(move |call| {
        let (sketches, shares) = (bytes(call, 0)?, call.full(1)?);
        let shares = shares.as_primitive::<Float64Type>();
        let found = sketches
            .iter()
            .zip(shares)
            .map(|(one, share)| match (one, share) {
                (Some(one), Some(share)) => Quantiles::read(sketch, one)?.at(sketch, share),
                _ => Ok(None),
            })
            .collect::<Result<Vec<_>>>()?;
        numbers(found, call.result)
    })
}

fn values_at(sketch: Sketch) -> Kernel {
    whole(move |call| {
        let (sketches, shares) = (bytes(call, 0)?, call.full(1)?);
        let shares = shares.as_list::<i32>();
        let DataType::List(item) = call.result else { return Err(Error::internal("expected an array type")) };
        let (mut found, mut lengths, mut valid) = (Vec::new(), Vec::new(), Vec::new());
        for (row, one) in sketches.iter().enumerate() {
            let before = found.len();
            if let Some(one) = one.filter(|_| shares.is_valid(row)) {
                let read = Quantiles::read(sketch, one)?;
                for share in shares.value(row).as_primitive::<Float64Type>() {
                    let share = share.ok_or_else(|| invalid("a percentile must not be NULL"))?;
                    found.push(read.at(sketch, share)?);
                }
                valid.push(true);
            } else {
                valid.push(false);
            }
            lengths.push(found.len() - before);
        }
        let values = numbers(found, item.data_type())?;
        let offsets = OffsetBuffer::from_lengths(lengths);
        let item = Arc::new(Field::new("item", item.data_type().clone(), true));
        Ok(Arc::new(ListArray::try_new(item, offsets, values, Some(NullBuffer::from(valid)))?))
    })
}

fn share_at() -> Kernel {
    whole(|call| {
        let sketches = bytes(call, 0)?;
        let values = ordered(&call.full(1)?)?;
        let found = sketches.iter().zip(values.iter()).map(|(one, value)| match (one, value) {
            (Some(one), Some(value)) => Ok(QDigest::from_bytes(one)?.share_at(value)),
            _ => Ok(None),
        });
        Ok(Arc::new(found.collect::<Result<Float64Array>>()?))
    })
}

fn quantiles() -> Vec<Definition> {
    vec![
        aggregate("value_at_quantile", "about the value below which a share of a digest's values lies")
            .on("value_at_quantile(qdigest(bigint), double) -> bigint", value_at(Sketch::QDigestBigint))
            .on("value_at_quantile(qdigest(double), double) -> double", value_at(Sketch::QDigestDouble))
            .on("value_at_quantile(qdigest(real), double) -> real", value_at(Sketch::QDigestReal))
            .on("value_at_quantile(tdigest, double) -> double", value_at(Sketch::TDigest))
            .example("SELECT value_at_quantile(qdigest_agg(x), 0.5) FROM (VALUES 1, 2, 3) t(x)", "2"),
        aggregate("values_at_quantiles", "about the values below which shares of a digest's values lie")
            .on(
                "values_at_quantiles(qdigest(bigint), array(double)) -> array(bigint)",
                values_at(Sketch::QDigestBigint),
            )
            .on(
                "values_at_quantiles(qdigest(double), array(double)) -> array(double)",
                values_at(Sketch::QDigestDouble),
            )
            .on("values_at_quantiles(qdigest(real), array(double)) -> array(real)", values_at(Sketch::QDigestReal))
            .on("values_at_quantiles(tdigest, array(double)) -> array(double)", values_at(Sketch::TDigest))
            .example(
                "SELECT values_at_quantiles(tdigest_agg(x), ARRAY[0.0, 1.0]) FROM (VALUES 1, 2, 3) t(x)",
                "[1.0, 3.0]",
            ),
        aggregate("quantile_at_value", "about which share of a digest's values lies below a value")
            .on("quantile_at_value(qdigest(bigint), bigint) -> double", share_at())
            .on("quantile_at_value(qdigest(double), double) -> double", share_at())
            .on("quantile_at_value(qdigest(real), real) -> double", share_at())
            .example("SELECT quantile_at_value(qdigest_agg(x), 3) FROM (VALUES 1, 2, 3, 4) t(x)", "0.5"),
    ]
}
