//! [`Tally`]: counts of what happened in the worlds that were run. The macro `tally!` makes the type, and the
//! tallies of the smaller worlds.

/// Makes a type that counts, by the names of its counts.
macro_rules! tally {
    ($Tally:ident { $($(#[doc = $doc:literal])* $name:ident,)* }) => {
        /// Counts of steps and faults.
        #[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
        pub(super) struct $Tally {
            $($(#[doc = $doc])* pub(super) $name: u64,)*
        }

        impl std::ops::AddAssign for $Tally {
            fn add_assign(&mut self, other: Self) {
                $(self.$name += other.$name;)*
            }
        }

        impl $Tally {
            /// The names of the counts that are zero.
            pub(super) fn missing(&self) -> Vec<&'static str> {
                let mut missing = Vec::new();
                $(if self.$name == 0 { missing.push(stringify!($name)); })*
                missing
            }
        }

        impl std::fmt::Display for $Tally {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                $(writeln!(f, "{:>12}  {}", self.$name, stringify!($name).replace('_', " "))?;)*
                Ok(())
            }
        }
    };
}

pub(super) use tally;

tally! {
    Tally {
        worlds,
        steps,
        inputs,
        maps,
        calls,
        /// Calls that were refused because there was no room.
        overloaded,
        /// Users that waited for a place among the calls.
        waits_for_a_place,
        /// Places that were granted to a user who had gone away.
        granted_places_left,
        executions,
        leases_split,
        errors,
        /// Retries that waited for the time that their error named.
        retries_put_off,
        panics,
        hangs,
        failed_starts,
        /// The operating system refused a thread for a container.
        threads_not_made,
        kills,
        /// Containers that the watch killed.
        killed_for_memory,
        /// Containers that took the verdict themselves when their code ended or unwound.
        died_of_memory,
        /// Threads left behind in the user's code.
        abandoned,
        /// Containers that exited to be recycled.
        recycled,
        interrupted,
        /// Deaths at which the threads left behind reached a limit.
        crowded,
        late_answers,
        poisoned_inputs,
        inputs_lost,
        loop_delays,
        deaths_counted_together,
        /// Failed starts beside a container that was live or recycling.
        spare_starts_failed,
        suspects_died_inside_delays,
        give_ups,
        resets,
        pauses,
        /// Resets of a function without a container that could go on or be created.
        resets_in_vain,
        drains,
        stops,
        aborts,
        shutdown_limits,
        /// Attempts that were cut at their timeouts, and at their deadlines.
        timed_out,
        cut_at_deadlines,
        /// Inputs whose deadlines passed while they waited.
        expired,
        /// Retries that were not waited for, because the deadline passes before.
        retries_refused,
        /// Containers that died because their code did not return after its limit.
        unresponsive,
        /// Containers that were kept for that reason.
        hung,
        starts_timed_out,
        unwound_at_limits,
        give_ups_because_all_hang,
        /// Containers that were in the user's code at the limit of a shutdown or at an abort.
        cut_off,
        exits_timed_out,
        maps_dropped,
        calls_dropped,
        maps_salvaged,
        maps_taken_at_once,
        maps_ended_by_a_failure,
        endless_maps,
        /// Times that a container slept over little room.
        little_room,
        sources_panicked,
        sources_blocked,
        start_messages_lost,
        notices_reordered,
        notices_duplicated,
    }
}
