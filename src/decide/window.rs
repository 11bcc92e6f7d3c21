//! The number of inputs of a map that may be outstanding, which means pulled and not yet yielded.

use std::time::Duration;

use crate::decide::pacing::{ROOM_WORK, WINDOW_WORK};
use crate::values::error::ConfigError;

/// The largest window, because an input's place in a chunk has 31 bits. This leaves some of them unused.
pub(crate) const WINDOW_MAX: u64 = 1 << 24;

/// The largest number of bytes of inputs and outcomes, by their sizes, in the default window. A map should
/// cost a cache's worth of memory, whatever the size of its items.
const WINDOW_BYTES: u64 = 2 << 20;

/// How often the inputs in flight fit into the default window, as far as `WINDOW_BYTES` allows. The head of
/// an ordered map may take this many times as long as the others before they wait for it. A poisonous input
/// with the default budget takes four times as long, and waits before each of its replays.
const TIMES_IN_FLIGHT: u64 = 8;

/// How often they fit at least, however large the items are.
const TIMES_IN_FLIGHT_MIN: u64 = 2;

/// A window narrower than this is refilled one input at a time.
const NARROW: u64 = 512;

/// The amount of room in a window for which it is worth waking and claiming. Either costs more than a cheap
/// input does, so a wide window is refilled by sixteenths, or by as much as is worth a wake-up.
pub(crate) fn room_min(window: u64, cost: Option<Duration>) -> u64 {
    match cost {
        Some(cost) if window >= NARROW => {
            let worth = ROOM_WORK.as_nanos() as u64 / (cost.as_nanos() as u64).max(1);
            (window / 16).min(worth).max(1)
        }
        Some(_) | None => 1,
    }
}

/// The window of one map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Window {
    /// A window that the user has set, which is strict.
    Fixed(u64),
    /// 4 ms of measured work for each container, but at least `inputs_min` and at most `inputs_max` inputs.
    Adaptive { inputs_min: u64, inputs_max: u64 },
}

impl Window {
    /// A window that the user has set.
    pub(crate) fn fixed(window: u64) -> Result<Self, ConfigError> {
        if (1..=WINDOW_MAX).contains(&window) {
            Ok(Self::Fixed(window))
        } else {
            Err(ConfigError::Window { window, max: WINDOW_MAX })
        }
    }

    /// The default window for items of `bytes` bytes, where an item is an input and its outcome. `in_flight`
    /// inputs may execute at the same time.
    pub(crate) fn adaptive(bytes: usize, in_flight: u64) -> Self {
        let affordable = (WINDOW_BYTES / (bytes.max(1) as u64)).clamp(64, 65_536);
        let inputs_max = affordable.max(TIMES_IN_FLIGHT_MIN * in_flight);
        let inputs_min = inputs_max.min((TIMES_IN_FLIGHT * in_flight).max(1_000));
        Self::Adaptive { inputs_min, inputs_max }
    }

    /// The number of inputs in the window, if an input takes `cost` and there are `containers` containers.
    pub(crate) fn inputs(self, cost: Option<Duration>, containers: usize) -> u64 {
        match self {
            Self::Fixed(window) => window,
            Self::Adaptive { inputs_min, inputs_max } => {
                let work = WINDOW_WORK.as_nanos() as u64 * containers as u64;
                let wanted = match cost {
                    Some(cost) => work / (cost.as_nanos() as u64).max(1),
                    None => 0,
                };
                wanted.clamp(inputs_min, inputs_max)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_window_follows_the_cost_within_its_bounds() {
        let small = Window::adaptive(24, 2);
        assert_eq!(small.inputs(None, 2), 1_000);
        assert_eq!(small.inputs(Some(Duration::from_micros(50)), 2), 1_000);
        assert_eq!(small.inputs(Some(Duration::from_nanos(100)), 1), 40_000);
        assert_eq!(small.inputs(Some(Duration::from_nanos(400)), 4), 40_000, "for each container");
        assert_eq!(small.inputs(Some(Duration::from_nanos(1)), 2), 65_536);
        assert_eq!(Window::adaptive(4096, 2).inputs(None, 2), 512);
        assert_eq!(Window::adaptive(1 << 20, 2).inputs(None, 2), 64);
    }

    #[test]
    fn the_default_window_has_room_for_eight_times_the_inputs_in_flight() {
        let window = |bytes, in_flight| Window::adaptive(bytes, in_flight).inputs(None, 2);
        assert_eq!(window(24, 125), 1_000);
        assert_eq!(window(24, 500), 4_000);
        assert_eq!(window(24, 10_000), 65_536, "not beyond the largest");
        assert_eq!(window(24, 100_000), 200_000, "but twice as many always fit");
        assert_eq!(window(1024, 500), 2_048, "nor beyond the bytes");
        assert_eq!(window(1 << 20, 500), 1_000);
    }

    #[test]
    fn only_a_wide_window_of_cheap_inputs_is_refilled_by_sixteenths() {
        let room_min = |window, nanos| room_min(window, Some(Duration::from_nanos(nanos)));
        assert_eq!(room_min(65_536, 1), 4_096);
        assert_eq!(room_min(1_000, 100), 62);
        assert_eq!(room_min(2_000, 1_000), 100, "100 µs of work");
        assert_eq!(room_min(1_000, 50_000), 2, "expensive inputs do not wait for more room");
        assert_eq!(room_min(100, 1), 1, "a narrow window is refilled one by one");
        assert_eq!(super::room_min(1_000, None), 1, "the cost is not known");
    }

    #[test]
    fn a_window_outside_its_range_is_refused_with_its_number() {
        for bad in [0, WINDOW_MAX + 1, u64::MAX] {
            let refused = Window::fixed(bad).expect_err("the window is out of its range");
            assert!(refused.to_string().contains(&bad.to_string()));
        }
        assert_eq!(Window::fixed(1), Ok(Window::Fixed(1)));
        assert_eq!(Window::fixed(WINDOW_MAX), Ok(Window::Fixed(WINDOW_MAX)));
    }
}
