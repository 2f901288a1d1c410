//! A small disk of its own, which a test fills up.
//!
//! Invariant: a disk that cannot be mounted fails the test that asked for it; none is ever skipped.

use std::{
    fs,
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

/// Name of the file that takes the room.
const BALLAST: &str = "ballast";

/// A file system in memory, of a few megabytes; gone when it is dropped.
#[derive(Debug)]
pub struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// Mounts one of so many megabytes, which takes root on Linux.
    pub fn mount(megabytes: u32) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let size = format!("size={megabytes}m");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "headwater-tests"]).arg(folder.path());
        let done = mount.output().context("cannot run mount")?;
        if !done.status.success() {
            let said = String::from_utf8_lossy(&done.stderr).into_owned();
            bail!("this test fills a small disk, and cannot mount one: run it as root on Linux ({})", said.trim());
        }
        Ok(Self(folder))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes all the room there is, but so many bytes.
    pub fn fill(&self, left: u64) -> Result<()> {
        let mut ballast = fs::File::options().create(true).append(true).open(self.path().join(BALLAST))?;
        let page = [0; 4096];
        let full = loop {
            if let Err(error) = ballast.write_all(&page) {
                break error;
            }
        };
        if full.kind() != ErrorKind::StorageFull {
            return Err(full).context("filling a disk");
        }
        let size = ballast.metadata()?.len();
        ballast.set_len(size.saturating_sub(left))?;
        Ok(())
    }

    /// Makes room again.
    pub fn clear(&self) -> Result<()> {
        Ok(fs::remove_file(self.path().join(BALLAST))?)
    }

    /// Its files and their sizes, but for the ballast.
    pub fn files(&self) -> Result<Vec<(PathBuf, u64)>> {
        let (mut files, mut folders) = (Vec::new(), vec![self.path().to_path_buf()]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder)? {
                let entry = entry?;
                let metadata = entry.metadata()?;
                if metadata.is_dir() {
                    folders.push(entry.path());
                } else if entry.file_name() != BALLAST {
                    files.push((entry.path(), metadata.len()));
                }
            }
        }
        files.sort();
        Ok(files)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // What still has a file open keeps it until it is gone.
        let _gone = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}
