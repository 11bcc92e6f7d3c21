//! The market and the solver: the best way from one token to another through liquidity pools.

use std::sync::{Arc, PoisonError, RwLock};

use longshore::BoxError;

pub(crate) const TOKENS: usize = 10;
/// This token is not traded any more, so its pools are empty.
pub(crate) const DELISTED: usize = TOKENS - 1;
/// The largest number of swaps in a route.
const SWAPS_MAX: usize = 4;

/// An order to swap an amount of one token for as much as possible of another.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Order {
    pub(crate) number: u64,
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) amount: u128,
}

/// The best route, the amount that it yields, and the block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Quote {
    pub(crate) block: u64,
    pub(crate) amount: u128,
    pub(crate) route: Vec<usize>,
}

/// Two tokens that can be swapped. A swap leaves the product of the reserves the same.
struct Pool {
    tokens: [usize; 2],
    reserves: [u128; 2],
}

impl Pool {
    /// The amount of the other token that `amount` of one yields, after a fee of 0.3 %.
    fn swap(&self, from: usize, amount: u128) -> u128 {
        let after_fee = amount * 997;
        self.reserves[1 - from] * after_fee / (self.reserves[from] * 1000 + after_fee)
    }
}

/// All pools as of one block. A market does not change, and the next block is another market.
pub(crate) struct Market {
    block: u64,
    pools: Vec<Pool>,
}

impl Market {
    /// The market as of a block: two tokens in three have a pool, and reserves move with each block.
    pub(crate) fn at(block: u64) -> Self {
        let mut pools = Vec::new();
        for low in 0..TOKENS {
            for high in (low + 1..TOKENS).filter(|high| !(low + high).is_multiple_of(3)) {
                let moved = (block + (low * TOKENS + high) as u64) * 7919 % 1000;
                let depth = if high == DELISTED { 0 } else { 1_000_000_000 + 100_000 * u128::from(moved) };
                let reserves = [depth * (low as u128 + 1), depth * (high as u128 + 1)];
                pools.push(Pool { tokens: [low, high], reserves });
            }
        }
        Self { block, pools }
    }

    /// The best route of at most [`SWAPS_MAX`] swaps, by the method of Bellman and Ford: it computes the
    /// largest amount of each token after one swap, two swaps, and so on. `None` if there is no route to the
    /// token.
    ///
    /// An order with an amount of 0 divides by zero at a pool whose reserves are 0. This is the bug of the
    /// example.
    pub(crate) fn quote(&self, order: &Order) -> Option<Quote> {
        let mut best: Vec<Option<(u128, Vec<usize>)>> = vec![None; TOKENS];
        best[order.from] = Some((order.amount, vec![order.from]));
        for _ in 0..SWAPS_MAX {
            let before = best.clone();
            for (pool, from) in self.pools.iter().flat_map(|pool| [(pool, 0), (pool, 1)]) {
                let (source, target) = (pool.tokens[from], pool.tokens[1 - from]);
                let Some((amount, route)) = &before[source] else { continue };
                if route.contains(&target) {
                    continue; // a round trip pays two fees
                }
                let amount = pool.swap(from, *amount);
                if amount > best[target].as_ref().map_or(0, |(most, _)| *most) {
                    best[target] = Some((amount, [&route[..], &[target]].concat()));
                }
            }
        }
        let (amount, route) = best[order.to].take()?;
        Some(Quote { block: self.block, amount, route })
    }
}

/// The source of the newest market. It has none while the feed is down.
pub(crate) struct Feed(RwLock<Option<Arc<Market>>>);

impl Feed {
    pub(crate) fn new() -> Self {
        Self(RwLock::new(Some(Arc::new(Market::at(0)))))
    }

    /// The next block, or `None` when the feed goes down.
    pub(crate) fn publish(&self, market: Option<Market>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = market.map(Arc::new);
    }

    pub(crate) fn newest(&self) -> Result<Arc<Market>, BoxError> {
        let newest = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        newest.ok_or_else(|| "the market feed is down".into())
    }
}
