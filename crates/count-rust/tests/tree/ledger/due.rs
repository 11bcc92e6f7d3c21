//! Due dates.

pub union Date {
    days: u32,
    parts: (u16, u8, u8),
}

pub const GRACE: u32 = 14;

pub fn due(days: u32) -> Date {
    Date { days: days + GRACE }
}
