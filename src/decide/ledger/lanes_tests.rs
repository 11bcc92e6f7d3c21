//! Tests of the ledger where a container has several inputs in flight, and what the simulator asks of it.

use std::time::Duration;

use crate::base::ids::{Attempt, ContainerId, InputId, JobId, LaneId};
use crate::decide::ledger::fixture::{FIRST, Rig, SECOND, START, UNCROWDED, at, panic, rules};
use crate::decide::ledger::orphans::Orphan;
use crate::decide::ledger::{
    AfterCrash, ContainerStage, CutBy, LeaseKind, Ledger, Mode, Position, Ready, Retryable, Rules, Sources,
    Takers,
};
use crate::decide::life::{Next, Served};
use crate::decide::limits::{LimitRules, Limits};
use crate::decide::restart::{CrashLoopBackoff, RateLimited, Restart};
use crate::decide::retries::Retries;
use crate::decide::time::Time;
use crate::values::crash::Death;

/// The inputs that wait, and that some container may take now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waiting {
    /// Whether an input waits that any container may take beside others.
    pub(crate) ordinary: bool,
    /// Whether an input waits to execute alone that has crashed no container.
    pub(crate) alone: bool,
    /// The suspect that may be replayed now, and whether it executes alone.
    pub(crate) suspect: Option<(Ready, bool)>,
}

impl Ledger {
    /// The inputs that wait now.
    pub(crate) fn waiting(&mut self, now: Time, sources: &impl Sources) -> Waiting {
        let is_alone = self.next_suspect_executes_alone();
        Waiting {
            ordinary: self.goes_on() && self.has_more(now, sources),
            alone: self.goes_on() && !self.alone.is_empty(),
            suspect: self.suspect_ready(now).map(|ready| (ready, is_alone)),
        }
    }

    /// Whether a container executes an input beside which it takes no other. Another container may have taken
    /// the input of a lease that had not begun.
    pub(crate) fn executes_one_alone(&self, id: ContainerId) -> bool {
        let leases = self.leased_by(id).filter_map(|lane| self.lease(lane));
        leases.into_iter().any(|lease| lease.span.len > 0 && self.executes_alone(&lease))
    }

    /// Whether the delay of a crash keeps a container from new inputs.
    pub(crate) fn is_held(&self, id: ContainerId, now: Time) -> bool {
        let until = self.containers[id.index()].held_until;
        until.is_some_and(|until| until > now) && self.restarts.held_until(now).is_some()
    }

    /// The container that becomes empty, because an input waits to execute alone.
    pub(crate) fn becomes_empty(&self) -> Option<ContainerId> {
        self.clearing
    }

    /// Whether no input waits or executes, and no container is kept from anything.
    pub(crate) fn is_at_rest(&self) -> bool {
        let queues = self.requeued.is_empty()
            && self.replays.is_empty()
            && self.alone.is_empty()
            && self.retries.is_empty()
            && self.calls.is_empty()
            && self.suspects.waiting() == 0
            && self.left_a_thread.is_empty();
        let lanes = self.leases.is_empty() && self.ahead.is_empty() && self.suspects.executing() == 0;
        let kept = self.clearing.is_some() || self.containers.iter().any(|container| container.alone);
        queues && lanes && !kept
    }

    /// The number of lanes that replay a suspect.
    pub(crate) fn suspects_executing(&self) -> usize {
        self.suspects.executing()
    }
}

const INNOCENT: LeaseKind = LeaseKind::Replay { suspect: false };
const SUSPECT: LeaseKind = LeaseKind::Replay { suspect: true };
const HOLD: Next<super::Lease> = Next::Hold { until: None };
const NOTHING: Next<super::Lease> = Next::Wait { until: None };

fn lane(id: ContainerId, lane: u32) -> LaneId {
    LaneId::new(id, lane)
}

fn memory() -> Death {
    Death::MemoryLimit { limit: 10, used: 11, reclaimed: true }
}

fn only(job: JobId) -> InputId {
    InputId { job, index: 0 }
}

/// Live containers that have four lanes each.
fn lanes(containers: usize, has_state: bool) -> Rig {
    under(Rules { lanes: 4, has_state, ..rules(containers) })
}

fn under(rules: Rules) -> Rig {
    let mut rig = Rig::of(rules);
    for id in rig.ledger.containers() {
        rig.enters(id, START);
    }
    rig
}

/// Each of the first `inputs` lanes of the first container takes a call.
fn calls(rig: &mut Rig, inputs: u32) -> Vec<JobId> {
    let begin = |rig: &mut Rig, at| {
        let call = rig.call();
        assert_eq!(rig.takes(lane(FIRST, at), START).job, call);
        call
    };
    (0..inputs).map(|at| begin(rig, at)).collect()
}

fn pending(inputs: &[AfterCrash]) -> Vec<JobId> {
    let job = |after: &AfterCrash| match after {
        AfterCrash::Pending { input } => input.job,
        other => panic!("an input is not replayed: {other:?}"),
    };
    inputs.iter().map(job).collect()
}

/// An input that waits to execute alone, because it has crossed the memory limit beside another. The other
/// still executes in the second lane.
fn one_alone(rig: &mut Rig) -> (JobId, JobId) {
    let calls = calls(rig, 2);
    let verdict = rig.lane_dies(lane(FIRST, 0), memory(), at(1));
    assert_eq!(pending(&verdict.inputs), [calls[0]]);
    (calls[0], calls[1])
}

#[test]
fn several_lanes_of_a_container_lease_at_once() {
    let mut rig = lanes(1, true);
    let jobs = calls(&mut rig, 4);
    assert_eq!(rig.ledger.leased_by(FIRST).count(), 4);
    assert_eq!(rig.ledger.executing_now().count(), 4);
    rig.completes(lane(FIRST, 2), at(1));
    assert_eq!(rig.ledger.leased_by(FIRST).collect::<Vec<_>>(), [0, 1, 3].map(|at| lane(FIRST, at)));
    assert_eq!(rig.ledger.job(jobs[2]).map(|job| job.counts().ok), Some(1));
    let map = rig.map(10, 3);
    assert_eq!(rig.takes(lane(FIRST, 2), at(1)).job, map);
}

#[test]
fn only_the_culprit_pays_and_the_innocent_are_replayed_free() {
    let mut rig = under(Rules { lanes: 4, crash_retries: 1, ..rules(1) });
    let jobs = calls(&mut rig, 4);
    let verdict = rig.all_die(FIRST, Some(lane(FIRST, 1)), panic(), at(1));
    assert_eq!(pending(&verdict.inputs), [1, 0, 2, 3].map(|at: usize| jobs[at]));
    assert_eq!(rig.ledger.lives().crashes, 1);
    for job in &jobs {
        let record = rig.ledger.record(only(*job)).expect("it was executing").clone();
        let is_culprit = *job == jobs[1];
        assert_eq!((record.crashes, record.freed), if is_culprit { (1, 0) } else { (0, 1) });
        assert_eq!(record.deaths.len(), usize::from(is_culprit));
        assert_eq!(rig.attempt(only(*job)), Attempt(2), "each execution is an attempt");
    }
    rig.enters(FIRST, at(1));
    for (at_lane, innocent) in [(0, jobs[0]), (1, jobs[2]), (2, jobs[3])] {
        let lease = rig.takes(lane(FIRST, at_lane), at(1));
        assert_eq!((lease.job, lease.kind), (innocent, INNOCENT), "the innocent go on together");
    }
    assert_eq!(rig.claims(lane(FIRST, 3), at(1)), HOLD, "the suspect waits until it can execute alone");
    for at_lane in 0..3 {
        rig.completes(lane(FIRST, at_lane), at(2));
    }
    assert_eq!(rig.takes(FIRST, at(2)).kind, SUSPECT);
    let poisoned = rig.all_die(FIRST, Some(FIRST.into()), panic(), at(3)).inputs;
    assert!(matches!(poisoned[..], [AfterCrash::Poisoned { attempts: Attempt(2), .. }]));
}

#[test]
fn an_input_that_was_replayed_free_three_times_executes_alone_until_it_returns() {
    let retries = Retries::new(1).initial_delay(Duration::ZERO);
    let mut rig = under(Rules { lanes: 4, retries, crash_retries: 9, ..rules(1) });
    let innocent = rig.call();
    for crash in [1_000, 2_000, 3_000] {
        rig.takes(lane(FIRST, 0), at(crash));
        rig.call();
        rig.takes(lane(FIRST, 1), at(crash));
        rig.all_die(FIRST, Some(lane(FIRST, 1)), panic(), at(crash));
        rig.enters(FIRST, at(crash + 500)); // after the delay of the crash loop
        // The suspect does not take part any more.
        let guilty = rig.ledger.job_ids().into_iter().rfind(|job| *job != innocent).expect("it has crashed");
        rig.ledger.take_pending(guilty);
        rig.ledger.ended(guilty, super::Unrun::Cancelled, 1);
    }
    rig.call();
    rig.takes(lane(FIRST, 1), at(4_000));
    assert_eq!(rig.claims(lane(FIRST, 0), at(4_000)), HOLD, "the container becomes empty for it");
    rig.completes(lane(FIRST, 1), at(4_001));
    let lease = rig.takes(lane(FIRST, 0), at(4_001));
    assert_eq!((lease.job, lease.kind, lease.attempt), (innocent, INNOCENT, Attempt(4)));
    rig.call();
    assert_eq!(rig.claims(lane(FIRST, 1), at(4_001)), HOLD);
    rig.ledger.failed(lane(FIRST, 0), Retryable::Yes, at(4_002));
    rig.ledger.released(lane(FIRST, 0), at(4_002));
    rig.takes(lane(FIRST, 1), at(4_002));
    let retry = rig.takes(lane(FIRST, 0), at(4_002));
    assert_eq!((retry.job, retry.kind), (innocent, LeaseKind::Retry { due: at(4_002) }), "it has returned");
}

#[test]
fn an_input_that_times_out_while_it_executes_alone_is_retried_beside_others() {
    let retries = Retries::new(1).initial_delay(Duration::ZERO);
    let limits = LimitRules { timeout: Some(Duration::from_millis(5)), ..LimitRules::default() };
    let mut rig = under(Rules { lanes: 4, retries, limits, ..rules(1) });
    let calls = calls(&mut rig, 2);
    for call in &calls {
        rig.ledger.limit(*call, Limits::default());
    }
    rig.lane_dies(lane(FIRST, 0), memory(), at(1));
    rig.completes(lane(FIRST, 1), at(1));
    assert_eq!(rig.takes(lane(FIRST, 0), at(2)).job, calls[0]);
    assert_eq!(rig.claims(lane(FIRST, 1), at(2)), HOLD, "nothing executes beside it");
    rig.ledger.cut(
        lane(FIRST, 0),
        Position { at: 0, begun: true },
        CutBy::Timeout(Duration::from_millis(5)),
        at(7),
    );
    rig.ledger.came_out(lane(FIRST, 0));
    rig.call();
    rig.takes(lane(FIRST, 1), at(8));
    let retry = rig.takes(lane(FIRST, 0), at(8));
    assert_eq!((retry.job, retry.kind), (calls[0], LeaseKind::Retry { due: at(7) }));
    assert!(!rig.ledger.executes_one_alone(FIRST), "it has crashed nothing");
    rig.call();
    assert!(matches!(rig.claims(lane(FIRST, 2), at(8)), Next::Work(_)), "a third lane executes beside both");
}

#[test]
fn a_suspect_of_code_with_state_executes_alone_and_the_other_containers_go_on() {
    let mut rig = lanes(3, true);
    calls(&mut rig, 1);
    rig.all_die(FIRST, Some(FIRST.into()), panic(), at(1));
    rig.enters(FIRST, at(1));
    let third = ContainerId(2);
    // Only the first container may replay the suspect, and it executes something else.
    rig.call();
    rig.takes(lane(FIRST, 0), at(1));
    assert_eq!(rig.ledger.takers_of_suspect(), Takers::EmptyFirst);
    assert_eq!(rig.claims(lane(FIRST, 1), at(1)), HOLD);
    assert_eq!(rig.ledger.takers_of_suspect(), Takers::Empty, "one container becomes empty");
    rig.call();
    assert_eq!(rig.claims(lane(FIRST, 1), at(1)), HOLD, "it takes no call either");
    rig.takes(lane(SECOND, 0), at(1));
    rig.call();
    rig.takes(lane(SECOND, 1), at(1));
    rig.call();
    rig.takes(lane(third, 0), at(1));
    rig.completes(lane(FIRST, 0), at(2));
    assert_eq!(rig.takes(lane(FIRST, 1), at(2)).kind, SUSPECT);
    rig.call();
    assert_eq!(rig.claims(lane(FIRST, 0), at(2)), HOLD, "nothing executes beside it");
    rig.completes(lane(FIRST, 1), at(3));
    rig.takes(lane(FIRST, 0), at(3));
    rig.call();
    rig.takes(lane(FIRST, 1), at(3));
}

#[test]
fn a_suspect_for_which_another_container_becomes_empty_holds_up_no_call() {
    let mut rig = lanes(2, true);
    calls(&mut rig, 1);
    rig.all_die(FIRST, Some(FIRST.into()), panic(), START);
    rig.enters(FIRST, START);
    rig.kills(SECOND, UNCROWDED, START);
    rig.enters(SECOND, START);
    for id in [FIRST, SECOND] {
        rig.call();
        rig.takes(lane(id, 0), START);
    }
    assert_eq!(rig.claims(lane(FIRST, 1), START), HOLD);
    // After three calls in a row, an input that is executed again would have its turn.
    for at_lane in [1, 2, 3] {
        let call = rig.call();
        assert_eq!(rig.takes(lane(SECOND, at_lane), START).job, call);
    }
}

#[test]
fn a_container_that_becomes_empty_goes_on_as_soon_as_it_need_not() {
    let cancelled = |rig: &mut Rig, job| _ = rig.ledger.take_pending(job);
    let taken = |rig: &mut Rig, job| assert_eq!(rig.takes(SECOND, at(3)).job, job);
    for (why, ends) in [("cancelled", cancelled as fn(&mut Rig, JobId)), ("taken by another", taken)] {
        let mut rig = lanes(2, true);
        let (alone, _) = one_alone(&mut rig);
        assert_eq!(rig.claims(lane(FIRST, 0), at(2)), HOLD);
        assert!(rig.ledger.take_unheld().is_none());
        ends(&mut rig, alone);
        assert_eq!(rig.ledger.take_unheld(), Some(FIRST), "{why}");
        rig.call();
        assert!(matches!(rig.claims(lane(FIRST, 0), at(3)), Next::Work(_)), "{why}");
    }
}

#[test]
fn a_container_that_is_empty_for_a_suspect_that_now_waits_for_another_takes_something_else() {
    let mut rig = lanes(3, true);
    let suspect = calls(&mut rig, 1)[0];
    rig.all_die(FIRST, Some(FIRST.into()), panic(), START);
    rig.call();
    rig.takes(SECOND, START);
    // No container was entered for ten seconds, so that any may replay the suspect.
    assert_eq!(rig.claims(lane(SECOND, 1), at(10_000)), HOLD);
    rig.enters(FIRST, at(10_000));
    assert_eq!(rig.ledger.take_unheld(), Some(SECOND), "the container that was entered may take it");
    let call = rig.call();
    assert_eq!(rig.takes(lane(SECOND, 1), at(10_001)).job, call);
    assert_eq!(rig.takes(FIRST, at(10_001)).job, suspect);
}

#[test]
fn a_container_that_is_empty_for_an_input_that_is_gone_takes_what_there_is() {
    let mut rig = lanes(2, true);
    calls(&mut rig, 1);
    rig.all_die(FIRST, Some(FIRST.into()), panic(), START);
    rig.call();
    rig.takes(SECOND, START);
    assert_eq!(rig.claims(lane(SECOND, 1), at(10_000)), HOLD);
    // The container does not hear that it need not become empty, because it is empty already.
    rig.completes(SECOND, at(10_000));
    rig.enters(FIRST, at(10_000));
    let call = rig.call();
    assert_eq!(rig.takes(lane(SECOND, 1), at(10_000)).job, call);
}

#[test]
fn suspects_of_code_without_state_execute_beside_others_on_a_sixteenth_of_the_lanes() {
    for (containers, lanes, most) in [(1, 4, 1), (2, 16, 2), (1, 47, 2), (3, 16, 3)] {
        let mut rig = under(Rules { lanes, has_state: false, ..rules(containers) });
        for culprit in 0..4 {
            rig.call();
            rig.takes(lane(FIRST, culprit), START);
        }
        for culprit in 0..4 {
            rig.lane_dies(lane(FIRST, culprit), panic(), at(1));
        }
        let suspects = (0..4).filter(|at_lane| match rig.claims(lane(FIRST, *at_lane), at(50)) {
            Next::Work(lease) => lease.kind == SUSPECT,
            Next::Wait { until: None } => false,
            other => panic!("{other:?}"),
        });
        assert_eq!(suspects.count(), most, "{containers} containers with {lanes} lanes");
        let call = rig.call();
        assert_eq!(rig.takes(lane(FIRST, 3), at(50)).job, call, "others execute beside them");
    }
}

#[test]
fn a_memory_death_beside_others_is_free_and_the_next_one_alone_is_charged() {
    let mut rig = under(Rules { lanes: 4, has_state: false, crash_retries: 0, ..rules(1) });
    calls(&mut rig, 1);
    let poisoned = rig.lane_dies(lane(FIRST, 0), memory(), at(1)).inputs;
    assert!(matches!(poisoned[..], [AfterCrash::Poisoned { .. }]), "it was alone");

    let mut rig = under(Rules { lanes: 4, has_state: false, crash_retries: 1, ..rules(1) });
    let (alone, _) = one_alone(&mut rig);
    let record = rig.ledger.record(only(alone)).expect("it was executing");
    assert_eq!((record.crashes, record.freed), (0, 1));
    assert_eq!(rig.claims(lane(FIRST, 0), at(1)), HOLD);
    rig.completes(lane(FIRST, 1), at(2));
    assert_eq!(rig.takes(lane(FIRST, 0), at(2)).kind, INNOCENT);
    rig.call();
    assert_eq!(rig.claims(lane(FIRST, 1), at(2)), HOLD);
    rig.lane_dies(lane(FIRST, 0), memory(), at(3));
    assert_eq!(rig.ledger.record(only(alone)).map(|record| (record.crashes, record.freed)), Some((1, 1)));
    rig.takes(lane(FIRST, 1), at(3));
    assert_eq!(rig.claims(lane(FIRST, 0), at(3)), HOLD, "as a suspect it executes alone as well");
    rig.completes(lane(FIRST, 1), at(4));
    assert_eq!(rig.takes(lane(FIRST, 0), at(4)).kind, SUSPECT);
    let poisoned = rig.lane_dies(lane(FIRST, 0), memory(), at(5)).inputs;
    assert!(matches!(poisoned[..], [AfterCrash::Poisoned { .. }]));
}

#[test]
fn a_suspect_that_crosses_the_memory_limit_beside_others_is_free_once() {
    let mut rig = under(Rules { lanes: 4, has_state: false, crash_retries: 1, ..rules(1) });
    let calls = calls(&mut rig, 2);
    rig.lane_dies(lane(FIRST, 0), panic(), at(1));
    assert_eq!(rig.takes(lane(FIRST, 0), at(1)).kind, SUSPECT);
    assert_eq!(pending(&rig.lane_dies(lane(FIRST, 0), memory(), at(2)).inputs), [calls[0]]);
    assert_eq!(rig.claims(lane(FIRST, 0), at(2)), HOLD);
    rig.completes(lane(FIRST, 1), at(3));
    assert_eq!(rig.takes(lane(FIRST, 0), at(3)).kind, SUSPECT);
    rig.call();
    assert_eq!(rig.claims(lane(FIRST, 1), at(3)), HOLD);
    let poisoned = rig.lane_dies(lane(FIRST, 0), memory(), at(4)).inputs;
    assert!(matches!(poisoned[..], [AfterCrash::Poisoned { .. }]));
}

#[test]
fn if_it_is_unknown_who_filled_the_memory_all_execute_alone() {
    for (culprit, alone) in [(None, [true, true]), (Some(lane(FIRST, 0)), [true, false])] {
        let mut rig = lanes(1, true);
        let calls = calls(&mut rig, 2);
        let verdict = rig.all_die(FIRST, culprit, memory(), at(1));
        assert_eq!(pending(&verdict.inputs), calls);
        let records =
            [0, 1].map(|at: usize| rig.ledger.record(only(calls[at])).expect("it executed").clone());
        assert_eq!(records.clone().map(|record| record.alone), alone);
        assert_eq!(records.map(|record| (record.crashes, record.freed)), [(0, 1); 2]);
    }
}

#[test]
fn a_container_that_lives_on_keeps_its_other_leases_and_counts_as_entered_after_the_crash() {
    let mut rig = under(Rules { lanes: 4, has_state: false, ..rules(1) });
    let calls = calls(&mut rig, 3);
    rig.completes(lane(FIRST, 2), at(1));
    let verdict = rig.lane_dies(lane(FIRST, 0), panic(), at(2));
    assert_eq!((verdict.restart, pending(&verdict.inputs)), (Restart::Now, vec![calls[0]]));
    assert!(matches!(rig.ledger.stage(FIRST), (_, ContainerStage::Live)));
    assert_eq!(rig.ledger.lives().restarts, 0);
    assert_eq!(rig.ledger.leased_by(FIRST).collect::<Vec<_>>(), [lane(FIRST, 1)]);
    assert_eq!(rig.ledger.proof(FIRST), 1, "it has outlived the crash");
    assert_eq!(rig.takes(lane(FIRST, 0), at(2)).kind, SUSPECT);
    rig.completes(lane(FIRST, 1), at(3));
    let record = rig.ledger.record(only(calls[0])).expect("it has crashed");
    assert_eq!(record.crashes, 1);
}

/// A container without state that takes nothing until 20 ms, because its code has crashed twice in a row.
/// Its second lane still executes an input.
fn held() -> Rig {
    let mut rig = lanes(2, false);
    rig.call();
    rig.takes(lane(FIRST, 1), START);
    for crash in [0, 10] {
        rig.call();
        rig.takes(lane(FIRST, 0), at(crash));
        rig.lane_dies(lane(FIRST, 0), panic(), at(crash));
    }
    rig
}

#[test]
fn inside_a_delay_the_container_takes_nothing_new_and_the_others_go_on() {
    let mut rig = held();
    rig.call();
    assert_eq!(rig.claims(lane(FIRST, 0), at(11)), Next::Hold { until: Some(at(20)) });
    assert!(matches!(rig.claims(SECOND, at(11)), Next::Work(_)));
    rig.call();
    assert_eq!(rig.claims(lane(FIRST, 0), at(19)), Next::Hold { until: Some(at(20)) });
    assert!(matches!(rig.claims(lane(FIRST, 0), at(20)), Next::Work(_)));
}

#[test]
fn the_hold_ends_with_the_crash_loop_and_with_a_reset() {
    let mut rig = held();
    rig.call();
    assert!(!rig.ledger.take_recovered());
    rig.completes(lane(FIRST, 1), at(12));
    assert!(rig.ledger.take_recovered(), "it counts as entered after the crash, and has completed an input");
    assert!(matches!(rig.claims(lane(FIRST, 0), at(12)), Next::Work(_)));

    let mut rig = held();
    rig.call();
    rig.ledger.reset();
    assert!(matches!(rig.claims(lane(FIRST, 0), at(12)), Next::Work(_)));
}

#[test]
fn a_container_that_is_held_does_not_stay_up_meanwhile() {
    let rig = held();
    assert_eq!(rig.ledger.stable_at(), Some(at(10_020)), "ten seconds from the end of the delay on");
}

#[test]
fn the_end_of_a_loop_by_another_container_that_has_stayed_up_ends_the_hold_as_well() {
    let restart = CrashLoopBackoff::new().into();
    let mut rig = under(Rules { lanes: 4, has_state: false, restart, ..rules(2) });
    let mut now = START;
    let until = loop {
        rig.call();
        rig.takes(lane(FIRST, 0), now);
        match rig.lane_dies(lane(FIRST, 0), panic(), now).restart {
            Restart::At(until) if until > now + Duration::from_secs(20) => break until,
            Restart::At(until) => now = until,
            _ => {}
        }
    };
    // A container that is recycled comes back inside the delay.
    let (generation, _) = rig.ledger.stage(SECOND);
    assert!(rig.ledger.recycle(SECOND, generation, now));
    rig.ledger.left(SECOND, generation);
    rig.enters(SECOND, now);
    rig.call();
    let stable = now + Duration::from_secs(10);
    assert_eq!(rig.claims(lane(FIRST, 0), now), Next::Hold { until: Some(until) });
    assert_eq!(rig.ledger.stable_at(), Some(stable));
    assert!(!rig.ledger.take_recovered());
    rig.ledger.end_loop_if_stable(stable);
    assert!(rig.ledger.take_recovered(), "the engine wakes the container that is held");
    assert!(matches!(rig.claims(lane(FIRST, 0), stable), Next::Work(_)));
}

#[test]
fn an_input_that_executes_alone_does_not_wait_for_a_container_that_is_held() {
    let mut rig = under(Rules { lanes: 4, has_state: false, ..rules(2) });
    rig.call();
    rig.takes(lane(FIRST, 2), START);
    rig.lane_dies(lane(FIRST, 2), panic(), START);
    let suspect = rig.ledger.job_ids()[0];
    rig.ledger.take_pending(suspect);
    let (alone, _) = one_alone(&mut rig);
    assert_eq!(rig.claims(lane(FIRST, 0), at(101)), HOLD);
    assert_eq!(rig.ledger.alone_ready(), Some(Takers::Empty));
    let verdict = rig.lane_dies(lane(FIRST, 1), panic(), at(101));
    assert!(matches!(verdict.restart, Restart::At(_)), "{verdict:?}");
    assert_eq!(rig.ledger.alone_ready(), Some(Takers::EmptyFirst), "another container may become empty");
    assert_eq!(rig.takes(SECOND, at(102)).job, alone);
}

#[test]
fn at_most_once_loses_the_innocent() {
    for (culprit, poisoned) in [(Some(lane(FIRST, 0)), 1), (None, 0)] {
        let mut rig = under(Rules { lanes: 4, crash_retries: 0, ..rules(1) });
        calls(&mut rig, 3);
        let inputs = rig.all_die(FIRST, culprit, panic(), at(1)).inputs;
        let lost = inputs.iter().filter(|after| matches!(after, AfterCrash::Lost { .. })).count();
        assert_eq!((inputs.len(), lost), (3, 3 - poisoned));
        assert!(rig.ledger.nothing_pending());
    }
    let mut rig = under(Rules { lanes: 4, has_state: false, crash_retries: 0, ..rules(1) });
    calls(&mut rig, 2);
    let inputs = rig.lane_dies(lane(FIRST, 0), memory(), at(1)).inputs;
    assert!(matches!(inputs[..], [AfterCrash::Lost { .. }]), "it may be innocent: {inputs:?}");
}

#[test]
fn a_kill_by_hand_frees_all() {
    let mut rig = lanes(1, true);
    let calls = calls(&mut rig, 3);
    assert_eq!(pending(&rig.all_are_killed(FIRST, None, at(1))), calls);
    assert_eq!(rig.ledger.lives().crashes, 0);
    assert_eq!(rig.ledger.leased().count(), 0);
    for call in &calls {
        let record = rig.ledger.record(only(*call)).expect("it was executing");
        assert_eq!((record.crashes, record.freed, record.kills), (0, 0, 1), "an operator is not the input's");
    }
    rig.enters(FIRST, at(1));
    let replayed: Vec<JobId> = (0..3).map(|at_lane| rig.takes(lane(FIRST, at_lane), at(1)).job).collect();
    assert_eq!(replayed, calls);
}

#[test]
fn only_the_input_in_whose_code_a_thread_is_left_behind_has_left_it() {
    let mut rig = lanes(1, true);
    let innocent = rig.call();
    rig.takes(lane(FIRST, 1), START);
    for time in [1, 2, 3] {
        let stuck = rig.call();
        rig.takes(lane(FIRST, 0), at(time));
        let inputs = rig.all_are_killed(FIRST, Some(lane(FIRST, 0)), at(time));
        assert_eq!(pending(&inputs), [stuck, innocent]);
        let abandoned =
            [stuck, innocent].map(|job| rig.ledger.record(only(job)).map(|record| record.abandoned));
        assert_eq!(abandoned, [Some(1), Some(0)]);
        rig.enters(FIRST, at(time));
        rig.ledger.take_pending(stuck);
        rig.ledger.ended(stuck, super::Unrun::Cancelled, 1);
        assert_eq!(rig.takes(lane(FIRST, 1), at(time)).job, innocent);
    }
}

#[test]
fn the_end_of_a_function_waits_while_leases_are_out() {
    for mode in [Mode::Draining, Mode::Stopping] {
        let mut rig = lanes(1, true);
        calls(&mut rig, 2);
        rig.ledger.advance_mode(mode);
        let waits = if mode == Mode::Draining { NOTHING } else { HOLD };
        assert_eq!(rig.claims(lane(FIRST, 2), at(1)), waits, "{mode:?}");
        rig.completes(lane(FIRST, 0), at(1));
        assert_eq!(rig.claims(lane(FIRST, 0), at(1)), waits, "{mode:?}");
        let position = rig.ledger.lease(lane(FIRST, 1)).expect("it executes").span.end();
        rig.ledger.advanced(lane(FIRST, 1), position, at(2));
        assert_eq!(rig.claims(lane(FIRST, 0), at(2)), HOLD, "{mode:?}: its last lane has not come back");
        rig.ledger.released(lane(FIRST, 1), at(2));
        assert_eq!(rig.claims(lane(FIRST, 0), at(2)), Next::Over(Served::Leaves), "{mode:?}");
    }
}

#[test]
fn at_the_end_of_a_drain_a_container_that_is_held_leaves() {
    let mut rig = held();
    rig.ledger.recalled(lane(FIRST, 1), None, at(11));
    for job in rig.ledger.job_ids() {
        let left: u64 = rig.ledger.take_pending(job).iter().map(|span| span.len).sum();
        rig.ledger.ended(job, super::Unrun::Cancelled, left);
    }
    assert!(matches!(rig.claims(lane(FIRST, 0), at(14)), Next::Hold { until: Some(_) }));
    rig.ledger.advance_mode(Mode::Draining);
    assert_eq!(rig.claims(lane(FIRST, 0), at(14)), Next::Over(Served::Leaves));
}

#[test]
fn code_that_goes_on_after_its_job_is_known_by_its_lane() {
    let mut rig = lanes(1, false);
    let calls = calls(&mut rig, 2);
    rig.ledger.recalled(lane(FIRST, 1), Some(Position { at: 0, begun: true }), at(1));
    rig.ledger.take_pending(calls[1]);
    assert!(matches!(rig.ledger.orphan(lane(FIRST, 1)), Some(Orphan { index: 0, .. })));
    assert_eq!(rig.ledger.orphan(lane(FIRST, 0)), None);
    let verdict = rig.lane_dies(lane(FIRST, 1), panic(), at(2));
    assert_eq!(verdict.inputs.len(), 0, "its input has ended");
    assert_eq!(rig.ledger.lives().crashes, 1);
    assert_eq!(rig.ledger.leased_by(FIRST).count(), 1);
    rig.call();
    rig.takes(lane(FIRST, 1), at(2));
    assert_eq!(rig.ledger.orphan(lane(FIRST, 1)), None);
}

#[test]
fn a_function_that_gives_up_after_a_crash_in_a_lane_dispatches_nothing() {
    let restart = RateLimited::new().max_crashes(0).into();
    let mut rig = under(Rules { lanes: 4, has_state: false, restart, ..rules(1) });
    calls(&mut rig, 2);
    assert_eq!(rig.lane_dies(lane(FIRST, 0), panic(), at(1)).restart, Restart::GiveUp);
    rig.call();
    assert_eq!(rig.claims(lane(FIRST, 0), at(2)), NOTHING);
    assert_eq!(rig.ledger.leased_by(FIRST).count(), 1, "the engine fences the others");
    assert!(rig.ledger.alone_ready().is_none());
}
