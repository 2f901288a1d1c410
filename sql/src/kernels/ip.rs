//! `ipaddress`: sixteen bytes, an IPv4 address as the IPv6 address that stands for it.
//!
//! Invariant: bytes compare as addresses do.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use arrow::array::{ArrayRef, AsArray, BinaryArray, LargeBinaryArray};
use headwater_engine::error::{Error, Result};

use super::cast::refused;
use crate::types::Type;

/// The address of a text.
pub fn parse(text: &str) -> Option<[u8; 16]> {
    match text.parse::<IpAddr>().ok()? {
        IpAddr::V4(address) => Some(address.to_ipv6_mapped().octets()),
        IpAddr::V6(address) => Some(address.octets()),
    }
}

/// The text of an address.
pub fn text(bytes: &[u8]) -> String {
    let Ok(octets) = <[u8; 16]>::try_from(bytes) else { return String::new() };
    let address = Ipv6Addr::from(octets);
    match address.to_ipv4_mapped() {
        Some(short) => short.to_string(),
        None => address.to_string(),
    }
}

/// Addresses from text or bytes.
pub fn cast_to(array: &ArrayRef, from: &Type) -> Result<ArrayRef> {
    let addresses: Vec<Option<[u8; 16]>> = match from {
        Type::Varbinary => {
            array.as_binary::<i32>().iter().map(|bytes| bytes.map(of_bytes).transpose()).collect::<Result<_>>()?
        }
        _ => array
            .as_string::<i32>()
            .iter()
            .map(|text| text.map(|text| parse(text).ok_or_else(|| refused(text, &Type::IpAddress))).transpose())
            .collect::<Result<_>>()?,
    };
    Ok(Arc::new(
        addresses.iter().map(|address| address.as_ref().map(<[u8; 16]>::as_slice)).collect::<LargeBinaryArray>(),
    ))
}

fn of_bytes(bytes: &[u8]) -> Result<[u8; 16]> {
    let wrong = || Error::user("INVALID_CAST_ARGUMENT", format!("invalid IP address binary length: {}", bytes.len()));
    match <[u8; 4]>::try_from(bytes) {
        Ok(short) => Ok(std::net::Ipv4Addr::from(short).to_ipv6_mapped().octets()),
        Err(_) => bytes.try_into().map_err(|_| wrong()),
    }
}

/// Addresses as bytes.
pub fn to_bytes(array: &ArrayRef) -> ArrayRef {
    Arc::new(array.as_binary::<i64>().iter().collect::<BinaryArray>())
}

/// Whether a network in CIDR notation holds an address.
pub fn contains(network: &str, address: &[u8]) -> Result<bool> {
    let wrong = || Error::user("INVALID_FUNCTION_ARGUMENT", format!("invalid network: {network}"));
    let (base, bits) = network.split_once('/').ok_or_else(wrong)?;
    let width = if base.contains(':') { 128 } else { 32 };
    let base = parse(base).ok_or_else(wrong)?;
    let bits: u32 = bits.parse().ok().filter(|bits| *bits <= width).ok_or_else(wrong)?;
    let kept = 128 - width + bits;
    let address: [u8; 16] = address.try_into().map_err(|_| Error::internal("an address has sixteen bytes"))?;
    let mask = u128::MAX.checked_shl(128 - kept).unwrap_or_default();
    Ok(u128::from_be_bytes(base) & mask == u128::from_be_bytes(address) & mask)
}

#[cfg(test)]
mod tests {
    use super::{contains, parse, text};

    #[test]
    fn addresses_are_written_as_short_as_they_can_be() {
        for shown in ["10.0.0.1", "::1", "2001:db8::1:0:0:1"] {
            assert_eq!(parse(shown).map(|bytes| text(&bytes)).as_deref(), Some(shown));
        }
        assert_eq!(parse("::ffff:1.2.3.4").map(|bytes| text(&bytes)).as_deref(), Some("1.2.3.4"));
        assert_eq!(parse("1.2.3"), None);
    }

    #[test]
    fn networks_hold_their_addresses() -> anyhow::Result<()> {
        let address = parse("10.1.2.3").unwrap_or_default();
        assert!(contains("10.0.0.0/8", &address)?);
        assert!(contains("0.0.0.0/0", &address)?);
        assert!(!contains("11.0.0.0/8", &address)?);
        assert!(!contains("10.0.0.0/8", &parse("::1").unwrap_or_default())?);
        assert!(contains("10.0.0.0", &address).is_err());
        Ok(())
    }
}
