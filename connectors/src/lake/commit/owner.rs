//! Who runs a statement, and whether it still does.
//!
//! Invariant: `fate` is a guess that is allowed to be wrong; only the decision record decides.

use headwater_engine::time::Instant;
use serde::{Deserialize, Serialize};

use super::LEASE_MS;

/// A process, named so that another process of the same machine can tell whether it is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The machine since its last start, and the process number space; empty if unknown.
    pub machine: String,
    /// Process number.
    pub pid: u32,
    /// When the process started, in the machine's ticks; tells apart two processes of one number.
    pub started: u64,
}

/// Whether the owner of a statement goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It may go on.
    Alive,
    /// It will not.
    Dead,
}

impl Owner {
    /// This process.
    pub fn this_process() -> Self {
        let pid = std::process::id();
        Self { machine: machine(), pid, started: start_of(pid).unwrap_or(0) }
    }

    /// Whether the process is known to be gone: same machine, and no such process.
    pub fn is_gone(&self, observer: &Owner) -> bool {
        let comparable = !self.machine.is_empty() && self.machine == observer.machine && self.started != 0;
        comparable && start_of(self.pid) != Some(self.started)
    }
}

/// Whether an owner is taken for dead: its process is gone, or its heartbeat is older than the lease.
pub fn fate(gone: bool, heartbeat: Instant, now: Instant) -> Fate {
    if gone || now.0.saturating_sub(heartbeat.0) > LEASE_MS { Fate::Dead } else { Fate::Alive }
}

/// Boot id and process number space of Linux; empty elsewhere, where only the lease tells.
fn machine() -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    match std::fs::read_link("/proc/self/ns/pid") {
        Ok(space) if !boot.is_empty() => format!("{} {}", boot.trim(), space.display()),
        _ => String::new(),
    }
}

/// Field 22 of `/proc/<pid>/stat`, counted after the name in parentheses.
fn start_of(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_not_gone_and_another_start_is() {
        let ours = Owner::this_process();
        assert!(!ours.is_gone(&ours));
        if ours.started != 0 {
            assert!(Owner { started: ours.started + 1, ..ours.clone() }.is_gone(&ours));
            assert!(!Owner { started: 1, machine: "elsewhere".into(), ..ours.clone() }.is_gone(&ours));
        }
    }

    #[test]
    fn a_heartbeat_counts_for_the_lease() {
        assert_eq!(fate(false, Instant(0), Instant(LEASE_MS)), Fate::Alive);
        assert_eq!(fate(false, Instant(0), Instant(LEASE_MS + 1)), Fate::Dead);
        assert_eq!(fate(true, Instant(0), Instant(0)), Fate::Dead);
        assert_eq!(fate(false, Instant(10), Instant(0)), Fate::Alive);
    }
}
