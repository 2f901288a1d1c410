//! Reading the bytes of sketches.
//!
//! Invariant: bytes that end early or do not fit are an error that names the sketch, never a guess.

use headwater_engine::error::{Error, Result};

/// A position in bytes.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Self { rest: bytes, what }
    }

    pub(crate) fn broken(&self) -> Error {
        Error::user("INVALID_CAST_ARGUMENT", format!("these bytes are no {}", self.what))
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (own, rest) = self.rest.split_at_checked(count).ok_or_else(|| self.broken())?;
        self.rest = rest;
        Ok(own)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| self.broken())
    }

    pub(crate) fn u8(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u16(&mut self) -> Result<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn i64(&mut self) -> Result<i64> {
        self.array().map(i64::from_le_bytes)
    }

    pub(crate) fn f64(&mut self) -> Result<f64> {
        self.array().map(f64::from_le_bytes)
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.rest
    }
}
