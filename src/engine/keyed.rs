//! Values by key, in the order of their keys.
//!
//! A tree of the values themselves would be compiled for each type of function, and is much code. So the tree holds
//! places in a vector, and is compiled once.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::ops::Index;

/// So many vacant places are kept. Beyond that values are moved together once most places are vacant.
const VACANT_MAX: usize = 1024;

/// Where the value of each key is.
#[derive(Debug, Default)]
struct Places {
    taken: BTreeMap<u64, u32>,
    vacant: Vec<u32>,
}

impl Places {
    fn get(&self, key: u64) -> Option<usize> {
        self.taken.get(&key).map(|place| *place as usize)
    }

    /// The greatest key up to that one.
    fn last_up_to(&self, key: u64) -> Option<(u64, usize)> {
        self.taken.range(..=key).next_back().map(|(key, place)| (*key, *place as usize))
    }

    fn first(&self) -> Option<usize> {
        self.taken.first_key_value().map(|(_, place)| *place as usize)
    }

    /// A place for a new key, one behind all others if none is vacant.
    fn take(&mut self, key: u64) -> usize {
        let place = self.vacant.pop().unwrap_or(self.taken.len() as u32);
        let before = self.taken.insert(key, place);
        assert!(before.is_none(), "a key is taken once");
        place as usize
    }

    fn free(&mut self, key: u64) -> Option<usize> {
        let place = self.taken.remove(&key)?;
        self.vacant.push(place);
        Some(place as usize)
    }
}

/// Values by key.
#[derive(Debug)]
pub(crate) struct Keyed<K, T> {
    places: Places,
    values: Vec<Option<T>>,
    keys: PhantomData<K>,
}

impl<K, T> Default for Keyed<K, T> {
    fn default() -> Self {
        Self { places: Places::default(), values: Vec::new(), keys: PhantomData }
    }
}

impl<K: Copy + From<u64> + Into<u64>, T> Keyed<K, T> {
    pub(crate) fn is_empty(&self) -> bool {
        self.places.taken.is_empty()
    }

    pub(crate) fn get(&self, key: &K) -> Option<&T> {
        self.values[self.places.get((*key).into())?].as_ref()
    }

    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut T> {
        self.values[self.places.get((*key).into())?].as_mut()
    }

    pub(crate) fn contains_key(&self, key: &K) -> bool {
        self.places.get((*key).into()).is_some()
    }

    /// Adds a value.
    ///
    /// # Panics
    ///
    /// If there is one with that key.
    pub(crate) fn insert(&mut self, key: K, value: T) {
        let place = self.places.take(key.into());
        if place == self.values.len() {
            self.values.push(Some(value));
        } else {
            self.values[place] = Some(value);
        }
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<T> {
        let place = self.places.free((*key).into())?;
        let value = self.values[place].take();
        let vacant = self.places.vacant.len();
        if vacant > VACANT_MAX && vacant > 3 * self.places.taken.len() {
            self.move_together();
        }
        value
    }

    fn move_together(&mut self) {
        let mut before = std::mem::take(&mut self.values);
        self.places.vacant = Vec::new();
        for place in self.places.taken.values_mut() {
            let value = before[*place as usize].take();
            *place = self.values.len() as u32;
            self.values.push(value);
        }
    }

    /// The value with the greatest key up to that one.
    pub(crate) fn last_up_to(&self, key: K) -> Option<(K, &T)> {
        let (key, place) = self.places.last_up_to(key.into())?;
        Some((K::from(key), self.values[place].as_ref()?))
    }

    /// The value with the smallest key.
    pub(crate) fn first(&self) -> Option<&T> {
        self.values[self.places.first()?].as_ref()
    }

    /// All values, in the order of their keys.
    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.places.taken.values().filter_map(|place| self.values[*place as usize].as_ref())
    }

    /// All values, in no order.
    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.values.iter_mut().flatten()
    }
}

impl<K: Copy + From<u64> + Into<u64>, T> Index<&K> for Keyed<K, T> {
    type Output = T;

    fn index(&self, key: &K) -> &T {
        self.get(key).expect("there is a value with that key")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    impl<K: Copy + From<u64> + Into<u64>, T> Keyed<K, T> {
        /// All values, in the order of their keys.
        pub(crate) fn iter(&self) -> impl Iterator<Item = (K, &T)> {
            let value = |place: &u32| self.values[*place as usize].as_ref();
            self.places.taken.iter().filter_map(move |(key, place)| Some((K::from(*key), value(place)?)))
        }

        pub(crate) fn len(&self) -> usize {
            self.places.taken.len()
        }
    }

    proptest! {
        #[test]
        fn it_is_a_tree(deeds in proptest::collection::vec((0u64..40, any::<bool>()), 0..200)) {
            let (mut keyed, mut tree) = (Keyed::<u64, u64>::default(), BTreeMap::new());
            for (at, (key, adds)) in deeds.into_iter().enumerate() {
                if adds && !tree.contains_key(&key) {
                    keyed.insert(key, at as u64);
                    tree.insert(key, at as u64);
                } else {
                    prop_assert_eq!(keyed.remove(&key), tree.remove(&key));
                }
                prop_assert_eq!(keyed.is_empty(), tree.is_empty());
                prop_assert_eq!(keyed.get(&key), tree.get(&key));
                prop_assert_eq!(keyed.contains_key(&key), tree.contains_key(&key));
                let last = tree.range(..=key).next_back();
                prop_assert_eq!(keyed.last_up_to(key), last.map(|(key, value)| (*key, value)));
                prop_assert_eq!(keyed.first(), tree.values().next());
                let all: Vec<(u64, u64)> = keyed.iter().map(|(key, value)| (key, *value)).collect();
                prop_assert_eq!(all, tree.iter().map(|(key, value)| (*key, *value)).collect::<Vec<_>>());
                prop_assert_eq!(keyed.values().count(), tree.len());
                keyed.values_mut().for_each(|value| *value += 1);
                tree.values_mut().for_each(|value| *value += 1);
            }
        }
    }

    #[test]
    fn values_are_moved_together_once_most_places_are_vacant() {
        let mut keyed = Keyed::<u64, u64>::default();
        (0..5000).for_each(|key| keyed.insert(key, key));
        (0..5000).filter(|key| key % 1000 != 7).for_each(|key| assert_eq!(keyed.remove(&key), Some(key)));
        assert!(keyed.values.len() < 2000, "{} places are kept for 5 values", keyed.values.len());
        assert!(keyed.values().copied().eq([7, 1007, 2007, 3007, 4007]));
        keyed.insert(8, 8);
        assert!([7, 8, 4007].iter().all(|key| keyed.get(key) == Some(key)));
    }
}
