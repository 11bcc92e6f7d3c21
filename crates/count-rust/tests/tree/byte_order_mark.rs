//! Begins with a byte order mark.

pub static FLAG: &str = "blue and yellow";
