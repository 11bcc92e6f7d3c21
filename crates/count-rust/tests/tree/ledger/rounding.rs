//! Never to the harbour's disadvantage.

pub trait RoundUp {
    fn round_up(self, to: Self) -> Self;
}

macro_rules! round_up {
    ($($integer:ty)*) => {
        $(
            impl RoundUp for $integer {
                fn round_up(self, to: Self) -> Self {
                    self.div_ceil(to) * to
                }
            }
        )*
    };
}

round_up!(u8 u16 u32 u64 usize);
