//! Memory limits: which container is killed, what becomes of its thread, and that the accounts are exact.

mod abandoned;
mod accounts;
mod limits;

use std::hint::black_box;
use std::sync::Arc;

use longshore::{Crash, Death, Function, Memory};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const LIMIT: u64 = 4 * MIB as u64;

/// Allocates `bytes` in blocks of a kibibyte.
fn small_blocks(bytes: usize) -> Vec<Vec<u8>> {
    (0..bytes / KIB).map(|_| black_box(vec![0; KIB])).collect()
}

fn memory<I, O, E>(f: &Function<I, O, E>) -> Memory
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    f.status().memory.expect("an accountant is installed")
}

/// The limit and the used bytes of each death. Fails if a death is not a kill for memory.
fn overdrafts(deaths: &[Arc<Crash>]) -> Vec<(u64, u64)> {
    let overdraft = |crash: &Arc<Crash>| match crash.death {
        Death::MemoryLimit { limit, used, .. } => (limit, used),
        ref other => panic!("it died of {other}"),
    };
    deaths.iter().map(overdraft).collect()
}
