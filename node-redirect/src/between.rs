//! A policy's value on the way from one to another, while packets are under sets of which each was made for one of the two.

use crate::abi::{FAILURE_CLOSED, FAILURE_OPEN, MAX_GATEWAYS, Policy};

const _: () = assert!(FAILURE_CLOSED < FAILURE_OPEN);

impl Policy {
    /// What holds while packets may see this value or `next`, of one policy, under sets of which each was made for one of them: where either
    /// takes a new flow this does, and it lets nothing out that one of them would drop.
    pub fn between(&self, next: &Self) -> Self {
        let is_wider = [0, 1].into_iter().all(|family| {
            next.first_accepting(family).is_some() || self.first_accepting(family).is_none()
        });
        let failure_mode = self.failure_mode.min(next.failure_mode);
        if is_wider && failure_mode == next.failure_mode {
            return *next;
        }
        let mut both = Self { failure_mode, ..Self::default() };
        // One of each that takes new flows comes first: there is room for those four.
        for family in [0, 1] {
            for from in [next, self] {
                from.first_accepting(family).into_iter().for_each(|i| both.take(from, i));
            }
        }
        for from in [next, self] {
            from.gateways().for_each(|(i, _)| both.take(from, i));
        }
        both
    }

    /// The first gateway that takes new flows of a family.
    fn first_accepting(&self, family: usize) -> Option<usize> {
        let bits = self.usable & self.accepting[family];
        self.gateways().map(|(i, _)| i).find(|i| bits & (1 << i) != 0)
    }

    /// A gateway with what is said of it there; no more when there are [`MAX_GATEWAYS`].
    fn take(&mut self, from: &Self, index: usize) {
        let gateway = from.gateways[index];
        let own = self.gateways().map(|(i, _)| i).find(|&i| self.gateways[i] == gateway);
        let i = own.unwrap_or(self.gateway_count.into());
        if i >= MAX_GATEWAYS {
            return;
        }
        if own.is_none() {
            self.gateways[i] = gateway;
            self.steering[i] = from.steering[index];
            self.gateway_count += 1;
        }
        self.usable |= (from.usable >> index & 1) << i;
        for family in [0, 1] {
            self.accepting[family] |= (from.accepting[family] >> index & 1) << i;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::abi::address;

    #[test]
    fn between_two_values_nothing_is_refused_that_both_take_and_nothing_let_out() {
        let with = |gateways: &[(u8, [u16; 2])], failure_mode: u8| {
            let mut policy = Policy { failure_mode, ..Policy::default() };
            for (i, &(last, families)) in gateways.iter().enumerate() {
                policy.gateways[i] = address([192, 0, 2, last].into());
                policy.usable |= 1 << i;
                policy.accepting = [0, 1].map(|f| policy.accepting[f] | families[f] << i);
                policy.gateway_count += 1;
            }
            policy
        };
        let many = |first: u8, families| -> Vec<(u8, [u16; 2])> {
            (first..first + 16).map(|last| (last, families)).collect()
        };
        let values = [
            with(&[], FAILURE_CLOSED),
            with(&[], FAILURE_OPEN),
            with(&[(1, [1, 1])], FAILURE_CLOSED),
            with(&[(2, [1, 0])], FAILURE_OPEN),
            with(&[(1, [0, 0]), (2, [0, 1])], FAILURE_CLOSED),
            with(&many(100, [1, 0]), FAILURE_CLOSED),
            with(&many(200, [0, 1]), FAILURE_OPEN),
        ];
        let pods = [IpAddr::from([10, 244, 1, 10]), IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 1])];
        for (before, after) in values.iter().flat_map(|a| values.iter().map(move |b| (a, b))) {
            let between = before.between(after);
            for pod in pods {
                let [old, new, chosen] =
                    [before, after, &between].map(|policy| policy.choose_gateway(pod));
                assert_eq!(chosen.is_some(), old.or(new).is_some(), "{before:?} {after:?}");
                let known = |p: &Policy| p.gateways().any(|(_, gateway)| Some(gateway) == chosen);
                assert!(chosen.is_none() || known(before) || known(after));
            }
            let is_open = before.failure_mode == FAILURE_OPEN && after.failure_mode == FAILURE_OPEN;
            assert_eq!(between.failure_mode == FAILURE_OPEN, is_open);
        }
    }
}
