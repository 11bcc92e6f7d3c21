//! Values of the user whose `Drop` panics, blocks, is slow, needs a large stack, or calls the engine: the
//! engine drops each once, and nothing else is disturbed.

mod blocking;
mod calling;
mod captured;
mod deep;
mod panicking;
