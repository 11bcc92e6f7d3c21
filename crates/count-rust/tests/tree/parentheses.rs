//! Nests deeper than people write.

pub const DEEP: u32 = ((((((((((((((((((((((((((((((((((((((((1))))))))))))))))))))))))))))))))))))))));

pub fn deep(n: u32) -> u32 {
    if n > 0 { if n > 1 { if n > 2 { if n > 3 { { { { { n } } } } } else { 3 } } else { 2 } } else { 1 } } else { 0 }
}
