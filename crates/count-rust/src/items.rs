//! Items by their kind.

use std::ops::AddAssign;

use syn::Item;

/// The names of the kinds, in the order of the table.
pub(crate) const KINDS: [&str; 13] = [
    "fn", "struct", "enum", "union", "trait", "impl", "mod", "use", "const", "static", "type", "macro",
    "other",
];

/// The number of items of each kind, in a file and in the modules that are written out in it. Items inside a
/// function, a trait or an `impl` are not counted.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Items([u64; KINDS.len()]);

impl Items {
    /// Counts `items` and the items of their modules.
    pub(crate) fn of(items: &[Item]) -> Self {
        let mut counted = Self::default();
        for item in items {
            counted.0[kind(item)] += 1;
            if let Item::Mod(module) = item
                && let Some((_, inner)) = &module.content
            {
                counted += Self::of(inner);
            }
        }
        counted
    }

    /// Each kind with its number of items.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (&'static str, u64)> {
        KINDS.into_iter().zip(self.0)
    }
}

impl AddAssign for Items {
    fn add_assign(&mut self, other: Self) {
        for (count, more) in self.0.iter_mut().zip(other.0) {
            *count += more;
        }
    }
}

/// The place of the item's kind in [`KINDS`].
fn kind(item: &Item) -> usize {
    match item {
        Item::Fn(_) => 0,
        Item::Struct(_) => 1,
        Item::Enum(_) => 2,
        Item::Union(_) => 3,
        Item::Trait(_) => 4,
        Item::Impl(_) => 5,
        Item::Mod(_) => 6,
        Item::Use(_) => 7,
        Item::Const(_) => 8,
        Item::Static(_) => 9,
        Item::Type(_) => 10,
        Item::Macro(_) => 11,
        // `extern crate`, `extern "C"`, trait aliases, and kinds that only newer compilers know.
        _ => 12,
    }
}
