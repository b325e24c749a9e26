//! Numbers that only grow.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows, until the process ends.
#[derive(Debug, Default)]
pub struct Counter {
    value: AtomicU64,
}

impl Counter {
    /// Raises it by one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Raises it.
    pub fn add(&self, amount: u64) {
        self.value.fetch_add(amount, Ordering::Relaxed);
    }

    /// The present value.
    pub fn get(&self) -> u64 {
        self.value.load(Ordering::Relaxed)
    }
}

/// A counter for each pair of a row and a column.
#[derive(Debug)]
pub struct CounterGrid<const ROWS: usize, const COLUMNS: usize> {
    cells: [[Counter; COLUMNS]; ROWS],
}

impl<const ROWS: usize, const COLUMNS: usize> Default for CounterGrid<ROWS, COLUMNS> {
    fn default() -> Self {
        Self { cells: std::array::from_fn(|_| std::array::from_fn(|_| Counter::default())) }
    }
}

impl<const ROWS: usize, const COLUMNS: usize> CounterGrid<ROWS, COLUMNS> {
    /// The counter of a pair; `None` where there is no such row or column.
    pub fn at(&self, row: usize, column: usize) -> Option<&Counter> {
        self.cells.get(row)?.get(column)
    }

    /// Every pair that was counted at least once, row by row.
    pub fn counted(&self) -> impl Iterator<Item = (usize, usize, u64)> {
        let rows = self.cells.iter().enumerate();
        let all = rows.flat_map(|(row, cells)| {
            cells.iter().enumerate().map(move |(column, cell)| (row, column, cell.get()))
        });
        all.filter(|(_, _, count)| *count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_shows_what_was_counted_and_where() {
        let grid = CounterGrid::<2, 3>::default();
        grid.at(1, 2).unwrap().increment();
        grid.at(0, 1).unwrap().add(5);

        assert_eq!(grid.counted().collect::<Vec<_>>(), [(0, 1, 5), (1, 2, 1)]);
        assert!(grid.at(2, 0).is_none() && grid.at(0, 3).is_none());
    }
}
