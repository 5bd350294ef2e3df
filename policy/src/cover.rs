//! The ground that some networks cover, for asking about many others.

use ipnet::IpNet;

/// The networks that no other one contains, sorted; so they are disjoint.
#[derive(Debug)]
pub(crate) struct Cover(Vec<IpNet>);

impl Cover {
    pub(crate) fn new(networks: &[IpNet]) -> Cover {
        let mut sorted = networks.to_vec();
        sorted.sort_unstable();
        // A network is sorted right before what it contains.
        sorted.dedup_by(|inner, outer| outer.contains(&*inner));
        Cover(sorted)
    }

    /// The network that contains this one, if any does.
    pub(crate) fn containing(&self, network: IpNet) -> Option<IpNet> {
        let before = self.0.partition_point(|other| *other <= network);
        self.0[..before].last().copied().filter(|outer| outer.contains(&network))
    }

    /// Whether any address is both in the ground and in this network.
    pub(crate) fn overlaps(&self, network: IpNet) -> bool {
        let after = self.0.partition_point(|other| *other < network);
        self.0.get(after).is_some_and(|inner| network.contains(inner))
            || self.containing(network).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_comparing_all_pairs() {
        let texts = [
            "0.0.0.0/0",
            "10.0.0.0/8",
            "10.0.0.0/9",
            "10.1.0.0/16",
            "10.128.0.0/9",
            "11.0.0.0/8",
            "10.1.2.3/32",
            "255.255.255.255/32",
            "::/0",
            "2001:db8::/32",
            "2001:db8::/128",
        ];
        let all = texts.map(|text| text.parse::<IpNet>().unwrap());
        // Every choice of networks, as the bits of a number.
        for choice in 0u32..1 << all.len() {
            let is_chosen = |index: &usize| choice & 1 << index != 0;
            let chosen: Vec<IpNet> = (0..all.len()).filter(is_chosen).map(|i| all[i]).collect();
            let cover = Cover::new(&chosen);
            for network in all {
                let inside = chosen.iter().any(|outer| outer.contains(&network));
                let around = chosen.iter().any(|inner| network.contains(inner));
                assert_eq!(cover.containing(network).is_some(), inside, "{network} in {chosen:?}");
                assert_eq!(cover.overlaps(network), inside || around, "{network} in {chosen:?}");
            }
        }
    }
}
