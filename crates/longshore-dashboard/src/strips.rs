//! [`Strips`]: the states of each container, once a second over the last two minutes.

use std::collections::{BTreeMap, VecDeque};

use longshore::snapshot::{ContainerSnapshot, ContainerStateName};

/// The seconds that a strip covers.
pub(crate) const SECONDS: usize = 120;

/// The containers that have a strip.
pub(crate) const ROWS_MAX: usize = 256;

/// The letter of a second in which the container was not seen.
const UNSEEN: u8 = b'-';

/// The letter of a state.
pub(crate) const fn letter(state: ContainerStateName) -> u8 {
    match state {
        ContainerStateName::Starting => b's',
        ContainerStateName::Live => b'l',
        ContainerStateName::Exiting => b'e',
        ContainerStateName::BackingOff => b'b',
        ContainerStateName::Stopped => b'x',
        _ => b'?',
    }
}

/// The strips of the containers of a function.
#[derive(Debug, Clone, Default)]
pub(crate) struct Strips {
    /// The number of the newest second. All strips end there.
    newest: u64,
    /// Whether the crashes before the first look belong to its second, because the function is that young.
    since_start: bool,
    strips: BTreeMap<usize, Strip>,
}

/// The last states of a container.
#[derive(Debug, Clone)]
struct Strip {
    /// One for each second, the newest last.
    cells: VecDeque<Cell>,
    /// The second in which the container was last seen.
    seen: u64,
    /// The crashes of the container when it was last seen.
    crashes: u64,
}

#[derive(Debug, Clone, Copy)]
struct Cell {
    letter: u8,
    crashes: u16,
}

impl Cell {
    const UNSEEN: Self = Self { letter: UNSEEN, crashes: 0 };
}

impl Strips {
    /// The strips of a function that was started just now.
    pub(crate) fn since_start() -> Self {
        Self { since_start: true, ..Self::default() }
    }

    /// Adds the states of a second, from the rows of a snapshot.
    pub(crate) fn push(&mut self, second: u64, rows: &[ContainerSnapshot]) {
        let rows = rows.iter().map(|row| (row.container.index(), letter(row.state), row.crashes));
        self.push_cells(second, rows);
    }

    fn push_cells(&mut self, second: u64, rows: impl Iterator<Item = (usize, u8, u64)>) {
        let counts_all = self.since_start && self.strips.is_empty();
        let passed = match self.strips.is_empty() {
            true => 1,
            false => second.saturating_sub(self.newest).min(SECONDS as u64),
        };
        self.newest = self.newest.max(second);
        let second = self.newest;
        for strip in self.strips.values_mut() {
            for _ in 0..passed {
                strip.push_back(Cell::UNSEEN);
            }
        }
        for (container, letter, crashes) in rows {
            let before = if counts_all { 0 } else { crashes };
            let strip = self.strips.entry(container).or_insert_with(|| Strip::new(second, before));
            let more = u16::try_from(crashes.saturating_sub(strip.crashes)).unwrap_or(u16::MAX);
            let cell = strip.cells.back_mut().expect("a strip has its newest second");
            *cell = Cell { letter, crashes: cell.crashes.saturating_add(more) };
            (strip.seen, strip.crashes) = (second, crashes);
        }
        self.strips.retain(|_, strip| second - strip.seen < SECONDS as u64);
        while self.strips.len() > ROWS_MAX {
            let (oldest, _) =
                self.strips.iter().min_by_key(|(_, strip)| strip.seen).expect("it is not empty");
            let oldest = *oldest;
            self.strips.remove(&oldest);
        }
    }

    /// The number of the newest second.
    pub(crate) const fn newest(&self) -> u64 {
        self.newest
    }

    /// The bytes that the strips take. A map takes up to half as much again as its entries.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        let cells = |strip: &Strip| strip.cells.capacity() * size_of::<Cell>();
        let entries = self.strips.len() * (size_of::<(usize, Strip)>()) * 3 / 2;
        entries + self.strips.values().map(cells).sum::<usize>()
    }

    /// Each container with its states, and its crashes as pairs of an index into the states and a number.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (usize, String, Vec<(usize, u16)>)> + '_ {
        self.strips.iter().map(|(container, strip)| {
            let states = strip.cells.iter().map(|cell| char::from(cell.letter)).collect();
            let crashes = strip.cells.iter().map(|cell| cell.crashes).enumerate();
            (*container, states, crashes.filter(|(_, crashes)| *crashes > 0).collect())
        })
    }
}

impl Strip {
    fn new(second: u64, crashes: u64) -> Self {
        let mut cells = VecDeque::with_capacity(SECONDS);
        cells.push_back(Cell::UNSEEN);
        Self { cells, seen: second, crashes }
    }

    fn push_back(&mut self, cell: Cell) {
        if self.cells.len() == SECONDS {
            self.cells.pop_front();
        }
        self.cells.push_back(cell);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(strips: &Strips, container: usize) -> (String, Vec<(usize, u16)>) {
        let (_, states, crashes) = strips.rows().find(|(id, ..)| *id == container).expect("it is there");
        (states, crashes)
    }

    #[test]
    fn crashes_between_two_looks_are_counted() {
        let mut strips = Strips::default();
        strips.push_cells(10, [(0, b'l', 5), (1, b's', 0)].into_iter());
        strips.push_cells(11, [(0, b'l', 5), (1, b'l', 3)].into_iter());
        strips.push_cells(13, [(0, b'b', 6)].into_iter());
        assert_eq!(row(&strips, 0), ("ll-b".to_owned(), vec![(3, 1)]));
        assert_eq!(row(&strips, 1), ("sl--".to_owned(), vec![(1, 3)]));
        assert_eq!(strips.newest(), 13);
    }

    #[test]
    fn crashes_before_the_first_look_belong_to_its_second_if_the_function_is_that_young() {
        let (mut old, mut young) = (Strips::default(), Strips::since_start());
        for strips in [&mut old, &mut young] {
            strips.push_cells(10, [(0, b'b', 2)].into_iter());
            strips.push_cells(11, [(0, b'l', 3), (1, b'l', 9)].into_iter());
        }
        assert_eq!(row(&old, 0), ("bl".to_owned(), vec![(1, 1)]));
        assert_eq!(row(&young, 0), ("bl".to_owned(), vec![(0, 2), (1, 1)]));
        assert_eq!(row(&young, 1), ("l".to_owned(), vec![]));
    }

    #[test]
    fn two_looks_in_one_second_are_one_cell() {
        let mut strips = Strips::default();
        strips.push_cells(10, [(0, b'l', 0)].into_iter());
        strips.push_cells(10, [(0, b'b', 2)].into_iter());
        strips.push_cells(9, [(0, b'l', 3)].into_iter());
        assert_eq!(row(&strips, 0), ("l".to_owned(), vec![(0, 3)]));
    }

    #[test]
    fn strips_are_bounded_in_length_and_in_number() {
        let mut strips = Strips::default();
        for second in 0..1000 {
            let first = second as usize;
            strips.push_cells(second, (first..first + 200).map(|container| (container, b'l', 0)));
        }
        assert!(strips.bytes() < 170_000, "{}", strips.bytes());
        let rows: Vec<_> = strips.rows().collect();
        assert_eq!(rows.len(), ROWS_MAX);
        assert!(rows.iter().all(|(_, states, _)| states.len() <= SECONDS));
        assert!(rows.iter().any(|(container, ..)| *container == 1198), "the last one seen is kept");
    }
}
