//! Lines that end as on Windows.

pub fn anchor() -> &'static str {
    "weighed"
}
