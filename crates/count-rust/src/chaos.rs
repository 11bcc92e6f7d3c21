//! Crashes on purpose: which files crash their container, how, and at which attempt.
//!
//! A hash of the seed and of the file's name below the root decides. So a run can be repeated on any machine,
//! whatever the order of the files.

use std::collections::HashSet;
use std::hint::black_box;

use longshore::Attempt;

use crate::error::Error;
use crate::options::Options;
use crate::tree::SourceFile;

/// The files that crash their containers.
pub(crate) struct Chaos {
    share: f64,
    seed: u64,
    /// The names of the files whose every attempt panics.
    poison: HashSet<String>,
    /// The names of the files whose every attempt exceeds the memory limit. None of them is in `poison`.
    balloons: HashSet<String>,
    /// The number of bytes that such an attempt allocates.
    balloon_bytes: usize,
}

/// A balloon grows by blocks of this size.
const BREATH_BYTES: usize = 64 << 10;

impl Chaos {
    /// Chooses the files with the smallest hashes, so that there are exactly as many as asked for.
    pub(crate) fn new(options: &Options, files: &[SourceFile]) -> Result<Self, Error> {
        let asked = options.poison.saturating_add(options.balloon);
        if asked > files.len() {
            return Err(Error::TooMany { asked, files: files.len() });
        }
        let choose = |purpose: &str, number: usize, but: &HashSet<String>| -> HashSet<String> {
            let names = files.iter().map(|file| &file.name).filter(|name| !but.contains(*name));
            let mut drawn: Vec<_> = names.map(|name| (hash(purpose, options.seed, name), name)).collect();
            drawn.sort();
            drawn.into_iter().take(number).map(|(_, name)| name.clone()).collect()
        };
        let poison = choose("poison", options.poison, &HashSet::new());
        let balloons = choose("balloon", options.balloon, &poison);
        let limit_bytes = options.memory_limit.unwrap_or(0).saturating_mul(1 << 20);
        let balloon_bytes = usize::try_from(limit_bytes).unwrap_or(usize::MAX).saturating_mul(4);
        Ok(Self { share: options.chaos, seed: options.seed, poison, balloons, balloon_bytes })
    }

    /// Uses far more memory than allowed if the file was chosen for that, as a parser may do with a hostile
    /// file.
    pub(crate) fn balloon(&self, file: &SourceFile) {
        if self.balloons.contains(&file.name) {
            let breaths = self.balloon_bytes / BREATH_BYTES;
            let balloon: Vec<Vec<u8>> = (0..breaths).map(|_| vec![1; BREATH_BYTES]).collect();
            black_box(balloon);
        }
    }

    /// Panics if this attempt was chosen for that.
    pub(crate) fn strike(&self, file: &SourceFile, attempt: Attempt) {
        assert!(!self.poison.contains(&file.name), "poison");
        // A float holds 53 bits exactly. So the draw is below 1, and a share of 1 takes all files.
        let draw = (hash("chaos", self.seed, &file.name) >> 11) as f64 / (1u64 << 53) as f64;
        assert!(attempt != Attempt::FIRST || draw >= self.share, "chaos");
    }
}

/// FNV-1a, followed by the finalizer of splitmix64, because FNV alone leaves the upper bits of similar names
/// alike. The standard library's hashers may change with its version, and so are not used.
fn hash(purpose: &str, seed: u64, name: &str) -> u64 {
    let bytes = purpose.bytes().chain(seed.to_le_bytes()).chain(name.bytes());
    let mut hash = bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}
