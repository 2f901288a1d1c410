//! Aggregates whose state is a sketch, for DataFusion: the state travels as bytes.
//!
//! Invariant: merging the states of parts of the input gives what one state of all of it gives.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, BinaryArray, Float64Array, Int64Array, ListArray},
    buffer::OffsetBuffer,
    compute::cast,
    datatypes::{DataType, Field, FieldRef, Float64Type, Int64Type},
};
use datafusion::{
    common::{Result as PlanResult, ScalarValue},
    logical_expr::{
        Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility,
        function::{AccumulatorArgs, StateFieldsArgs},
    },
};
use headwater_engine::error::{Error, Result};

use super::{
    Sketch,
    buckets::{Frequent, Histogram},
    bytes::Reader,
    hash,
    hll::Hll,
    moments::Moments,
    qdigest::{ERROR_DEFAULT, QDigest},
    set_digest::SetDigest,
    shown::{frequent, map_of, one_map, whole},
};
use crate::kernels::{render::java_double, tdigest::Digest};

/// Which state, and what is made of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `approx_distinct(x [, error])`
    ApproxDistinct,
    /// `approx_set(x)`
    ApproxSet,
    /// `make_set_digest(x)`
    SetDigest,
    /// `tdigest_agg(x, weight)`
    TDigest,
    /// `qdigest_agg(x, weight, error)`: the sketch type tells the values'
    QDigest(Sketch),
    /// `merge(sketch)`
    Merge(Sketch),
    /// `approx_percentile(x, weight, shares)` as an array of doubles
    Percentile,
    /// `skewness(x)`
    Skewness,
    /// `kurtosis(x)`
    Kurtosis,
    /// `checksum(x)`
    Checksum,
    /// `numeric_histogram(x, buckets, weight)` as a map of doubles
    Histogram,
    /// `approx_most_frequent(x, buckets, capacity)` of text (`true`) or whole numbers
    Frequent(bool),
}

/// Bucket bits of `approx_set`.
const SET_BITS: u8 = 12;
/// The standard error of `approx_distinct` unless another is given.
const DISTINCT_ERROR: f64 = 0.023;
/// Multiplies hashes in checksums.
const CHECKSUM_PRIME: u64 = 0x9E37_79B1_85EB_CA87;

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::ApproxDistinct => "approx_distinct",
            Self::ApproxSet => "approx_set",
            Self::SetDigest => "make_set_digest",
            Self::TDigest => "tdigest_agg",
            Self::QDigest(_) => "qdigest_agg",
            Self::Merge(Sketch::SetDigest) => "merge_set_digest",
            Self::Merge(_) => "merge",
            Self::Percentile => "approx_percentile",
            Self::Skewness => "skewness",
            Self::Kurtosis => "kurtosis",
            Self::Checksum => "checksum",
            Self::Histogram => "numeric_histogram",
            Self::Frequent(_) => "approx_most_frequent",
        }
    }

    fn result(self) -> DataType {
        match self {
            Self::ApproxDistinct => DataType::Int64,
            Self::ApproxSet => Sketch::HyperLogLog.to_arrow(),
            Self::SetDigest => Sketch::SetDigest.to_arrow(),
            Self::TDigest => Sketch::TDigest.to_arrow(),
            Self::QDigest(sketch) | Self::Merge(sketch) => sketch.to_arrow(),
            Self::Percentile => DataType::List(Field::new("item", DataType::Float64, true).into()),
            Self::Skewness | Self::Kurtosis => DataType::Float64,
            Self::Checksum => DataType::Binary,
            Self::Histogram => map_of(DataType::Float64, DataType::Float64),
            Self::Frequent(true) => map_of(DataType::Utf8, DataType::Int64),
            Self::Frequent(false) => map_of(DataType::Int64, DataType::Int64),
        }
    }
}

/// The aggregate of a kind.
pub fn aggregate(kind: Kind) -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::new_from_impl(SketchAggregate {
        kind,
        signature: Signature::variadic_any(Volatility::Immutable),
    }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct SketchAggregate {
    kind: Kind,
    signature: Signature,
}

impl AggregateUDFImpl for SketchAggregate {
    fn name(&self) -> &str {
        self.kind.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> PlanResult<DataType> {
        Ok(self.kind.result())
    }

    fn accumulator(&self, _: AccumulatorArgs<'_>) -> PlanResult<Box<dyn Accumulator>> {
        Ok(Box::new(Sketching { kind: self.kind, state: None }))
    }

    /// Of no rows, where a subquery without any is joined to its row.
    fn default_value(&self, data_type: &DataType) -> PlanResult<ScalarValue> {
        let is_count = self.kind == Kind::ApproxDistinct;
        if is_count { Ok(ScalarValue::Int64(Some(0))) } else { ScalarValue::try_from(data_type) }
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> PlanResult<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(format!("{}[sketch]", args.name), DataType::Binary, true))])
    }
}

/// The state of a group.
#[derive(Debug)]
enum State {
    Count(Hll),
    Set(SetDigest),
    Quantiles(Digest, Vec<f64>),
    Ranks(QDigest),
    Moments(Moments),
    Sum(u64),
    Histogram(Histogram),
    Frequent(Frequent),
}

#[derive(Debug)]
struct Sketching {
    kind: Kind,
    state: Option<State>,
}

impl State {
    fn bytes(&mut self) -> Vec<u8> {
        match self {
            Self::Count(count) => count.to_bytes(),
            Self::Set(set) => set.to_bytes(),
            Self::Quantiles(digest, shares) => {
                let mut out = (shares.len() as u32).to_le_bytes().to_vec();
                shares.iter().for_each(|share| out.extend(share.to_le_bytes()));
                out.extend(digest.bytes());
                out
            }
            Self::Ranks(digest) => digest.to_bytes(),
            Self::Moments(moments) => moments.to_bytes(),
            Self::Sum(sum) => sum.to_le_bytes().to_vec(),
            Self::Histogram(histogram) => histogram.to_bytes(),
            Self::Frequent(counts) => counts.to_bytes(),
        }
    }

    fn from_bytes(kind: Kind, bytes: &[u8]) -> Result<Self> {
        Ok(match kind {
            Kind::ApproxDistinct | Kind::ApproxSet | Kind::Merge(Sketch::HyperLogLog) => {
                Self::Count(Hll::from_bytes(bytes)?)
            }
            Kind::SetDigest | Kind::Merge(Sketch::SetDigest) => Self::Set(SetDigest::from_bytes(bytes)?),
            Kind::TDigest | Kind::Percentile | Kind::Merge(Sketch::TDigest) => {
                let mut reader = Reader::new(bytes, "tdigest");
                let shares = (0..reader.u32()?).collect::<Vec<_>>();
                let shares = shares.into_iter().map(|_| reader.f64()).collect::<Result<_>>()?;
                Self::Quantiles(Digest::from_bytes(reader.rest())?, shares)
            }
            Kind::QDigest(_) | Kind::Merge(_) => Self::Ranks(QDigest::from_bytes(bytes)?),
            Kind::Skewness | Kind::Kurtosis => Self::Moments(Moments::from_bytes(bytes)?),
            Kind::Checksum => Self::Sum(Reader::new(bytes, "checksum").i64()? as u64),
            Kind::Histogram => Self::Histogram(Histogram::from_bytes(bytes)?),
            Kind::Frequent(_) => Self::Frequent(Frequent::from_bytes(bytes)?),
        })
    }

    fn merge(&mut self, other: Self) -> Result<()> {
        match (self, other) {
            (Self::Count(own), Self::Count(other)) => own.merge(&other)?,
            (Self::Set(own), Self::Set(other)) => own.merge(&other)?,
            (Self::Quantiles(own, shares), Self::Quantiles(other, more)) => {
                own.merge_with(&other);
                if shares.is_empty() {
                    *shares = more;
                }
            }
            (Self::Ranks(own), Self::Ranks(other)) => own.merge(&other),
            (Self::Moments(own), Self::Moments(other)) => own.merge(&other),
            (Self::Sum(own), Self::Sum(other)) => *own = own.wrapping_add(other),
            (Self::Histogram(own), Self::Histogram(other)) => own.merge(&other),
            (Self::Frequent(own), Self::Frequent(other)) => own.merge(&other),
            _ => return Err(Error::internal("states of two kinds cannot be merged")),
        }
        Ok(())
    }

    fn size(&self) -> usize {
        match self {
            Self::Count(count) => count.size(),
            Self::Set(set) => set.size(),
            Self::Quantiles(digest, shares) => digest.size() + shares.len() * size_of::<f64>(),
            Self::Ranks(digest) => digest.size(),
            Self::Moments(_) | Self::Sum(_) => 0,
            Self::Histogram(histogram) => histogram.size(),
            Self::Frequent(counts) => counts.size(),
        }
    }
}

impl Sketching {
    fn take(&mut self, values: &[ArrayRef]) -> Result<()> {
        let Some(first) = values.first() else { return Err(Error::internal("an aggregate has an argument")) };
        match self.kind {
            Kind::ApproxDistinct => {
                if first.is_empty() {
                    return Ok(());
                }
                let error = values.get(1).map(doubles).transpose()?.and_then(|errors| errors.iter().flatten().next());
                let bits = Hll::bits_for(error.unwrap_or(DISTINCT_ERROR))?;
                self.hashed(first, hash::Kind::Xx, || State::Count(Hll::new(bits)))
            }
            Kind::ApproxSet => self.hashed(first, hash::Kind::Murmur, || State::Count(Hll::new(SET_BITS))),
            Kind::SetDigest => self.hashed(first, hash::Kind::Murmur, || State::Set(SetDigest::default())),
            Kind::Checksum => self.summed(first),
            Kind::TDigest | Kind::Percentile => self.weighted(first, values),
            Kind::QDigest(_) => self.ranked(first, values),
            Kind::Histogram => self.bucketed(first, values),
            Kind::Frequent(is_text) => self.counted(first, values, is_text),
            Kind::Skewness | Kind::Kurtosis => {
                let empty = || State::Moments(Moments::default());
                for value in doubles(first)?.iter().flatten() {
                    if let State::Moments(moments) = self.state.get_or_insert_with(empty) {
                        moments.add(value);
                    }
                }
                Ok(())
            }
            Kind::Merge(sketch) => {
                for bytes in Sketch::unwrap(first)?.iter().flatten() {
                    self.merge_one(&with_shares(sketch, bytes))?;
                }
                Ok(())
            }
        }
    }

    fn hashed(&mut self, values: &ArrayRef, kind: hash::Kind, empty: impl Fn() -> State) -> Result<()> {
        let state = &mut self.state;
        hash::each(values, kind, |_, hash| match state.get_or_insert_with(&empty) {
            State::Count(count) => count.add(hash),
            State::Set(set) => set.add(hash),
            _ => {}
        })
    }

    fn summed(&mut self, values: &ArrayRef) -> Result<()> {
        if values.is_empty() {
            return Ok(());
        }
        let nulls = values.logical_null_count() as u64;
        let mut sum = CHECKSUM_PRIME.wrapping_mul(nulls);
        hash::each(values, hash::Kind::Xx, |_, hash| {
            sum = sum.wrapping_add(hash.wrapping_mul(CHECKSUM_PRIME));
        })?;
        match self.state.get_or_insert(State::Sum(0)) {
            State::Sum(own) => *own = own.wrapping_add(sum),
            _ => return Err(Error::internal("a checksum is a sum")),
        }
        Ok(())
    }

    fn weighted(&mut self, first: &ArrayRef, values: &[ArrayRef]) -> Result<()> {
        let numbers = doubles(first)?;
        let weights = values.get(1).map(doubles).transpose()?;
        for row in (0..numbers.len()).filter(|row| numbers.is_valid(*row)) {
            let weight = match &weights {
                Some(weights) if weights.is_null(row) => continue,
                Some(weights) => weights.value(row),
                None => 1.0,
            };
            let least = if self.kind == Kind::Percentile { 1.0 } else { f64::MIN_POSITIVE };
            if weight < least {
                return Err(Error::user(
                    "INVALID_FUNCTION_ARGUMENT",
                    format!("weight must be >= {}, was {}", java_double(least), java_double(weight)),
                ));
            }
            let empty = || State::Quantiles(Digest::default(), Vec::new());
            let State::Quantiles(digest, shares) = self.state.get_or_insert_with(empty) else { continue };
            if self.kind == Kind::Percentile && shares.is_empty() {
                *shares = shares_at(values.get(2), row)?;
            }
            digest.add(numbers.value(row), weight);
        }
        Ok(())
    }

    fn ranked(&mut self, first: &ArrayRef, values: &[ArrayRef]) -> Result<()> {
        let numbers = ordered(first)?;
        let weights = values.get(1).map(doubles).transpose()?;
        let errors = values.get(2).map(doubles).transpose()?;
        for row in (0..numbers.len()).filter(|row| numbers.is_valid(*row)) {
            let weight = match &weights {
                Some(weights) if weights.is_null(row) => continue,
                Some(weights) => weights.value(row),
                None => 1.0,
            };
            if weight <= 0.0 {
                return Err(Error::user("INVALID_FUNCTION_ARGUMENT", "weight must be > 0"));
            }
            if self.state.is_none() {
                let error = errors.as_ref().map_or(ERROR_DEFAULT, |errors| errors.value(row));
                self.state = Some(State::Ranks(QDigest::new(error)?));
            }
            if let Some(State::Ranks(digest)) = &mut self.state {
                digest.add(numbers.value(row), weight);
            }
        }
        Ok(())
    }

    fn bucketed(&mut self, first: &ArrayRef, values: &[ArrayRef]) -> Result<()> {
        let (numbers, limits) = (doubles(first)?, whole(values, 1)?);
        let weights = values.get(2).map(doubles).transpose()?;
        for row in (0..numbers.len()).filter(|row| numbers.is_valid(*row)) {
            let weight = match &weights {
                Some(weights) if weights.is_null(row) => continue,
                Some(weights) => weights.value(row),
                None => 1.0,
            };
            if self.state.is_none() {
                self.state = Some(State::Histogram(Histogram::new(limits.value(row))?));
            }
            if let Some(State::Histogram(histogram)) = &mut self.state {
                histogram.add(numbers.value(row), weight);
            }
        }
        Ok(())
    }

    fn counted(&mut self, first: &ArrayRef, values: &[ArrayRef], is_text: bool) -> Result<()> {
        let (shown, capacities) = (whole(values, 1)?, whole(values, 2)?);
        let numbers = if is_text { None } else { Some(whole(values, 0)?) };
        for row in (0..first.len()).filter(|row| first.is_valid(*row)) {
            if self.state.is_none() {
                self.state = Some(State::Frequent(Frequent::new(shown.value(row), capacities.value(row))?));
            }
            let Some(State::Frequent(counts)) = &mut self.state else { continue };
            match &numbers {
                Some(numbers) => counts.add(&numbers.value(row).to_le_bytes(), 1),
                None => counts.add(first.as_string::<i32>().value(row).as_bytes(), 1),
            }
        }
        Ok(())
    }

    fn merge_one(&mut self, bytes: &[u8]) -> Result<()> {
        let other = State::from_bytes(self.kind, bytes)?;
        match &mut self.state {
            Some(own) => own.merge(other),
            None => {
                self.state = Some(other);
                Ok(())
            }
        }
    }

    fn result(&mut self) -> Result<ScalarValue> {
        let array: ArrayRef = match (self.kind, &mut self.state) {
            (Kind::ApproxDistinct, None) => Arc::new(Int64Array::from(vec![0])),
            (Kind::ApproxDistinct, Some(State::Count(count))) => Arc::new(Int64Array::from(vec![count.cardinality()])),
            (Kind::Percentile, Some(State::Quantiles(digest, shares))) => {
                digest.finish();
                let found: Float64Array = shares.iter().map(|share| digest.quantile(*share)).collect();
                let item = Field::new("item", DataType::Float64, true);
                Arc::new(ListArray::try_new(
                    item.into(),
                    OffsetBuffer::from_lengths([found.len()]),
                    Arc::new(found),
                    None,
                )?)
            }
            (Kind::Skewness, Some(State::Moments(moments))) => Arc::new(Float64Array::from(vec![moments.skewness()])),
            (Kind::Kurtosis, Some(State::Moments(moments))) => Arc::new(Float64Array::from(vec![moments.kurtosis()])),
            (Kind::Histogram, Some(State::Histogram(histogram))) => {
                let (keys, weights): (Vec<f64>, Vec<f64>) = histogram.buckets().iter().copied().unzip();
                one_map(Arc::new(Float64Array::from(keys)), Arc::new(Float64Array::from(weights)), &self.kind.result())?
            }
            (Kind::Frequent(is_text), Some(State::Frequent(counts))) => frequent(counts, is_text, &self.kind.result())?,
            (Kind::Checksum, Some(state)) => Arc::new(BinaryArray::from_vec(vec![&state.bytes()])),
            (kind, Some(state)) => {
                let bytes = match state {
                    State::Quantiles(digest, _) => digest.bytes(),
                    state => state.bytes(),
                };
                let sketch = Sketch::from_arrow(&kind.result()).ok_or_else(|| Error::internal("expected a sketch"))?;
                sketch.wrap(BinaryArray::from_vec(vec![&bytes]))?
            }
            (kind, None) => return Ok(ScalarValue::try_from(&kind.result())?),
        };
        Ok(ScalarValue::try_from_array(&array, 0)?)
    }
}

impl Accumulator for Sketching {
    fn update_batch(&mut self, values: &[ArrayRef]) -> PlanResult<()> {
        Ok(self.take(values)?)
    }

    fn evaluate(&mut self) -> PlanResult<ScalarValue> {
        Ok(self.result()?)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.state.as_ref().map_or(0, State::size)
    }

    fn state(&mut self) -> PlanResult<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::Binary(self.state.as_mut().map(State::bytes))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> PlanResult<()> {
        let Some(states) = states.first().and_then(|states| states.as_binary_opt::<i32>()) else {
            return Err(Error::internal("a sketch's state is bytes").into());
        };
        for bytes in states.iter().flatten() {
            self.merge_one(bytes)?;
        }
        Ok(())
    }
}

/// A sketch's bytes as a state: that of a t-digest has shares before it.
fn with_shares(sketch: Sketch, bytes: &[u8]) -> Vec<u8> {
    match sketch {
        Sketch::TDigest => [0u32.to_le_bytes().as_slice(), bytes].concat(),
        _ => bytes.to_vec(),
    }
}

fn doubles(values: &ArrayRef) -> Result<Float64Array> {
    Ok(cast(values, &DataType::Float64)?.as_primitive::<Float64Type>().clone())
}

/// Numbers as whole numbers of the same order.
pub fn ordered(values: &ArrayRef) -> Result<Int64Array> {
    let folded = |bits: i64| if bits < 0 { bits ^ i64::MAX } else { bits };
    Ok(match values.data_type() {
        DataType::Float64 => values.as_primitive::<Float64Type>().unary(|value: f64| folded(value.to_bits() as i64)),
        DataType::Float32 => values.as_primitive::<arrow::datatypes::Float32Type>().unary(|value: f32| {
            let bits = value.to_bits() as i32;
            i64::from(if bits < 0 { bits ^ i32::MAX } else { bits })
        }),
        _ => cast(values, &DataType::Int64)?.as_primitive::<Int64Type>().clone(),
    })
}

/// The shares a percentile asks for in a row.
fn shares_at(shares: Option<&ArrayRef>, row: usize) -> Result<Vec<f64>> {
    let Some(shares) = shares else { return Err(Error::internal("a percentile has a share")) };
    let own = match shares.data_type() {
        DataType::List(_) => shares.as_list::<i32>().value(row),
        _ => shares.slice(row, 1),
    };
    let own: Vec<f64> = doubles(&own)?.iter().flatten().collect();
    if own.iter().any(|share| !(0.0..=1.0).contains(share)) {
        return Err(Error::user("INVALID_FUNCTION_ARGUMENT", "percentile must be between 0 and 1"));
    }
    Ok(own)
}
