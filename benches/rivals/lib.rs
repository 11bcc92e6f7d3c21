//! This library is empty. The package consists of its benches.
