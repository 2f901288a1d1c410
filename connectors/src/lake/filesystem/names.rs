//! Names that a store can have: what a row asks for beyond that makes it an error, not the commit.
//!
//! Invariant: a name that is not refused here is one the store takes.

/// Bytes of the name of a file or folder on a disk, also on that of a server that keeps objects as files.
const NAME_BYTES_MAX: usize = 255;
/// Bytes of the key of an object.
const KEY_BYTES_MAX: usize = 1024;
/// Bytes kept free for the name of the file itself.
const FILE_NAME_BYTES: usize = 160;

/// What limits the names of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Names {
    /// A folder of this machine.
    Local,
    /// A bucket.
    Objects,
}

impl Names {
    /// Those of a location.
    pub(super) fn of(location: &str) -> Self {
        if location.contains("://") && !location.starts_with("file:") { Self::Objects } else { Self::Local }
    }

    /// Why no file can be begun with this path, to which the file's own name is added.
    pub(super) fn refusal(self, path: &str) -> Option<String> {
        if path.bytes().any(|byte| byte.is_ascii_control()) {
            return Some(format!("the path {path:?} has control characters"));
        }
        let (folders, begun) = path.rsplit_once('/').unwrap_or(("", path));
        let longest = folders.split('/').map(str::len).max().unwrap_or_default();
        if longest > NAME_BYTES_MAX {
            return Some(format!("a folder's name of {longest} bytes; {NAME_BYTES_MAX} are allowed"));
        }
        let max = NAME_BYTES_MAX - FILE_NAME_BYTES;
        if begun.len() > max {
            return Some(format!("{} bytes before a file's name; {max} are allowed", begun.len()));
        }
        let max = KEY_BYTES_MAX - FILE_NAME_BYTES;
        let is_long = self == Self::Objects && path.len() > max;
        is_long.then(|| format!("a path of {} bytes; {max} are allowed before an object's name", path.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_store_cannot_call_a_file_is_refused() {
        let (local, objects) = (Names::of("/lake/t"), Names::of("s3://lake/t"));
        assert_eq!((local, objects, Names::of("file:///t")), (Names::Local, Names::Objects, Names::Local));
        let long = format!("t/k={}/", "a".repeat(300));
        for names in [local, objects] {
            assert!(names.refusal(&long).is_some_and(|why| why.contains("302 bytes")));
        }
        assert!(local.refusal(&format!("t/{}", "a".repeat(100))).is_some());
        assert!(objects.refusal(&"k/".repeat(450)).is_some() && local.refusal(&"k/".repeat(450)).is_none());
        assert!(local.refusal("t/a\u{0}b/").is_some() && local.refusal("t/k=%00/").is_none());
        // Beyond ASCII, no character is refused by any store.
        assert!(local.refusal("t/a\u{85}b/").is_none() && objects.refusal("t/a\u{85}b/").is_none());
    }
}
