//! The cost of batches, in counted steps, does not grow with what they do not concern.
