#!/usr/bin/env run-cargo-script
//! Begins as a script does.

fn main() {
    println!("all ashore");
}
