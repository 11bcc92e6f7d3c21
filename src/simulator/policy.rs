//! Both restart policies, written from the contract and as naively as possible. Every crash and every
//! completion is kept, and each verdict is worked out from all of them.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::ids::{ContainerId, Generation};
use crate::decide::restart::{Restart, RestartPolicy};
use crate::decide::time::Time;
use crate::simulator::plan::WorldPlan;

const WINDOW: Duration = Duration::from_secs(60);

/// One generation of a container, while it lives and afterwards.
#[derive(Debug, Clone, Copy)]
pub(super) struct SimLife {
    /// When it began, as a number that grows with each event.
    begun: u64,
    began: Time,
    entered: Option<Time>,
    /// Whether it begins after an exit to recycle, and has not entered. A failed start of another container
    /// counts it as live.
    recycling: bool,
    completed: u64,
    alive: bool,
}

/// The death of a container, with all that was known when it came.
#[derive(Debug, Clone, Copy)]
struct DeathModel {
    at: Time,
    /// The moment as a number that grows with each event.
    order: u64,
    life: SimLife,
    is_loop_crash: bool,
    /// When a crash of its input last counted before that.
    input_counted: Option<Time>,
    /// Whether another container was live or recycling.
    others_serve: bool,
    /// The moment from which its container could be created again.
    restart: Time,
}

/// The weight of a death in the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weight {
    /// It counts neither as a crash nor for the rate.
    Nothing,
    /// It counts as a crash, and for the limit together with an earlier one.
    Together,
    Counts,
}

/// A restart policy that keeps everything.
#[derive(Debug)]
pub(super) struct NaivePolicy {
    policy: RestartPolicy,
    clock: u64,
    lives: BTreeMap<(ContainerId, Generation), SimLife>,
    /// Every death since the last reset.
    deaths: Vec<DeathModel>,
    completions: Vec<Time>,
    /// Loop crashes in a row.
    in_a_row: u32,
    /// The loop crashes of each crash loop that has ended and whose event is still due.
    pub(super) loops_ended: Vec<u32>,
    /// When the last loop crash came, as a number that grows with each event.
    last_loop: u64,
    /// The interval in which the delay ends: containers are not created before the first moment, and not held
    /// after the second.
    due: Option<(Time, Time)>,
    /// A completion ended a crash loop whose delay still ran, and the engine has not looked since for the
    /// containers that waited for it.
    pub(super) recovered: bool,
}

/// The verdicts that are allowed for the policy.
#[derive(Debug)]
pub(super) struct Expected {
    /// Whether giving up is allowed. It differs from `must_give_up` only where completions may have been
    /// counted in a later bucket than they happened in.
    pub(super) may_give_up: bool,
    /// Whether giving up is demanded.
    pub(super) must_give_up: bool,
    pub(super) restart: ExpectedRestart,
    /// Whether the crash counts, so that no other crash of its input counts within a window.
    pub(super) counted: bool,
    /// Whether it counts together with an earlier crash.
    pub(super) together: bool,
    /// Whether it is a failed start beside a container that serves.
    pub(super) spare: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum ExpectedRestart {
    Now,
    /// Not before the first moment, and not after the second.
    Within(Time, Time),
}

impl NaivePolicy {
    pub(super) fn new(plan: &WorldPlan) -> Self {
        Self {
            policy: plan.rules.restart.clone(),
            clock: 0,
            lives: BTreeMap::new(),
            deaths: Vec::new(),
            completions: Vec::new(),
            in_a_row: 0,
            loops_ended: Vec::new(),
            last_loop: 0,
            due: None,
            recovered: false,
        }
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// A container begins. `recycling` says that it begins after an exit to recycle.
    pub(super) fn begun(&mut self, id: ContainerId, generation: Generation, recycling: bool, now: Time) {
        let (begun, began) = (self.tick(), now);
        let life = SimLife { begun, began, entered: None, recycling, completed: 0, alive: true };
        let before = self.lives.insert((id, generation), life);
        assert!(before.is_none(), "invariant 12: {id}#{generation} began twice");
    }

    pub(super) fn entered(&mut self, id: ContainerId, generation: Generation, now: Time) {
        let life = self.life(id, generation);
        (life.entered, life.recycling) = (Some(now), false);
    }

    /// A container begins its exit, so from now on it does not count as staying up.
    pub(super) fn leaves(&mut self, id: ContainerId, generation: Generation, now: Time) {
        self.end_loop_if_stable(now);
        self.life(id, generation).entered = None;
    }

    pub(super) fn is_alive(&self, id: ContainerId, generation: Generation) -> bool {
        self.lives.get(&(id, generation)).is_some_and(|life| life.alive)
    }

    pub(super) fn has_entered(&self, id: ContainerId, generation: Generation) -> bool {
        self.lives.get(&(id, generation)).is_some_and(|life| life.entered.is_some())
    }

    pub(super) fn has_progressed(&self, id: ContainerId, generation: Generation) -> bool {
        self.lives.get(&(id, generation)).is_some_and(|life| life.completed > 0)
    }

    pub(super) fn ended(&mut self, id: ContainerId, generation: Generation, now: Time) {
        self.end_loop_if_stable(now);
        self.life(id, generation).alive = false;
    }

    fn life(&mut self, id: ContainerId, generation: Generation) -> &mut SimLife {
        self.lives.get_mut(&(id, generation)).expect("it has begun")
    }

    pub(super) fn completed(&mut self, id: ContainerId, generation: Generation, now: Time) {
        self.end_loop_if_stable(now);
        self.completions.push(now);
        let life = self.life(id, generation);
        life.completed += 1;
        if life.begun > self.last_loop {
            self.recovered |= self.due.is_some_and(|(due, _)| due > now);
            self.loop_ends();
        }
    }

    /// The time for which a container has to stay up to end a crash loop.
    fn reset_after(&self) -> Duration {
        match &self.policy {
            RestartPolicy::RateLimited(_) => Duration::from_secs(10),
            RestartPolicy::CrashLoopBackoff(policy) => policy.settings().2,
        }
    }

    fn window(&self) -> Duration {
        match &self.policy {
            RestartPolicy::RateLimited(policy) => policy.settings().0,
            RestartPolicy::CrashLoopBackoff(_) => WINDOW,
        }
    }

    /// Later moments at which something reaches a threshold: a recent crash or completion is one window old,
    /// or a container has stayed up long enough to end a crash loop.
    pub(super) fn edges(&self, now: Time) -> Vec<Time> {
        let events = self.deaths.iter().rev().take(3).map(|death| &death.at).chain(self.completions.last());
        let lives = self.lives.values().filter(|life| life.alive).filter_map(|life| life.entered);
        let ends = events.map(|at| *at + self.window()).chain(lives.map(|at| at + self.reset_after()));
        let together = self.deaths.iter().rev().take(3).map(|death| death.at + Duration::from_secs(1));
        let ends = ends.chain(together);
        ends.filter(|at| *at > now).collect()
    }

    /// Loop crashes in a row.
    pub(super) fn in_a_row(&mut self, now: Time) -> u32 {
        self.end_loop_if_stable(now);
        self.in_a_row
    }

    /// How many containers live.
    pub(super) fn alive(&self) -> usize {
        self.lives.values().filter(|life| life.alive).count()
    }

    /// Ends the crash loop if a container has stayed up long enough since the last loop crash.
    fn end_loop_if_stable(&mut self, now: Time) {
        if self.in_a_row == 0 {
            return;
        }
        let reset_after = self.reset_after();
        let stable = |life: &SimLife| {
            life.alive
                && life.begun > self.last_loop
                && life.entered.is_some_and(|at| now.since(at) >= reset_after)
        };
        if self.lives.values().any(stable) {
            self.loop_ends();
        }
    }

    fn loop_ends(&mut self) {
        self.loops_ended.extend((self.in_a_row > 1).then_some(self.in_a_row));
        self.in_a_row = 0;
        self.due = None;
    }

    /// The engine has looked for containers that have stayed up.
    pub(super) fn reviewed(&mut self, now: Time) {
        self.end_loop_if_stable(now);
    }

    /// The end of the delay. Until then only a container that had made progress may be created.
    pub(super) fn held_until(&mut self, now: Time) -> Option<Time> {
        self.end_loop_if_stable(now);
        self.due.map(|(due, _)| due).filter(|due| *due > now)
    }

    /// A container died. `executing` has the earlier crashes of the executing input, and when one of them
    /// last counted.
    pub(super) fn crashed(
        &mut self,
        id: ContainerId,
        generation: Generation,
        executing: Option<(u32, Option<Time>)>,
        others_recycle: bool,
        now: Time,
    ) -> Expected {
        self.end_loop_if_stable(now);
        let life = *self.life(id, generation);
        let live = |(other, life): (&(ContainerId, Generation), &SimLife)| {
            *other != (id, generation) && life.alive && (life.entered.is_some() || life.recycling)
        };
        let others_serve = others_recycle || self.lives.iter().any(live);
        let first_of_its_input = executing.is_none_or(|(crashes, _)| crashes == 0);
        let is_loop_crash = life.completed == 0 && first_of_its_input;
        if is_loop_crash {
            self.loop_crash(life, now);
        }
        let due = self.due.filter(|(_, due)| *due > now && is_loop_crash);
        let restart = due.map_or(ExpectedRestart::Now, |(least, most)| ExpectedRestart::Within(least, most));
        let input_counted = executing.and_then(|(_, counted)| counted);
        let order = self.tick();
        let restart_at = due.map_or(now, |(_, most)| most); // `drawn` replaces it
        self.deaths.push(DeathModel {
            at: now,
            order,
            life,
            is_loop_crash,
            input_counted,
            others_serve,
            restart: restart_at,
        });
        let weights = self.weights();
        let weight = *weights.last().expect("it has just died");
        let judged = weight != Weight::Nothing;
        let (may_give_up, must_give_up) = if judged { self.trips(&weights, now) } else { (false, false) };
        Expected {
            may_give_up,
            must_give_up,
            restart,
            counted: weight == Weight::Counts,
            together: weight == Weight::Together,
            spare: life.entered.is_none() && others_serve,
        }
    }

    /// The weight of each death, worked out from the first death on.
    fn weights(&self) -> Vec<Weight> {
        let mut last: Option<&DeathModel> = None;
        let mut weigh = |death| {
            let weight = self.weight(death, last);
            if weight == Weight::Counts {
                last = Some(death);
            }
            weight
        };
        self.deaths.iter().map(&mut weigh).collect()
    }

    fn weight(&self, death: &DeathModel, last: Option<&DeathModel>) -> Weight {
        let window = self.window();
        if death.input_counted.is_some_and(|at| death.at.since(at) <= window) {
            return Weight::Nothing; // an input counts at most one crash within a window
        }
        if death.life.entered.is_none() && death.others_serve {
            return Weight::Nothing; // a function that only fails to grow is not failing
        }
        let Some(last) = last else { return Weight::Counts };
        let began_before = death.life.begun < last.order || death.life.began < last.restart;
        let near = death.at.since(last.at) <= Duration::from_secs(1);
        if began_before && (death.is_loop_crash || near) { Weight::Together } else { Weight::Counts }
    }

    fn loop_crash(&mut self, life: SimLife, now: Time) {
        if self.in_a_row > 0 && life.begun < self.last_loop {
            return; // it shares in a loop crash that has been counted
        }
        self.in_a_row += 1;
        self.last_loop = self.tick();
        let (initial, max) = match &self.policy {
            RestartPolicy::RateLimited(_) => (Duration::from_millis(10), Duration::from_secs(1)),
            RestartPolicy::CrashLoopBackoff(policy) => (policy.settings().0, policy.settings().1),
        };
        let delay = match self.in_a_row {
            1 => Duration::ZERO,
            n => (2..n).fold(initial.min(max), |delay, _| (delay * 2).min(max)),
        };
        let least = match &self.policy {
            RestartPolicy::RateLimited(_) => delay,
            RestartPolicy::CrashLoopBackoff(_) => delay / 2, // equal jitter
        };
        self.due = Some((now + least, now + delay));
    }

    /// The engine has drawn the delay, and its moment holds from now on.
    pub(super) fn drawn(&mut self, said: Restart) {
        if let Restart::At(due) = said {
            self.due = Some((due, due));
            self.deaths.last_mut().expect("it was drawn for a death").restart = due;
        }
    }

    fn trips(&self, weights: &[Weight], now: Time) -> (bool, bool) {
        let window = self.window();
        let RestartPolicy::RateLimited(policy) = &self.policy else { return (false, false) };
        let (_, max_crashes, max_failure_rate, judged) = policy.settings();
        if !judged {
            return (false, false);
        }
        let within = |counts: fn(Weight) -> bool| {
            let recent =
                |(death, weight): &(&DeathModel, &Weight)| now.since(death.at) <= window && counts(**weight);
            self.deaths.iter().zip(weights).filter(recent).count()
        };
        let rounds = within(|weight| weight == Weight::Counts);
        let crashes = within(|weight| weight != Weight::Nothing);
        let width = window.as_nanos() / 60;
        let begin = now.0.as_nanos().saturating_sub(window.as_nanos());
        let in_part = |at: &&Time| (at.0.as_nanos() / width + 1) * width > begin;
        let least = self.completions.iter().filter(in_part).count();
        let most = self.completions.len();
        let breaks = |completed: usize| {
            rounds > max_crashes as usize && crashes as f64 / (crashes + completed) as f64 > max_failure_rate
        };
        (breaks(least), breaks(most))
    }

    /// Whether this policy can give up at all.
    pub(super) fn is_limited(&self) -> bool {
        matches!(&self.policy, RestartPolicy::RateLimited(policy) if policy.settings().3)
    }

    pub(super) fn reset(&mut self) {
        self.deaths.clear();
        self.completions.clear();
        self.in_a_row = 0;
        self.due = None;
    }
}
