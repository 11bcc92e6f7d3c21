//! What hangs from the crane.

/// What hangs from the crane.
pub struct Hook<T>(Option<T>);

impl<T> Hook<T> {
    pub fn lift(&mut self, load: T) -> Result<(), T> {
        match self.0 {
            Some(_) => Err(load),
            None => {
                self.0 = Some(load);
                Ok(())
            }
        }
    }

    pub fn lower(&mut self) -> Option<T> {
        self.0.take()
    }
}

impl<T> Drop for Hook<T> {
    fn drop(&mut self) {
        assert!(self.0.is_none(), "never let go of a load");
    }
}
