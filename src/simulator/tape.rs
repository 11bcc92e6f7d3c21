//! [`Tape`]: the choices of a world.
//!
//! A world is a function of its tape. 0 is the plainest choice everywhere, and a tape that has run out gives
//! zeros for ever. So a shorter tape, or one with lower numbers, makes a simpler world. Failing worlds are
//! shrunk in this way.

/// A list of choices, in the order in which they are made.
#[derive(Debug, Clone)]
pub(super) struct Tape {
    choices: Vec<u32>,
    at: usize,
}

impl Tape {
    pub(super) fn new(choices: Vec<u32>) -> Self {
        Self { choices, at: 0 }
    }

    pub(super) fn has_run_out(&self) -> bool {
        self.at >= self.choices.len()
    }

    fn next(&mut self) -> u32 {
        let choice = self.choices.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        choice
    }

    /// One of the numbers `0 .. of`.
    pub(super) fn pick(&mut self, of: usize) -> usize {
        self.next() as usize % of.max(1)
    }

    /// One of the numbers `0 .. of`. A tape of zeros gives each of them its turn.
    pub(super) fn pick_in_turn(&mut self, turn: u64, of: usize) -> usize {
        (turn as usize + self.pick(of)) % of
    }

    /// One of these values.
    pub(super) fn one_of<T: Copy>(&mut self, these: &[T]) -> T {
        these[self.pick(these.len())]
    }

    /// True in one case of `of`. The choice 0 gives false.
    pub(super) fn one_in(&mut self, of: usize) -> bool {
        self.pick(of) == of - 1
    }

    /// A salt for everything that is decided by a hash.
    pub(super) fn salt(&mut self) -> u64 {
        u64::from(self.next()) << 32 | u64::from(self.next())
    }
}

/// A hash of four numbers.
pub(super) fn mix(salt: u64, a: u64, b: u64, c: u64) -> u64 {
    let mut z = salt;
    for part in [a, b, c] {
        z = (z ^ part).wrapping_add(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
    }
    z
}
