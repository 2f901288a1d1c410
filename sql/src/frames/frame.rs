//! The frame of each row of a partition.
//!
//! Invariant: a frame is a range of rows of the sorted partition; an empty one is `0..0`.

use std::{cmp::Ordering, ops::Range};

use arrow::{
    array::{Array, ArrayRef, AsArray},
    compute::{SortOptions, cast},
    datatypes::{
        DataType, DurationMillisecondType, Float64Type, Int64Type, IntervalUnit, IntervalYearMonthType, TimeUnit,
    },
    row::{OwnedRow, RowConverter, Rows, SortField},
};
use headwater_engine::error::{Error, Result};

/// What an offset counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Units {
    /// Rows.
    Rows,
    /// Values of the sort key.
    Range,
    /// Groups of rows that sort alike.
    Groups,
}

/// One end of a frame. A number is the position of the offset among the arguments; of `RANGE` two: the offset, and the
/// value of the sort key where the frame ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Edge {
    /// The partition's first or last row.
    Unbounded,
    /// The row, or those that sort like it.
    Current,
    /// So many before it.
    Preceding(usize),
    /// So many behind it.
    Following(usize),
}

/// A frame as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Frame {
    /// What offsets count.
    pub units: Units,
    /// Where it begins.
    pub start: Edge,
    /// Where it ends.
    pub end: Edge,
}

/// A partition, its rows in the window's order.
pub(super) struct Partition<'a> {
    arguments: &'a [ArrayRef],
    rows: usize,
    keys: Option<(RowConverter, Rows)>,
    /// Position of the first sort key.
    key: Option<usize>,
    /// The rows that sort alike, in order.
    groups: Vec<Range<usize>>,
    group_of: Vec<usize>,
}

impl<'a> Partition<'a> {
    /// The partition of some arguments, of which those from `first` on are sort keys.
    pub(super) fn new(arguments: &'a [ArrayRef], rows: usize, (first, sorts): (usize, &[SortOptions])) -> Result<Self> {
        let columns = arguments.get(first..first + sorts.len()).unwrap_or_default();
        let keys = match columns {
            [] => None,
            columns => {
                let fields = columns
                    .iter()
                    .zip(sorts)
                    .map(|(column, sort)| SortField::new_with_options(column.data_type().clone(), *sort))
                    .collect();
                let converter = RowConverter::new(fields)?;
                let rows = converter.convert_columns(columns)?;
                Some((converter, rows))
            }
        };
        let mut groups: Vec<Range<usize>> = Vec::new();
        let mut group_of = Vec::with_capacity(rows);
        for row in 0..rows {
            let same = row > 0 && keys.as_ref().is_none_or(|(_, keys)| keys.row(row) == keys.row(row - 1));
            match groups.last_mut() {
                Some(group) if same => group.end = row + 1,
                _ => groups.push(row..row + 1),
            }
            group_of.push(groups.len() - 1);
        }
        let key = keys.is_some().then_some(first);
        Ok(Self { arguments, rows, keys, key, groups, group_of })
    }

    /// How many rows there are.
    pub(super) fn len(&self) -> usize {
        self.rows
    }

    /// The frames of all rows.
    pub(super) fn frames(&self, frame: Frame) -> Result<Vec<Range<usize>>> {
        let starts = self.ends(frame, frame.start, true)?;
        let ends = self.ends(frame, frame.end, false)?;
        Ok(starts.into_iter().zip(ends).map(|(start, end)| if start < end { start..end } else { 0..0 }).collect())
    }

    fn ends(&self, frame: Frame, edge: Edge, is_start: bool) -> Result<Vec<usize>> {
        let offset = match edge {
            Edge::Unbounded => return Ok(vec![if is_start { 0 } else { self.rows }; self.rows]),
            Edge::Current => return Ok((0..self.rows).map(|row| self.current(frame.units, row, is_start)).collect()),
            Edge::Preceding(offset) | Edge::Following(offset) => offset,
        };
        let ahead = matches!(edge, Edge::Following(_));
        let offsets = offsets(self.argument(offset)?)?;
        match frame.units {
            Units::Rows => Ok((0..self.rows).map(|row| self.rows_away(row, offsets[row], ahead, is_start)).collect()),
            Units::Groups => {
                Ok((0..self.rows).map(|row| self.groups_away(row, offsets[row], ahead, is_start)).collect())
            }
            Units::Range => self.values_away(self.argument(offset + 1)?, is_start),
        }
    }

    fn argument(&self, index: usize) -> Result<&'a ArrayRef> {
        self.arguments.get(index).ok_or_else(|| Error::internal("an offset of a frame is missing"))
    }

    fn current(&self, units: Units, row: usize, is_start: bool) -> usize {
        match (units, is_start) {
            (Units::Rows, true) => row,
            (Units::Rows, false) => row + 1,
            (_, true) => self.groups[self.group_of[row]].start,
            (_, false) => self.groups[self.group_of[row]].end,
        }
    }

    fn rows_away(&self, row: usize, offset: usize, ahead: bool, is_start: bool) -> usize {
        let past = usize::from(!is_start);
        let at = if ahead { row.saturating_add(offset) + past } else { (row + past).saturating_sub(offset) };
        at.min(self.rows)
    }

    fn groups_away(&self, row: usize, offset: usize, ahead: bool, is_start: bool) -> usize {
        let own = self.group_of[row];
        let group = if ahead { Some(own.saturating_add(offset)) } else { own.checked_sub(offset) };
        match group.map(|group| self.groups.get(group)) {
            Some(Some(group)) if is_start => group.start,
            Some(Some(group)) => group.end,
            Some(None) => self.rows,
            None => 0,
        }
    }

    /// Where the rows begin that are not before the bound, or end that are not behind it.
    fn values_away(&self, bounds: &ArrayRef, is_start: bool) -> Result<Vec<usize>> {
        let Some((converter, keys)) = &self.keys else { return Err(Error::internal("a RANGE frame has a sort key")) };
        let bounds = converter.convert_columns(std::slice::from_ref(bounds))?;
        let bounds: Vec<OwnedRow> = bounds.iter().map(|row| row.owned()).collect();
        let null = self.nulls();
        let known = known(&null);
        let known_rows: Vec<usize> = known.clone().collect();
        Ok((0..self.rows)
            .map(|row| {
                if null.get(row).copied().unwrap_or_default() {
                    return self.current(Units::Range, row, is_start);
                }
                let bound = bounds[row].row();
                let before = |at: &usize| match keys.row(*at).cmp(&bound) {
                    Ordering::Less => true,
                    Ordering::Equal => !is_start,
                    Ordering::Greater => false,
                };
                known.start + known_rows.partition_point(before)
            })
            .collect())
    }

    /// Which rows have no sort key.
    fn nulls(&self) -> Vec<bool> {
        let column = self.key.and_then(|key| self.arguments.get(key));
        (0..self.rows).map(|row| column.is_some_and(|column| column.is_null(row))).collect()
    }
}

/// The rows that have a sort key: they stand together.
fn known(nulls: &[bool]) -> Range<usize> {
    let start = nulls.iter().position(|null| !null).unwrap_or(0);
    let count = nulls.iter().filter(|null| !**null).count();
    start..start + count
}

/// Offsets as counts; those of intervals and fractions only have to be there and not negative.
fn offsets(column: &ArrayRef) -> Result<Vec<usize>> {
    let wrong = || Error::user("INVALID_WINDOW_FRAME", "window frame offset value must not be negative or null");
    let whole: Vec<Option<i64>> = match column.data_type() {
        DataType::Interval(IntervalUnit::YearMonth) => {
            column.as_primitive::<IntervalYearMonthType>().iter().map(|months| months.map(i64::from)).collect()
        }
        DataType::Duration(TimeUnit::Millisecond) => column.as_primitive::<DurationMillisecondType>().iter().collect(),
        DataType::Float32 | DataType::Float64 | DataType::Decimal128(..) => {
            let wide = cast(column, &DataType::Float64)?;
            let sign = |value: f64| if value < 0.0 { -1 } else { 0 };
            wide.as_primitive::<Float64Type>().iter().map(|value| value.map(sign)).collect()
        }
        _ => {
            let wide = cast(column, &DataType::Int64)?;
            wide.as_primitive::<Int64Type>().iter().collect()
        }
    };
    whole.into_iter().map(|count| count.and_then(|count| usize::try_from(count).ok()).ok_or_else(wrong)).collect()
}
