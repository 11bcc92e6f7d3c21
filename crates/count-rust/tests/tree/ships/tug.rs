//! Small, and pulls what is not.

use std::ops::Shl;

pub struct Tug;
pub struct Tow<T>(pub Tug, pub T);

impl<T> Shl<T> for Tug {
    type Output = Tow<T>;

    fn shl(self, ship: T) -> Tow<T> {
        Tow(self, ship)
    }
}
