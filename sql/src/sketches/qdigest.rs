//! Quantiles of whole numbers with a bounded error of rank: a binary tree over the bits of the values.
//!
//! Bytes are those of Trino's `qdigest` types. Source: Shrivastava et al., "Medians and beyond" (2004). Floating point
//! comes as the whole number of the same order.
//!
//! Invariant: a node's values share all bits above its level; the weight of all nodes is the weight taken.

use headwater_engine::error::{Error, Result};

use super::bytes::Reader;

/// The error that Trino's `qdigest_agg` has by default.
pub const ERROR_DEFAULT: f64 = 0.01;
const FORMAT: u8 = 0;
const SIGN: u64 = 1 << 63;
/// Weight below which a node is taken for empty.
const WEIGHT_MIN: f64 = 1e-5;
/// Nodes kept, in multiples of what the error needs, before the tree is compressed.
const SLACK: usize = 3;

#[derive(Debug, Clone, PartialEq)]
struct Node {
    bits: u64,
    /// 0 for one value; a node of level n tells values apart by bit n - 1.
    level: u8,
    weight: f64,
    left: Option<Box<Node>>,
    right: Option<Box<Node>>,
}

/// Weighted whole numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct QDigest {
    error: f64,
    root: Option<Box<Node>>,
    weight: f64,
    min: i64,
    max: i64,
    nodes: usize,
}

impl QDigest {
    /// An empty digest of a relative error of rank.
    pub fn new(error: f64) -> Result<Self> {
        if !(0.0..=1.0).contains(&error) || error == 0.0 {
            return Err(Error::user("INVALID_FUNCTION_ARGUMENT", format!("accuracy must be from 0 to 1: {error}")));
        }
        Ok(Self { error, root: None, weight: 0.0, min: i64::MAX, max: i64::MIN, nodes: 0 })
    }

    /// Takes a value with its weight.
    pub fn add(&mut self, value: i64, weight: f64) {
        (self.min, self.max) = (self.min.min(value), self.max.max(value));
        self.weight += weight;
        self.nodes += insert(&mut self.root, value as u64 ^ SIGN, weight);
        if self.nodes > SLACK * self.capacity() {
            self.compress();
        }
    }

    /// Takes what another one took.
    pub fn merge(&mut self, other: &Self) {
        let (min, max) = (self.min.min(other.min), self.max.max(other.max));
        let mut parts = Vec::new();
        other.visit(&mut |node| {
            if node.weight > 0.0 {
                parts.push((other.upper(node), node.weight));
            }
            true
        });
        parts.into_iter().for_each(|(value, weight)| self.add(value, weight));
        (self.min, self.max) = (min, max);
    }

    fn capacity(&self) -> usize {
        let level = self.root.as_ref().map_or(0, |root| root.level);
        ((f64::from(level) + 1.0) / self.error).max(1.0) as usize
    }

    fn compress(&mut self) {
        let bound = (self.weight / self.capacity() as f64).floor();
        self.root = self
            .root
            .take()
            .and_then(|root| compressed(root, bound))
            .and_then(|mut root| if root.weight < WEIGHT_MIN { without(&mut root) } else { Some(root) });
        let mut nodes = 0;
        self.visit(&mut |node| {
            nodes += usize::from(node.weight > 0.0);
            true
        });
        self.nodes = nodes;
    }

    fn visit(&self, each: &mut dyn FnMut(&Node) -> bool) {
        fn walk(node: &Option<Box<Node>>, each: &mut dyn FnMut(&Node) -> bool) -> bool {
            match node {
                Some(node) => walk(&node.left, each) && walk(&node.right, each) && each(node),
                None => true,
            }
        }
        walk(&self.root, each);
    }

    /// The greatest value a node may hold.
    fn upper(&self, node: &Node) -> i64 {
        let below = 1u64.checked_shl(u32::from(node.level)).map_or(u64::MAX, |bit| bit - 1);
        (((node.bits | below) ^ SIGN) as i64).min(self.max)
    }

    /// The value below which a share of the weight lies.
    pub fn value_at(&self, share: f64) -> Option<i64> {
        self.root.as_ref()?;
        let (mut sum, mut found) = (0.0, self.max);
        self.visit(&mut |node| {
            sum += node.weight;
            if sum > share * self.weight {
                found = self.upper(node);
                return false;
            }
            true
        });
        Some(found)
    }

    /// The share of the weight below a value; `None` outside what was taken.
    pub fn share_at(&self, value: i64) -> Option<f64> {
        if self.root.is_none() || value < self.min || value > self.max {
            return None;
        }
        let mut sum = 0.0;
        self.visit(&mut |node| {
            if self.upper(node) >= value {
                return false;
            }
            sum += node.weight;
            true
        });
        Some(sum / self.weight)
    }

    /// Bytes held.
    pub fn size(&self) -> usize {
        self.nodes * 2 * size_of::<Node>()
    }

    /// Its bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![FORMAT];
        out.extend(self.error.to_le_bytes());
        out.extend([0; 16]);
        out.extend(self.min.to_le_bytes());
        out.extend(self.max.to_le_bytes());
        let (mut nodes, mut body) = (0u32, Vec::new());
        self.visit(&mut |node| {
            nodes += 1;
            let children = u8::from(node.left.is_some()) | u8::from(node.right.is_some()) << 1;
            body.push(node.level.saturating_sub(1) << 2 | children);
            body.extend(node.weight.to_le_bytes());
            body.extend(node.bits.to_le_bytes());
            true
        });
        out.extend(nodes.to_le_bytes());
        out.extend(body);
        out
    }

    /// The digest of bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes, "qdigest");
        if reader.u8()? != FORMAT {
            return Err(reader.broken());
        }
        let mut made = Self::new(reader.f64()?)?;
        reader.take(16)?;
        (made.min, made.max) = (reader.i64()?, reader.i64()?);
        let mut stack: Vec<Box<Node>> = Vec::new();
        for _ in 0..reader.u32()? {
            let flags = reader.u8()?;
            let (weight, bits) = (reader.f64()?, reader.i64()? as u64);
            let right = if flags & 2 > 0 { Some(stack.pop().ok_or_else(|| reader.broken())?) } else { None };
            let left = if flags & 1 > 0 { Some(stack.pop().ok_or_else(|| reader.broken())?) } else { None };
            let leaf = left.is_none() && right.is_none() && flags >> 2 == 0;
            let level = if leaf { 0 } else { (flags >> 2) + 1 };
            made.weight += weight;
            made.nodes += usize::from(weight > 0.0);
            stack.push(Box::new(Node { bits, level, weight, left, right }));
        }
        made.root = stack.pop();
        if stack.is_empty() { Ok(made) } else { Err(reader.broken()) }
    }
}

fn leaf(bits: u64, weight: f64) -> Box<Node> {
    Box::new(Node { bits, level: 0, weight, left: None, right: None })
}

/// Whether a value lies below a node.
fn covers(node: &Node, bits: u64) -> bool {
    (node.bits ^ bits).checked_shr(u32::from(node.level)).unwrap_or(0) == 0
}

/// Adds weight at a value; gives how many nodes now have weight that had none.
fn insert(place: &mut Option<Box<Node>>, bits: u64, weight: f64) -> usize {
    let Some(node) = place else {
        *place = Some(leaf(bits, weight));
        return 1;
    };
    if !covers(node, bits) {
        let level = (64 - (node.bits ^ bits).leading_zeros()) as u8;
        let mut parent = Box::new(Node { bits: node.bits, level, weight: 0.0, left: None, right: None });
        let old = place.take();
        let (under, beside) = if bits >> (level - 1) & 1 == 0 {
            (&mut parent.left, &mut parent.right)
        } else {
            (&mut parent.right, &mut parent.left)
        };
        *under = Some(leaf(bits, weight));
        *beside = old;
        *place = Some(parent);
        return 1;
    }
    if node.level == 0 {
        node.weight += weight;
        return 0;
    }
    let side = if bits >> (node.level - 1) & 1 == 0 { &mut node.left } else { &mut node.right };
    insert(side, bits, weight)
}

/// A node whose light children have given their weight to it.
fn compressed(mut node: Box<Node>, bound: f64) -> Option<Box<Node>> {
    node.left = node.left.take().and_then(|left| compressed(left, bound));
    node.right = node.right.take().and_then(|right| compressed(right, bound));
    let of = |child: &Option<Box<Node>>| child.as_ref().map_or(0.0, |child| child.weight);
    let (left, right) = (of(&node.left), of(&node.right));
    let light = node.weight + left + right < bound;
    if light || left < WEIGHT_MIN {
        node.weight += left;
        node.left = node.left.take().and_then(|mut child| without(&mut child));
    }
    if light || right < WEIGHT_MIN {
        node.weight += right;
        node.right = node.right.take().and_then(|mut child| without(&mut child));
    }
    Some(node)
}

/// What remains of a node whose weight has gone.
fn without(node: &mut Box<Node>) -> Option<Box<Node>> {
    match (node.left.take(), node.right.take()) {
        (None, None) => None,
        (Some(only), None) | (None, Some(only)) => Some(only),
        (left, right) => Some(Box::new(Node { bits: node.bits, level: node.level, weight: 0.0, left, right })),
    }
}
