//! The hashes of SpookyHash V2 (Bob Jenkins, public domain), with the seed 0.
//!
//! Invariant: the words of a message are read little-endian, whatever the machine.

use headwater_engine::error::Result;

use super::{
    column::{Bytes, ToBytes},
    define::Definition,
    kernel::value1,
};

const FILL: u64 = 0xDEAD_BEEF_DEAD_BEEF;
/// Messages below this many bytes take the short way.
const SHORT_BYTES: usize = 192;
/// Bytes of a block of the long way.
const BLOCK_BYTES: usize = 96;

pub(super) fn definitions(define: fn(&'static str, &'static str) -> Definition) -> Vec<Definition> {
    let of = |bytes: &[u8], width: usize| {
        let hash = hash64(bytes).to_be_bytes();
        hash[8 - width..].to_vec()
    };
    let kernel = move |width: usize| -> super::scalar::Kernel {
        value1::<Bytes, ToBytes>(move |bytes| -> Result<Option<Vec<u8>>> { Ok(Some(of(bytes, width))) })
    };
    vec![
        define("spooky_hash_v2_32", "a hash of 32 bits")
            .on("spooky_hash_v2_32(varbinary) -> varbinary", kernel(4))
            .example("SELECT to_hex(spooky_hash_v2_32(X''))", "6BF50919"),
        define("spooky_hash_v2_64", "a hash of 64 bits")
            .on("spooky_hash_v2_64(varbinary) -> varbinary", kernel(8))
            .example("SELECT to_hex(spooky_hash_v2_64(X''))", "232706FC6BF50919"),
    ]
}

fn word(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    for (to, from) in word.iter_mut().zip(bytes.iter().skip(at)) {
        *to = *from;
    }
    u64::from_le_bytes(word)
}

fn hash64(bytes: &[u8]) -> u64 {
    if bytes.len() < SHORT_BYTES { short(bytes) } else { long(bytes) }
}

fn short(bytes: &[u8]) -> u64 {
    let mut h = [0, 0, FILL, FILL];
    let mut rest = bytes;
    if bytes.len() > 15 {
        while rest.len() >= 32 {
            h[2] = h[2].wrapping_add(word(rest, 0));
            h[3] = h[3].wrapping_add(word(rest, 8));
            mix_short(&mut h);
            h[0] = h[0].wrapping_add(word(rest, 16));
            h[1] = h[1].wrapping_add(word(rest, 24));
            rest = &rest[32..];
        }
        if rest.len() >= 16 {
            h[2] = h[2].wrapping_add(word(rest, 0));
            h[3] = h[3].wrapping_add(word(rest, 8));
            mix_short(&mut h);
            rest = &rest[16..];
        }
    }
    h[3] = h[3].wrapping_add((bytes.len() as u64) << 56);
    if rest.is_empty() {
        h[2] = h[2].wrapping_add(FILL);
        h[3] = h[3].wrapping_add(FILL);
    } else {
        h[2] = h[2].wrapping_add(word(rest, 0));
        h[3] = h[3].wrapping_add(word(rest, 8));
    }
    end_short(&mut h);
    h[0]
}

fn mix_short(h: &mut [u64; 4]) {
    const TURNS: [u32; 12] = [50, 52, 30, 41, 54, 48, 38, 37, 62, 34, 5, 36];
    for (step, turn) in TURNS.into_iter().enumerate() {
        let (x, y, z) = ((step + 2) % 4, (step + 3) % 4, step % 4);
        h[x] = h[x].rotate_left(turn).wrapping_add(h[y]);
        h[z] ^= h[x];
    }
}

fn end_short(h: &mut [u64; 4]) {
    const TURNS: [u32; 11] = [15, 52, 26, 51, 28, 9, 47, 54, 32, 25, 63];
    for (step, turn) in TURNS.into_iter().enumerate() {
        let (from, to) = ((step + 2) % 4, (step + 3) % 4);
        h[to] ^= h[from];
        h[from] = h[from].rotate_left(turn);
        h[to] = h[to].wrapping_add(h[from]);
    }
}

fn long(bytes: &[u8]) -> u64 {
    let mut h = [0, 0, FILL, 0, 0, FILL, 0, 0, FILL, 0, 0, FILL];
    let whole = bytes.len() / BLOCK_BYTES * BLOCK_BYTES;
    for block in bytes[..whole].chunks(BLOCK_BYTES) {
        mix_long(&mut h, block);
    }
    let rest = &bytes[whole..];
    let mut last = [0u8; BLOCK_BYTES];
    last[..rest.len()].copy_from_slice(rest);
    last[BLOCK_BYTES - 1] = rest.len() as u8;
    for (at, slot) in h.iter_mut().enumerate() {
        *slot = slot.wrapping_add(word(&last, at * 8));
    }
    for _ in 0..3 {
        end_long(&mut h);
    }
    h[0]
}

fn mix_long(h: &mut [u64; 12], block: &[u8]) {
    const TURNS: [u32; 12] = [11, 32, 43, 31, 17, 28, 39, 57, 55, 54, 22, 46];
    for (at, turn) in TURNS.into_iter().enumerate() {
        h[at] = h[at].wrapping_add(word(block, at * 8));
        h[(at + 2) % 12] ^= h[(at + 10) % 12];
        h[(at + 11) % 12] ^= h[at];
        h[at] = h[at].rotate_left(turn);
        h[(at + 11) % 12] = h[(at + 11) % 12].wrapping_add(h[(at + 1) % 12]);
    }
}

fn end_long(h: &mut [u64; 12]) {
    const TURNS: [u32; 12] = [44, 15, 34, 21, 38, 33, 10, 13, 38, 53, 42, 54];
    for (at, turn) in TURNS.into_iter().enumerate() {
        let (a, b, c) = ((at + 11) % 12, (at + 1) % 12, (at + 2) % 12);
        h[a] = h[a].wrapping_add(h[b]);
        h[c] ^= h[a];
        h[b] = h[b].rotate_left(turn);
    }
}
