//! The accepted inputs that the end of the function leaves without an outcome of their own. The report
//! shows their numbers.

/// The accepted inputs that got no outcome of their own because the function ended.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Leftovers {
    /// The inputs that came back inside their errors.
    pub(crate) returned: u64,
    /// The inputs that were dropped because their map ended.
    pub(super) dropped: u64,
    /// Whether the time limit of the end has passed.
    pub(super) limit_passed: bool,
}

impl Leftovers {
    /// Adds `inputs`, as returned if `come_back` is set and as dropped otherwise.
    pub(super) fn add(&mut self, inputs: u64, come_back: bool) {
        *(if come_back { &mut self.returned } else { &mut self.dropped }) += inputs;
    }
}
