//! Modules within modules, written out.

pub mod outer {
    use super::depth;

    pub mod middle {
        pub const LEVEL: u32 = 2;

        pub mod inner {
            pub fn level() -> u32 {
                super::LEVEL + 1
            }
        }
    }

    pub fn level() -> u32 {
        depth(1)
    }
}

fn depth(level: u32) -> u32 {
    level
}
