//! Finds paragraphs that say nearly the same, with a model that takes many texts in one call.
//!
//! ```sh
//! cargo run --release --example 14_batches -- README.md docs/*.md
//! ```
//!
//! The model turns a text into a signature of 64 bits: the signs of 64 random projections of its word counts.
//! Texts that share most of their words have signatures that differ in few bits. The matrix of the
//! projections has a megabyte, and is read once for each batch instead of once for each text. Like other
//! models it takes texts of a limited length only, and panics at a longer one. The batch of such a text is
//! halved until the text is alone, and all other texts have their signatures.

use std::error::Error;
use std::{env, fs};

use longshore::{App, BatchWorker, BoxError, Cause, Context};
use unicode_segmentation::UnicodeSegmentation;

/// The number of counters into which words are hashed.
const FEATURES: usize = 4_096;

/// The number of projections, and of bits of a signature.
const BITS: usize = 64;

/// The largest number of words of a text.
const WORDS_MAX: usize = 400;

/// The projections. Each container loads its own.
struct Model {
    /// For each feature its part in each projection.
    weights: Vec<[f32; BITS]>,
}

impl Model {
    fn load(_: &Context) -> Result<Self, BoxError> {
        let part = |feature: usize, bit: usize| {
            let hash = mixed((feature * BITS + bit) as u64);
            (hash >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        };
        let row = |feature| std::array::from_fn(|bit| part(feature, bit));
        Ok(Self { weights: (0..FEATURES).map(row).collect() })
    }
}

impl BatchWorker for Model {
    type Input = String;
    type Output = u64;
    type Error = &'static str;

    fn call(&mut self, texts: &[&String], _: &Context) -> Vec<Result<u64, &'static str>> {
        let counts: Vec<Vec<f32>> = texts.iter().map(|text| word_counts(text)).collect();
        let mut sums = vec![[0.0; BITS]; texts.len()];
        // One pass over the weights for all texts of the batch.
        for (feature, weights) in self.weights.iter().enumerate() {
            for (counts, sums) in counts.iter().zip(&mut sums).filter(|(counts, _)| counts[feature] > 0.0) {
                sums.iter_mut().zip(weights).for_each(|(sum, weight)| *sum += counts[feature] * weight);
            }
        }
        let signature = |sums: &[f32; BITS]| {
            sums.iter().enumerate().fold(0, |bits, (bit, sum)| bits | u64::from(*sum > 0.0) << bit)
        };
        let is_empty = |counts: &Vec<f32>| counts.iter().all(|count| *count == 0.0);
        let outcome = |(counts, sums)| if is_empty(counts) { Err("no words") } else { Ok(signature(sums)) };
        counts.iter().zip(&sums).map(outcome).collect()
    }
}

/// How often each feature occurs in a text.
fn word_counts(text: &str) -> Vec<f32> {
    let words: Vec<String> = text.unicode_words().map(str::to_lowercase).collect();
    assert!(words.len() <= WORDS_MAX, "the text has {} words, and may have {WORDS_MAX}", words.len());
    let mut counts = vec![0.0; FEATURES];
    for word in words {
        let hash = word.bytes().fold(0, |hash, byte| mixed(hash ^ u64::from(byte)));
        counts[hash as usize % FEATURES] += 1.0;
    }
    counts
}

/// Mixes the bits of a number (splitmix64).
fn mixed(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

fn main() -> Result<(), Box<dyn Error>> {
    let paths: Vec<String> = env::args().skip(1).collect();
    let mut paragraphs = Vec::new();
    for path in &paths {
        let text = fs::read_to_string(path)?;
        paragraphs.extend(text.split("\n\n").filter(|text| !text.trim().is_empty()).map(str::to_owned));
    }
    let app = App::ephemeral("batches");
    let sign = app.batch_worker("sign", Model::load).batch_size(64).start()?;
    let (mut signatures, mut too_long, mut empty) = (Vec::new(), 0, 0);
    for (at, outcome) in sign.run_all(paragraphs.clone()).into_iter().enumerate() {
        match outcome {
            Ok(signature) => signatures.push((at, signature)),
            Err(failure) => match failure.cause() {
                Cause::Poisoned(_) => too_long += 1,
                _ => empty += 1,
            },
        }
    }
    let crashes = sign.status().crashes;
    let batches = sign.snapshot().batches.map_or(0, |batches| batches.executed);
    println!(
        "{} paragraphs: {} signed, {empty} without words, {too_long} too long",
        paragraphs.len(),
        signatures.len()
    );
    println!("{batches} batches, {crashes} crashes");
    let pairs = signatures.iter().enumerate().flat_map(|(at, one)| {
        signatures[at + 1..].iter().map(move |other| ((one.1 ^ other.1).count_ones(), one.0, other.0))
    });
    if let Some((bits, one, other)) =
        pairs.filter(|(_, one, other)| paragraphs[*one] != paragraphs[*other]).min()
    {
        println!("the most alike differ in {bits} of {BITS} bits:");
        println!("  {}", first_line(&paragraphs[one]));
        println!("  {}", first_line(&paragraphs[other]));
    }
    println!("ended well: {}", app.shutdown_blocking().is_clean());
    Ok(())
}

fn first_line(paragraph: &str) -> &str {
    paragraph.trim().lines().next().unwrap_or_default()
}
