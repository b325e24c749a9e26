//! What do several measurements of one thing say? Least, median and greatest.

/// Measurements of one figure of one server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) fn push(&mut self, value: f64) {
        let at = self.0.partition_point(|other| *other < value);
        self.0.insert(at, value);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn min(&self) -> Option<f64> {
        self.0.first().copied()
    }

    pub(crate) fn max(&self) -> Option<f64> {
        self.0.last().copied()
    }

    /// The one that so many are smaller than, or the greatest.
    pub(crate) fn at(&self, index: usize) -> Option<f64> {
        self.0.get(index).or(self.0.last()).copied()
    }

    /// The middle one; of an even number, the mean of the middle two.
    pub(crate) fn median(&self) -> Option<f64> {
        let len = self.0.len();
        let upper = *self.0.get(len / 2)?;
        if len % 2 == 1 { Some(upper) } else { Some(f64::midpoint(self.0[len / 2 - 1], upper)) }
    }
}

/// Bytes, ticks and requests as a number to divide by: all far below 2^53, so exact.
#[allow(clippy::cast_precision_loss, reason = "exact below 2^53")]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}

pub(crate) const MIB: u64 = 1 << 20;
pub(crate) const GIB: u64 = 1 << 30;
