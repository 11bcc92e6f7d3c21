//! Nothing: this package is its bench, `bench.rs`.
