//! [`Tally`]: the counts of a stress test.

use std::fmt;
use std::ops::AddAssign;

macro_rules! tally {
    ($($name:ident,)*) => {
        /// Counts over rounds.
        #[derive(Debug, Default, Clone, Copy)]
        pub(crate) struct Tally {
            $(pub(crate) $name: u64,)*
        }

        impl AddAssign for Tally {
            fn add_assign(&mut self, other: Self) {
                $(self.$name += other.$name;)*
            }
        }

        impl fmt::Display for Tally {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                $(writeln!(f, "{:>14}  {}", self.$name, stringify!($name).replace('_', " "))?;)*
                Ok(())
            }
        }
    };
}

tally! {
    rounds,
    maps,
    maps_dropped,
    calls,
    calls_left,
    waits_given_up,
    permits,
    permits_dropped,
    inputs,
    executions,
    outcomes,
    ok,
    failed,
    cut,
    timed_out,
    past_deadline,
    overloaded,
    poisoned,
    cancelled,
    given_up,
    replays,
    retries,
    errors,
    panics,
    balloons,
    stuck,
    overdue,
    hangs,
    unresponsive,
    deep,
    leaks,
    failed_starts,
    kills,
    resets,
    pauses,
    crashes,
    restarts,
    recycled,
    late_answers,
    drains,
    stops,
    aborts,
    lost,
    duplicated,
}
