//! Crashes on purpose: which files strike down their container, and at which attempt.
//!
//! Decided by a hash of the seed and the file's name below the root, so that a run can be repeated on
//! any machine, whatever the order in which files come up.

use std::collections::HashSet;

use longshore::Attempt;

use crate::error::Error;
use crate::options::Options;
use crate::tree::SourceFile;

/// Which files crash their containers.
pub(crate) struct Chaos {
    share: f64,
    seed: u64,
    /// The names of the files whose every attempt panics.
    poison: HashSet<String>,
}

impl Chaos {
    /// Chooses the poisoned files: those with the smallest hashes, so that there are exactly as many
    /// as asked.
    pub(crate) fn new(options: &Options, files: &[SourceFile]) -> Result<Self, Error> {
        if options.poison > files.len() {
            return Err(Error::Poison { asked: options.poison, files: files.len() });
        }
        let names = files.iter().map(|file| &file.name);
        let mut drawn: Vec<_> = names.map(|name| (hash("poison", options.seed, name), name)).collect();
        drawn.sort();
        let poison = drawn.into_iter().take(options.poison).map(|(_, name)| name.clone()).collect();
        Ok(Self { share: options.chaos, seed: options.seed, poison })
    }

    /// Panics, if that is this attempt's lot.
    pub(crate) fn strike(&self, file: &SourceFile, attempt: Attempt) {
        assert!(!self.poison.contains(&file.name), "poison");
        // 53 bits are what a float holds exactly; so the draw is below 1, and a share of 1 takes all.
        let draw = (hash("chaos", self.seed, &file.name) >> 11) as f64 / (1u64 << 53) as f64;
        assert!(attempt != Attempt::FIRST || draw >= self.share, "chaos");
    }
}

/// FNV-1a, then the finalizer of splitmix64, because FNV alone leaves the upper bits of similar names
/// alike. The standard library's hashers may change with its version.
fn hash(purpose: &str, seed: u64, name: &str) -> u64 {
    let bytes = purpose.bytes().chain(seed.to_le_bytes()).chain(name.bytes());
    let mut hash = bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}
