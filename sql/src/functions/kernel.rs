//! The loops of scalar kernels: one, two, three or four typed arguments to a typed or a text result.
//!
//! Invariant: a row with a NULL among its arguments is NULL, and the function is not called for it.

use std::sync::Arc;

use arrow::array::ArrayRef;
use headwater_engine::error::{Error, Result};

use super::{
    column::{Collect, Read, Text, retype},
    scalar::{Call, Kernel},
};

/// `INVALID_FUNCTION_ARGUMENT`.
pub fn invalid(message: impl Into<String>) -> Error {
    Error::user("INVALID_FUNCTION_ARGUMENT", message)
}

/// `NUMERIC_VALUE_OUT_OF_RANGE`.
pub fn out_of_range(message: impl Into<String>) -> Error {
    Error::user("NUMERIC_VALUE_OUT_OF_RANGE", message)
}

/// `DIVISION_BY_ZERO`.
pub fn division_by_zero() -> Error {
    Error::user("DIVISION_BY_ZERO", "division by zero")
}

macro_rules! loops {
    ($value:ident, $value_with:ident, $text:ident, $text_with:ident: $($type:ident $arg:ident $index:literal),*) => {
        /// A typed result of each row.
        pub fn $value<$($type: Read,)* C: Collect>(
            f: impl for<'a> Fn($($type::Item<'a>),*) -> Result<Option<C::Item>> + Send + Sync + 'static,
        ) -> Kernel {
            $value_with::<$($type,)* C, ()>(move |(), $($arg),*| f($($arg),*))
        }

        /// A typed result of each row, with something kept from row to row (compiled patterns).
        pub fn $value_with<$($type: Read,)* C: Collect, S: Default>(
            f: impl for<'a> Fn(&mut S, $($type::Item<'a>),*) -> Result<Option<C::Item>> + Send + Sync + 'static,
        ) -> Kernel {
            Arc::new(move |call: &Call<'_>| {
                $(let $arg = call.column::<$type>($index)?;)*
                let (mut state, mut out) = (S::default(), C::new(call.rows));
                for row in 0..call.rows {
                    let result = if $($arg.is_null(row))||* { None } else { f(&mut state, $($arg.get(row)),*)? };
                    out.push(result);
                }
                typed(out.finish(), call)
            })
        }

        /// Text written in place for each row; `false` makes the row NULL.
        pub fn $text<$($type: Read),*>(
            f: impl for<'a> Fn($($type::Item<'a>,)* &mut Text) -> Result<bool> + Send + Sync + 'static,
        ) -> Kernel {
            $text_with::<$($type,)* ()>(move |(), $($arg,)* out| f($($arg,)* out))
        }

        /// Text written in place for each row, with something kept from row to row.
        pub fn $text_with<$($type: Read,)* S: Default>(
            f: impl for<'a> Fn(&mut S, $($type::Item<'a>,)* &mut Text) -> Result<bool> + Send + Sync + 'static,
        ) -> Kernel {
            Arc::new(move |call: &Call<'_>| {
                $(let $arg = call.column::<$type>($index)?;)*
                let (mut state, mut out) = (S::default(), Text::new(call.rows, call.result));
                for row in 0..call.rows {
                    let valid = if $($arg.is_null(row))||* { false } else { f(&mut state, $($arg.get(row),)* &mut out)? };
                    out.end(valid);
                }
                out.finish()
            })
        }
    };
}

loops!(value1, value1_with, text1, text1_with: A a 0);
loops!(value2, value2_with, text2, text2_with: A a 0, B b 1);
loops!(value3, value3_with, text3, text3_with: A a 0, B b 1, D d 2);
loops!(value4, value4_with, text4, text4_with: A a 0, B b 1, D d 2, E e 3);

/// The collected ticks under the type the call has to produce.
fn typed(array: ArrayRef, call: &Call<'_>) -> Result<ArrayRef> {
    retype(&array, call.result)
}

/// A kernel from a plain function of the call.
pub fn whole(f: impl Fn(&Call<'_>) -> Result<ArrayRef> + Send + Sync + 'static) -> Kernel {
    Arc::new(f)
}
