//! What happened in the worlds that were run.

use std::fmt;
use std::ops::AddAssign;

macro_rules! tally {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// Counts of steps and faults.
        #[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
        pub(super) struct Tally {
            $($(#[doc = $doc])* pub(super) $name: u64,)*
        }

        impl AddAssign for Tally {
            fn add_assign(&mut self, other: Self) {
                $(self.$name += other.$name;)*
            }
        }

        impl Tally {
            /// The names of what never happened.
            pub(super) fn missing(&self) -> Vec<&'static str> {
                let mut missing = Vec::new();
                $(if self.$name == 0 { missing.push(stringify!($name)); })*
                missing
            }
        }

        impl fmt::Display for Tally {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                $(writeln!(f, "{:>12}  {}", self.$name, stringify!($name).replace('_', " "))?;)*
                Ok(())
            }
        }
    };
}

tally! {
    worlds,
    steps,
    inputs,
    maps,
    calls,
    executions,
    leases_split,
    errors,
    panics,
    hangs,
    failed_starts,
    /// Of a container's thread.
    threads_not_made,
    kills,
    /// By the watch.
    killed_for_memory,
    /// By themselves, when they came out of their code.
    died_of_memory,
    /// Threads left behind in it.
    abandoned,
    /// Exited to begin anew.
    recycled,
    interrupted,
    /// There were as many of them as there may be.
    crowded,
    late_answers,
    poisoned_inputs,
    inputs_lost,
    loop_delays,
    deaths_counted_together,
    /// Beside a container that was live or recycling.
    spare_starts_failed,
    suspects_died_inside_delays,
    give_ups,
    resets,
    /// Nobody was left, and nobody could be created.
    resets_in_vain,
    drains,
    stops,
    aborts,
    shutdown_limits,
    /// Containers in the user's code when the limit passed, or at an abort.
    cut_off,
    exits_timed_out,
    maps_dropped,
    calls_dropped,
    maps_salvaged,
    maps_taken_at_once,
    maps_ended_by_a_failure,
    endless_maps,
    /// A container slept over it.
    little_room,
    sources_panicked,
    sources_blocked,
    start_messages_lost,
    notices_reordered,
    notices_duplicated,
}
