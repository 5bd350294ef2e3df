//! Time as an argument.

/// Milliseconds since the process started. The worker reads the clock once per burst; tests make up
/// their own time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Tick {
    millis: u64,
    /// Kept beside, so that a burst divides once.
    seconds: u32,
}

impl Tick {
    pub const fn from_millis(millis: u64) -> Self {
        Tick { millis, seconds: (millis / 1000) as u32 }
    }

    pub const fn from_secs(seconds: u64) -> Self {
        Self::from_millis(seconds * 1000)
    }

    pub const fn millis(self) -> u64 {
        self.millis
    }

    /// Whole seconds, the unit of session timeouts: 136 years fit.
    pub const fn seconds(self) -> u32 {
        self.seconds
    }

    #[must_use]
    pub const fn plus_millis(self, millis: u64) -> Self {
        Self::from_millis(self.millis + millis)
    }
}
