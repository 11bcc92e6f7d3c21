//! A simulator of the engine: random worlds in virtual time, held against a naive model.
//!
//! [`world`] runs one world, which is a function of its [`tape`]. [`plan`] draws its settings and
//! habits, and [`actions`] are its steps. The simulated parties are [`threads`] (with [`thread_life`]
//! and [`thread_work`]), [`feeders`], [`readers`] (with [`reading`]), [`supervisor`], [`users`] and
//! [`permits`]. Everything is checked against the model: [`model`] with [`inputs`],
//! [`execution_model`], [`death_model`], [`containers`], [`dispatch`], [`suspects`], [`eligible`],
//! [`little_room`] and [`time_model`], and [`policy`]. [`looks`] has the limits of time, [`kept`]
//! checks the memory, and [`status`], [`ends`] and [`events`] check what the engine reports. [`tally`]
//! counts what happened, and [`values`] has the values. Three have worlds of their own, which share a
//! [`course`] and an [`office`]: [`lanes`], where a container has several inputs in flight,
//! [`batches`], where it executes several inputs together, and [`limits`], with a record of each input
//! and its timeouts and deadlines. Apart from the worlds, [`costs`] and [`costs_of_limits`] count steps
//! (as [`counted`] says), and [`moments`] does two things at the same moment. [`hangs`] and
//! [`overloads`] drive time-outs and refused calls to the lines that an operator reads. All use a
//! [`rig`].
//!
//! ```text
//! cargo test simulator                                              a few thousand worlds
//! LONGSHORE_WORLDS=1000000 cargo test --release simulator           a million
//! LONGSHORE_FIRST=20000 LONGSHORE_WORLDS=5000 cargo test simulator  the worlds from seed 20000 to 24999
//! LONGSHORE_SEED=17 cargo test simulator                            the world of one seed, again
//! LONGSHORE_SHRINK=0 cargo test simulator                           a failing world is not shrunk
//! ```

mod actions;
mod batches;
mod model;
mod containers;
mod costs;
mod costs_of_limits;
mod counted;
mod course;
mod death_model;
mod eligible;
mod execution_model;
mod little_room;
mod looks;
mod dispatch;
mod ends;
mod feeders;
mod events;
mod fates;
mod hangs;
mod host;
mod inputs;
mod kept;
mod lanes;
mod left_behind;
mod limits;
mod moments;
mod office;
mod overloads;
mod permits;
mod places;
mod plan;
mod policy;
mod readers;
mod reading;
mod ready_requests;
mod rig;
mod snapshots;
mod status;
mod supervised;
mod supervisor;
mod suspects;
mod takers;
mod tally;
mod tape;
mod thread_life;
mod thread_work;
mod threads;
mod time_facts;
mod time_model;
mod values;
mod users;
mod world;

use std::ops::AddAssign;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::code::context::Context;
use crate::contain::unwind::{contain, install_hook};
use tally::Tally;
use world::{Verbosity, World};

/// The number of worlds in a normal test run.
const WORLDS: u64 = 3_000;

/// The number of simpler worlds that are tried for a failing one, unless `LONGSHORE_SHRINK` says otherwise.
const SHRINKS_MAX: u64 = 5_000;

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text:?}")))
}

/// Runs the world of a seed. A failing world is shrunk and then printed step by step. `test` is the name of
/// the test of such worlds.
fn live<T>(seed: u64, test: &str, live: fn(Vec<u32>, Verbosity) -> T) -> Result<T, String> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let tapes = proptest::collection::vec(proptest::num::u32::ANY, 20..1200);
    let mut tree = tapes.new_tree(&mut runner).map_err(|reason| reason.to_string())?;
    let mut failure = match contain(|| live(tree.current(), Verbosity::Nothing)) {
        Ok(tally) => return Ok(tally),
        Err(panic) => (panic, tree.current()),
    };
    let mut simpler = tree.simplify();
    for _ in 0..setting("LONGSHORE_SHRINK").unwrap_or(SHRINKS_MAX) {
        if !simpler {
            break;
        }
        let choices = tree.current();
        simpler = match contain(|| live(choices.clone(), Verbosity::Nothing)) {
            Ok(_) => tree.complicate(),
            Err(panic) => {
                failure = (panic, choices);
                tree.simplify()
            }
        };
    }
    let (panic, choices) = failure;
    drop(contain(|| live(choices.clone(), Verbosity::Steps)));
    Err(format!("{panic}\n  seed {seed}: LONGSHORE_SEED={seed} cargo test {test}\n  tape {choices:?}"))
}

/// Runs the worlds that the environment asks for, or `worlds` of them. Returns the sum of their tallies, and
/// whether there were enough worlds for each kind of event.
///
/// # Panics
///
/// If a world fails.
fn every_seed<T>(test: &str, worlds: u64, world: fn(Vec<u32>, Verbosity) -> T) -> (T, bool)
where
    T: Default + AddAssign,
{
    install_hook(Context::moment);
    let seeds = match setting("LONGSHORE_SEED") {
        Some(seed) => seed..seed + 1,
        None => {
            let first = setting("LONGSHORE_FIRST").unwrap_or(0);
            first..first + setting("LONGSHORE_WORLDS").unwrap_or(worlds)
        }
    };
    let mut tally = T::default();
    for seed in seeds.clone() {
        match live(seed, test, world) {
            Ok(one) => tally += one,
            Err(failure) => panic!("{failure}"),
        }
    }
    (tally, seeds.end - seeds.start >= worlds)
}

#[test]
fn every_world_keeps_every_promise() {
    let (tally, is_whole): (Tally, bool) = every_seed("simulator", WORLDS, World::live);
    println!("{tally}");
    if is_whole {
        assert_eq!(tally.missing(), [""; 0], "faults that no world had");
    }
}
