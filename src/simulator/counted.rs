//! Counted steps: the steps of an operation beside few things are compared with its steps beside many.

use crate::decide::steps::tests::taken;

/// A small number of things beside an operation.
const FEW: usize = 30;
/// A large number of things beside an operation.
const MANY: usize = 1000;

pub(super) fn steps(operation: impl FnOnce()) -> u64 {
    let before = taken();
    operation();
    taken() - before
}

/// Checks that the operation takes as many steps beside few things as beside many.
pub(super) fn is_constant(what: &str, operation: impl Fn(usize) -> u64) {
    let (few, many) = (operation(FEW), operation(MANY));
    assert!(many <= few + 2, "{what}: {few} steps beside {FEW}, {many} beside {MANY}");
}

/// Checks that an operation on all things takes a bounded number of steps for each.
pub(super) fn is_linear(what: &str, operation: impl Fn(usize) -> u64) {
    let (few, many) = (operation(FEW), operation(MANY));
    let bound = (few + 10) * (MANY / FEW) as u64 * 2;
    assert!(many <= bound, "{what}: {few} steps for {FEW}, {many} for {MANY}");
}
