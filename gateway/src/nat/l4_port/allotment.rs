//! Which external l4_ports of a pool one worker may give out.

use super::{
    L4PortShare,
    prediction::{Predicted, Prediction},
};
use crate::nat::flow::{Address, FlowKey};
use std::sync::Arc;

/// A share of l4_ports; or, where a NIC's RSS is foretold, of their names.
#[derive(Clone, Debug)]
pub struct Allotment {
    share: L4PortShare,
    /// The same for all workers.
    prediction: Option<Arc<Prediction>>,
}

/// The same l4_ports of every pool.
impl From<L4PortShare> for Allotment {
    fn from(share: L4PortShare) -> Self {
        Allotment { share, prediction: None }
    }
}

impl Allotment {
    /// `share`: of the names that `prediction` gives the l4_ports of each pool.
    pub fn predicted(share: L4PortShare, prediction: Arc<Prediction>) -> Self {
        Allotment { share, prediction: Some(prediction) }
    }

    /// L4_ports of any pool.
    pub fn len(&self) -> u32 {
        self.share.len()
    }

    pub fn is_empty(&self) -> bool {
        self.share.is_empty()
    }

    #[inline(always)]
    pub fn of<A: Address>(&self, pool: &FlowKey<A>) -> PoolShare<'_> {
        let predicted = match &self.prediction {
            None => None,
            Some(prediction) => prediction.of_pool(pool),
        };
        PoolShare { share: &self.share, predicted }
    }
}

/// The l4_ports of one pool that a worker may give out, numbered from 0.
#[derive(Clone, Copy, Debug)]
pub struct PoolShare<'a> {
    share: &'a L4PortShare,
    predicted: Option<Predicted<'a>>,
}

impl PoolShare<'_> {
    #[inline]
    pub fn len(&self) -> u32 {
        self.share.len()
    }

    pub fn is_empty(&self) -> bool {
        self.share.is_empty()
    }

    /// The l4_port with this number; `None` from [`PoolShare::len`] on.
    #[inline]
    pub fn nth(&self, number: u32) -> Option<u16> {
        let name = self.share.nth(number)?;
        Some(match &self.predicted {
            None => name,
            Some(predicted) => predicted.l4_port(name),
        })
    }

    /// The number of an l4_port of this share.
    #[inline]
    pub fn index_of(&self, l4_port: u16) -> Option<u32> {
        self.share.index_of(match &self.predicted {
            None => l4_port,
            Some(predicted) => predicted.name(l4_port),
        })
    }

    #[inline]
    pub fn contains(&self, l4_port: u16) -> bool {
        self.index_of(l4_port).is_some()
    }
}
