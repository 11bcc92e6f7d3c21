//! What keeps the water out.

macro_rules! plates {
    ($($name:ident = $thickness:expr),* $(,)?) => {
        $(pub const $name: u32 = $thickness;)*
    };
}

plates! {
    KEEL = 24,
    BILGE = 18,
    SHEER = 14,
}

pub fn lightest() -> u32 {
    [KEEL, BILGE, SHEER].into_iter().min().unwrap_or(0)
}
