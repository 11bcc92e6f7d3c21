//! [`Checked`]: a reader with checkpoints.

use std::io::{BufRead, Read, Result, Seek, SeekFrom};

use longshore::Context;

/// A reader that passes a [checkpoint](Context::checkpoint) whenever something is read from it.
///
/// It brings checkpoints into a decoder that knows nothing of containers: the decoder unwinds at its next
/// read if its client has left or if its container is over the memory limit.
#[derive(Debug, Clone)]
pub struct Checked<R>(R);

impl<R> Checked<R> {
    /// A reader over `reader`.
    pub fn new(reader: R) -> Self {
        Self(reader)
    }
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize> {
        Context::checkpoint();
        self.0.read(bytes)
    }
}

impl<R: BufRead> BufRead for Checked<R> {
    fn fill_buf(&mut self) -> Result<&[u8]> {
        Context::checkpoint();
        self.0.fill_buf()
    }

    fn consume(&mut self, bytes: usize) {
        self.0.consume(bytes);
    }
}

impl<R: Seek> Seek for Checked<R> {
    fn seek(&mut self, to: SeekFrom) -> Result<u64> {
        self.0.seek(to)
    }
}
