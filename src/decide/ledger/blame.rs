//! The inputs of a container that has died: each is charged or set free, and is then executed again,
//! poisoned or lost. The container itself is decided on in `verdict`.

use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::{Attempt, InputId, LaneId};
use crate::decide::job::{DEATHS_MAX, InputEnd, InputRecord, Job, OnFailure, Span};
use crate::decide::ledger::requeue::QueueEnd;
use crate::decide::ledger::{CrashNumber, Leaving, Ledger, Position, Pressure};
use crate::decide::steps;
use crate::decide::time::Time;
use crate::values::crash::{Crash, Previous};

/// The decision on the input that was executing when its container died.
#[derive(Debug, Clone)]
pub(crate) enum AfterCrash {
    /// The input is executed again, or is given up with the function.
    Pending { input: InputId },
    /// The input's crash budget is spent.
    Poisoned { input: InputId, attempts: Attempt, deaths: Vec<Arc<Crash>>, ends_map: bool },
    /// The container was killed by hand, and the input may not be begun again. `deaths` are the deaths that
    /// the input caused before.
    Lost { input: InputId, attempts: Attempt, deaths: Vec<Arc<Crash>>, crash: Arc<Crash>, ends_map: bool },
    /// The input has left too many threads behind by timeouts.
    TimedOut { input: InputId, attempts: Attempt, deaths: Vec<Arc<Crash>>, limit: Duration, ends_map: bool },
}

/// How an input that was set free executes the next time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NextTime {
    AsItComes,
    Alone,
    /// Together with others of its batch. The caller puts it into a queue.
    InHalves,
}

/// An input that was replayed free this often executes alone from then on, so that a crash shows whether the
/// input is to blame.
const FREED_MAX: u32 = 3;

/// An input may abandon this many threads. After that it is not replayed, because a replay
/// could abandon another.
const ABANDONED_MAX: u32 = 2;

impl Ledger {
    /// Blames an input that was executing when its container crashed. `outlived` is the last crash that
    /// the container had outlived: it was begun after that crash, or has completed an input of a lease
    /// that it took after it.
    pub(super) fn blame(
        &mut self,
        input: InputId,
        outlived: CrashNumber,
        crash: &Arc<Crash>,
        counted: bool,
        leaving: Leaving,
        now: Time,
    ) -> AfterCrash {
        let job = self.jobs.get_mut(&input.job).expect("a lease belongs to an open job");
        let record = job.record_or_new(input.index);
        let attempts = record.attempt();
        record.previous = Some(Previous::Crashed(Arc::clone(crash)));
        if counted {
            record.counted = Some(now);
        }
        if record.deaths.len() < DEATHS_MAX {
            record.deaths.push(Arc::clone(crash));
        }
        // If the container has not proved itself, the fault may be the container's.
        let is_charged = record.crashed.is_none_or(|(last, _)| outlived >= last);
        if is_charged {
            record.crashes += 1;
        } else {
            record.kills += 1;
        }
        record.crashed = Some((self.crashes, now));
        if record.is_abandoned_for_good(leaving) || record.crashes > self.rules.crash_retries {
            self.pending -= 1;
            job.kind().ended(1, &mut self.admission);
            return job.poison(input, attempts);
        }
        self.await_replay(input, QueueEnd::Back);
        AfterCrash::Pending { input }
    }

    /// Replays the input of a lane that was executing beside the one that crashed. It is innocent, so this
    /// costs nothing. The input is lost where no input may be begun again.
    pub(super) fn set_free(
        &mut self,
        lane: LaneId,
        position: Position,
        next_time: NextTime,
        crash: &Arc<Crash>,
        leaving: Leaving,
    ) -> Option<AfterCrash> {
        let input = self.executing(lane, Some(position))?;
        Some(self.set_input_free(input, next_time, crash, leaving))
    }

    pub(super) fn set_input_free(
        &mut self,
        input: InputId,
        next_time: NextTime,
        crash: &Arc<Crash>,
        leaving: Leaving,
    ) -> AfterCrash {
        let job = self.jobs.get_mut(&input.job).expect("a lease belongs to an open job");
        let record = job.record_or_new(input.index);
        record.freed += 1;
        record.alone |= next_time == NextTime::Alone || record.freed >= FREED_MAX;
        if let Some(lost) = self.lose_unless_replayed(input, crash, leaving) {
            return lost;
        }
        if next_time != NextTime::InHalves {
            self.await_replay(input, QueueEnd::Back);
        }
        AfterCrash::Pending { input }
    }

    /// Decides on an input that was executing in a container that was killed by hand.
    pub(super) fn interrupt_by_hand(
        &mut self,
        input: InputId,
        crash: &Arc<Crash>,
        leaving: Leaving,
    ) -> AfterCrash {
        if let Some(lost) = self.lose_unless_replayed(input, crash, leaving) {
            return lost;
        }
        self.await_replay(input, QueueEnd::Back);
        AfterCrash::Pending { input }
    }

    /// Counts an execution that ended with its container and costs the input nothing. Returns the end of the
    /// input if it may not be begun again. The caller puts any other input into a queue.
    fn lose_unless_replayed(
        &mut self,
        input: InputId,
        crash: &Arc<Crash>,
        leaving: Leaving,
    ) -> Option<AfterCrash> {
        let at_most_once = self.rules.crash_retries == 0;
        let job = self.jobs.get_mut(&input.job).expect("a lease belongs to an open job");
        let record = job.record_or_new(input.index);
        let attempts = record.attempt();
        record.kills += 1;
        record.previous = Some(Previous::Crashed(Arc::clone(crash)));
        if !(record.is_abandoned_for_good(leaving) || at_most_once) {
            return None;
        }
        self.pending -= 1;
        job.kind().ended(1, &mut self.admission);
        Some(job.lose(input, attempts, Arc::clone(crash)))
    }

    /// Ends the inputs that wait to be executed again and have left a thread behind before, because no more
    /// threads may be abandoned.
    pub(super) fn end_under_pressure(&mut self, leaving: Leaving, ended: &mut Vec<AfterCrash>) {
        if !leaving.abandoned || leaving.pressure == Pressure::None {
            return;
        }
        for input in std::mem::take(&mut self.left_a_thread).into_iter().map(steps::each) {
            self.leave_queue(input);
            let previous = self.record(input).and_then(|record| record.previous.as_ref());
            if matches!(previous, Some(Previous::TimedOut)) {
                ended.push(self.end_timed_out(input));
                continue;
            }
            self.pending -= 1;
            let job = self.jobs.get_mut(&input.job).expect("queued inputs belong to open jobs");
            job.kind().ended(1, &mut self.admission);
            ended.push(job.end_abandoned(input));
        }
    }
}

impl InputRecord {
    /// Counts an abandoned thread of this input. Returns whether the input has abandoned too many, or
    /// there are too many in all.
    pub(super) fn is_abandoned_for_good(&mut self, leaving: Leaving) -> bool {
        if !leaving.abandoned {
            return false;
        }
        self.abandoned += 1;
        leaving.pressure > Pressure::None || self.abandoned >= ABANDONED_MAX
    }
}

impl Job {
    fn poison(&mut self, input: InputId, attempts: Attempt) -> AfterCrash {
        let record = self.take_record(input.index).expect("it has crashed");
        self.ends(InputEnd::Poisoned, Span { first: input.index, len: 1 });
        let ends_map = self.on_failure() == OnFailure::EndMap;
        AfterCrash::Poisoned { input, attempts, deaths: record.deaths, ends_map }
    }

    fn lose(&mut self, input: InputId, attempts: Attempt, crash: Arc<Crash>) -> AfterCrash {
        let deaths = self.take_record(input.index).map_or_else(Vec::new, |record| record.deaths);
        self.ends(InputEnd::Cancelled, Span { first: input.index, len: 1 });
        let ends_map = self.on_failure() == OnFailure::EndMap;
        AfterCrash::Lost { input, attempts, deaths, crash, ends_map }
    }

    /// Ends an input that waits to be replayed and must not be any more.
    fn end_abandoned(&mut self, input: InputId) -> AfterCrash {
        let record = self.record(input.index).expect("it has left a thread behind");
        let attempts = Attempt(record.attempt().0 - 1); // those that were begun
        match &record.previous {
            Some(Previous::Crashed(crash)) if !record.is_suspect() => {
                let crash = Arc::clone(crash);
                self.lose(input, attempts, crash)
            }
            _ => self.poison(input, attempts),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::ContainerId;
    use crate::decide::ledger::LeaseKind;
    use crate::decide::ledger::fixture::{FIRST, Rig, SECOND, START, UNCROWDED, abandoned, at, endings, one};
    use crate::decide::restart::RateLimited;
    use crate::decide::retries::Retries;

    #[test]
    fn an_input_is_poisoned_by_the_crash_past_its_budget_and_shows_each_death() {
        for crash_retries in [0, 1, 3, 20] {
            let (mut rig, input) = one(Retries::new(0), crash_retries);
            for crash in 1..=crash_retries + 1 {
                let lease = rig.takes(FIRST, START);
                assert_eq!((lease.attempt, rig.attempt(input)), (Attempt(crash), Attempt(crash)));
                let is_first = crash == 1;
                let kind = if is_first { LeaseKind::First } else { LeaseKind::Replay { suspect: true } };
                assert_eq!(lease.kind, kind);
                let verdict = rig.crashes(FIRST, START);
                match &verdict.inputs[..] {
                    [AfterCrash::Pending { input: pending }] => {
                        assert_eq!(*pending, input);
                        assert!(crash <= crash_retries && !rig.ledger.nothing_pending());
                    }
                    [AfterCrash::Poisoned { input: poisoned, attempts, deaths, ends_map: false }] => {
                        assert_eq!((*poisoned, *attempts), (input, Attempt(crash_retries + 1)));
                        assert_eq!(deaths.len(), (crash as usize).min(DEATHS_MAX));
                        assert_eq!(crash, crash_retries + 1);
                    }
                    other => panic!("one input was executing: {other:?}"),
                }
                rig.enters(FIRST, START);
            }
            assert_eq!(endings(&rig, input.job), [0, 0, 1, 0, 0]);
            assert_eq!(
                rig.ledger.job(input.job).map(|job| job.counts().replayed),
                Some(u64::from(crash_retries))
            );
            assert!(rig.ledger.nothing_pending());
        }
    }

    #[test]
    fn a_crash_in_a_container_that_has_proved_nothing_costs_an_attempt_and_no_budget() {
        let mut rig = Rig::with(2, RateLimited::never(), Retries::new(0), 1);
        let input = InputId { job: rig.call(), index: 0 };
        rig.enters(FIRST, START);
        rig.enters(SECOND, START);
        rig.takes(FIRST, START);
        rig.crashes(FIRST, START);
        // No container was entered for so long that any live container may replay the suspect.
        assert_eq!(rig.takes(SECOND, at(10_000)).attempt, Attempt(2));
        let unproven = rig.crashes(SECOND, at(10_000));
        assert!(matches!(unproven.inputs[..], [AfterCrash::Pending { .. }]));
        assert_eq!(rig.attempt(input), Attempt(3));
        rig.enters(FIRST, at(10_000));
        rig.takes(FIRST, at(10_000));
        let proven = rig.crashes(FIRST, at(10_000));
        assert!(matches!(proven.inputs[..], [AfterCrash::Poisoned { attempts: Attempt(3), .. }]));
    }

    #[test]
    fn a_kill_costs_an_input_nothing_unless_it_may_be_begun_only_once() {
        let (mut rig, input) = one(Retries::new(0), 1);
        for kill in 1..=5 {
            assert_eq!(rig.takes(FIRST, START).attempt, Attempt(kill));
            assert!(matches!(rig.kills(FIRST, UNCROWDED, START)[..], [AfterCrash::Pending { .. }]));
            assert!(matches!(rig.ledger.previous(input), Some(Previous::Crashed(_))));
            rig.enters(FIRST, START);
        }
        assert_eq!(rig.ledger.lives().crashes, 0, "a kill is no crash");
        let (mut rig, input) = one(Retries::new(0), 0);
        rig.takes(FIRST, START);
        let after = rig.kills(FIRST, UNCROWDED, START);
        let [AfterCrash::Lost { attempts, ref deaths, ends_map, .. }] = after[..] else {
            panic!("{after:?}")
        };
        assert_eq!((attempts, deaths.len(), ends_map), (Attempt::FIRST, 0, false));
        assert_eq!(endings(&rig, input.job), [0, 0, 0, 1, 0]);
        assert!(rig.ledger.nothing_pending());
    }

    #[test]
    fn an_input_that_has_left_two_threads_behind_is_not_replayed_whatever_its_budget() {
        let (mut rig, input) = one(Retries::new(0), 10);
        rig.takes(FIRST, START);
        let first = rig.crashes_leaving(FIRST, abandoned(Pressure::None), START);
        assert!(matches!(first.inputs[..], [AfterCrash::Pending { .. }]));
        rig.enters(FIRST, START);
        rig.takes(FIRST, START);
        let second = rig.crashes_leaving(FIRST, abandoned(Pressure::None), START);
        assert!(matches!(second.inputs[..], [AfterCrash::Poisoned { attempts: Attempt(2), .. }]));
        assert_eq!(endings(&rig, input.job), [0, 0, 1, 0, 0]);
    }

    #[test]
    fn where_too_many_threads_are_left_behind_what_might_leave_another_is_not_replayed() {
        // Whether the input's container was killed, the pressure on abandoned threads, and how the input ends
        // once a neighbour leaves the last thread behind.
        for (killed, pressure, ends) in [
            (false, Pressure::None, None),
            (false, Pressure::Bytes, Some("poisoned")),
            (true, Pressure::Bytes, Some("lost")),
            (true, Pressure::Threads, Some("lost")),
        ] {
            let mut rig = Rig::with(2, RateLimited::never(), Retries::new(0), 10);
            let input = InputId { job: rig.call(), index: 0 };
            rig.enters(FIRST, START);
            rig.enters(SECOND, START);
            rig.takes(FIRST, START);
            if killed {
                rig.kills(FIRST, abandoned(Pressure::None), START);
            } else {
                rig.crashes_leaving(FIRST, abandoned(Pressure::None), START);
            }
            let innocent = rig.crashes_leaving(SECOND, Leaving { abandoned: false, pressure }, START);
            assert!(innocent.inputs.is_empty(), "its own thread has returned");
            rig.enters(SECOND, START);
            let ended = rig.crashes_leaving(SECOND, abandoned(pressure), START).inputs;
            let how = ended.first().map(|after| match after {
                AfterCrash::Pending { .. } => "pending",
                AfterCrash::Poisoned { attempts, .. } => {
                    assert_eq!(*attempts, Attempt::FIRST);
                    "poisoned"
                }
                AfterCrash::Lost { attempts, .. } => {
                    assert_eq!(*attempts, Attempt::FIRST);
                    "lost"
                }
                AfterCrash::TimedOut { .. } => "timed out",
            });
            assert_eq!(how, ends, "killed: {killed}, {pressure:?}");
            assert_eq!(rig.ledger.nothing_pending(), ends.is_some());
            assert_eq!(endings(&rig, input.job).iter().sum::<u64>(), u64::from(ends.is_some()));
        }
    }

    #[test]
    fn of_those_that_wait_only_what_has_left_a_thread_behind_ends_where_there_are_too_many() {
        let mut rig = Rig::with(4, RateLimited::never(), Retries::new(0), 10);
        let [innocent, executing, guilty] = [FIRST, SECOND, ContainerId(2)].map(|id| {
            let call = rig.call();
            rig.enters(id, START);
            rig.takes(id, START);
            call
        });
        rig.kills(FIRST, UNCROWDED, START);
        rig.kills(SECOND, abandoned(Pressure::None), START);
        let last = ContainerId(3);
        rig.enters(last, START);
        assert_eq!(rig.takes(last, START).job, innocent);
        rig.enters(FIRST, START);
        assert_eq!(
            rig.takes(FIRST, START).job,
            executing,
            "it has left a thread behind, and does not wait any more"
        );
        rig.kills(last, UNCROWDED, START);
        let ended = rig.crashes_leaving(ContainerId(2), abandoned(Pressure::Bytes), START).inputs;
        let [AfterCrash::Poisoned { input, .. }] = &ended[..] else { panic!("only one ends: {ended:?}") };
        assert_eq!(input.job, guilty);
        rig.completes(FIRST, START);
        rig.enters(last, START);
        assert_eq!(rig.takes(last, START).job, innocent);
    }
}
