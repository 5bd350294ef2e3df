//! Rules that make a NIC bring a packet from the world to its owner: the lowest bits of the destination
//! l4_port say whose it is, so one rule per residue, IP version and protocol is enough.
//!
//! All or nothing: with some of the rules only, a NIC would spread part of the traffic by something else,
//! which helps nobody and is hard to see. Without rules the port's RSS may serve (see `run::steering`), or
//! workers hand packets over.
//!
//! Tested: all or nothing, on a double; the refusals of virtual devices, that of `net_tap` among them, which
//! finds the rules good and cannot make them on a kernel without the multiq scheduler and the flower
//! classifier. Of DPDK's other software devices `net_failsafe` and `net_bonding` pass rules on to those that they
//! are made of, and `net_softnic` takes only what a script of tables has prepared. No rule of these was ever
//! made by a driver: not run on a NIC.

use super::port::{DpdkPortWatch, OpenPort};
use dpdk_sys::{l4_port_rule, rte_flow, rte_flow_error};
use std::{
    ffi::CStr,
    fmt,
    ptr::{self, NonNull},
    sync::Arc,
};

/// Rules of a port; removed on drop.
#[derive(Debug)]
pub struct FlowRules {
    device: Device,
    rules: Vec<NonNull<rte_flow>>,
}

/// Where to: `l4_port & mask == value` → `queue`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rule {
    is_v6: bool,
    is_tcp: bool,
    has_vlan: bool,
    value: u16,
    mask: u16,
    queue: u16,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rule { value, mask, queue, .. } = self;
        let ip = if self.is_v6 { "ipv6" } else { "ipv4" };
        let protocol = if self.is_tcp { "tcp" } else { "udp" };
        write!(f, "{ip} {protocol} dst & {mask:#06x} == {value} → queue {queue}")
    }
}

/// All rules for a map from residue to queue, whose length is a power of two.
fn rules_for(residue_map: &[u16], has_vlan: bool) -> Vec<Rule> {
    let mask = (residue_map.len() - 1) as u16;
    let kinds = [(false, true), (false, false), (true, true), (true, false)];
    let rules = residue_map.iter().zip(0..).flat_map(|(queue, value)| {
        let rule =
            move |(is_v6, is_tcp)| Rule { is_v6, is_tcp, has_vlan, value, mask, queue: *queue };
        kinds.map(rule)
    });
    rules.collect()
}

/// What takes rules: a device, and in tests a double.
trait TakesRules {
    type Handle;
    fn validate(&mut self, rule: Rule) -> Result<(), String>;
    fn create(&mut self, rule: Rule) -> Result<Self::Handle, String>;
    fn destroy(&mut self, handle: Self::Handle);
}

/// All of the rules, or none and the reason.
fn install<T: TakesRules>(device: &mut T, rules: &[Rule]) -> Result<Vec<T::Handle>, String> {
    let refused = |place: usize, why: String| {
        let count = rules.len();
        format!("rule {} of {count} ({}) was refused: {why}", place + 1, rules[place])
    };
    for (place, rule) in rules.iter().enumerate() {
        device.validate(*rule).map_err(|why| refused(place, why))?;
    }
    let mut created = Vec::with_capacity(rules.len());
    for (place, rule) in rules.iter().enumerate() {
        match device.create(*rule) {
            Ok(handle) => created.push(handle),
            Err(why) => {
                created.into_iter().rev().for_each(|handle| device.destroy(handle));
                return Err(refused(place, why));
            }
        }
    }
    Ok(created)
}

impl FlowRules {
    /// Brings TCP and UDP to queue `residue_map[l4_port & (len - 1)]` of a started port, by the
    /// destination l4_port. The map's length is a power of two. The error says which rule the device
    /// refused and why; none is left then.
    pub fn install(
        port: &DpdkPortWatch,
        residue_map: &[u16],
        has_vlan: bool,
    ) -> Result<Self, String> {
        let mut device = Device(port.open());
        let rules = install(&mut device, &rules_for(residue_map, has_vlan))?;
        Ok(FlowRules { device, rules })
    }

    pub fn len(&self) -> usize {
        self.rules.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }
}

impl Drop for FlowRules {
    fn drop(&mut self) {
        for rule in self.rules.drain(..).rev() {
            self.device.destroy(rule);
        }
    }
}

#[derive(Debug)]
struct Device(Arc<OpenPort>);

impl From<Rule> for l4_port_rule {
    fn from(rule: Rule) -> Self {
        let Rule { is_v6, is_tcp, has_vlan, value, mask, queue } = rule;
        l4_port_rule { is_v6, is_tcp, has_vlan, value, mask, queue }
    }
}

impl TakesRules for Device {
    type Handle = NonNull<rte_flow>;

    fn validate(&mut self, rule: Rule) -> Result<(), String> {
        let mut error = rte_flow_error::default();
        // SAFETY: the port is open and started; rule and error live longer than the call.
        let code =
            unsafe { dpdk_sys::l4_port_rule_validate(self.0.id(), &rule.into(), &mut error) };
        if code == 0 { Ok(()) } else { Err(reason(&error, "rte_flow_validate", code)) }
    }

    fn create(&mut self, rule: Rule) -> Result<Self::Handle, String> {
        let mut error = rte_flow_error::default();
        // SAFETY: as above.
        let flow = unsafe { dpdk_sys::l4_port_rule_create(self.0.id(), &rule.into(), &mut error) };
        // SAFETY: reads this thread's rte_errno, a plain thread-local integer.
        let errno = unsafe { dpdk_sys::last_errno() };
        NonNull::new(flow).ok_or_else(|| reason(&error, "rte_flow_create", errno))
    }

    fn destroy(&mut self, handle: Self::Handle) {
        // SAFETY: the rule is of this port, which is open, and is not used after this. A failure leaves
        // the rule to the closing of the port.
        unsafe { dpdk_sys::rte_flow_destroy(self.0.id(), handle.as_ptr(), ptr::null_mut()) };
    }
}

/// What the driver says, and the errno.
fn reason(error: &rte_flow_error, call: &'static str, code: i32) -> String {
    let says = if error.message.is_null() {
        "the driver gives no reason".to_owned()
    } else {
        // SAFETY: a driver's message is a static NUL-terminated string.
        unsafe { CStr::from_ptr(error.message) }.to_string_lossy().into_owned()
    };
    super::DpdkError::returned(call, code, says).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many rules, and keeps them by number.
    #[derive(Default)]
    struct Double {
        validates: usize,
        creates: usize,
        validated: usize,
        created: Vec<Rule>,
    }

    impl TakesRules for Double {
        type Handle = Rule;
        fn validate(&mut self, _: Rule) -> Result<(), String> {
            self.validated += 1;
            if self.validated > self.validates { Err("no such mask".to_owned()) } else { Ok(()) }
        }
        fn create(&mut self, rule: Rule) -> Result<Rule, String> {
            if self.created.len() == self.creates {
                return Err("no room".to_owned());
            }
            self.created.push(rule);
            Ok(rule)
        }
        fn destroy(&mut self, rule: Rule) {
            assert_eq!(self.created.pop(), Some(rule), "the last one first");
        }
    }

    #[test]
    fn all_rules_or_none() {
        let rules = rules_for(&[0, 1, 0, 1], false);
        assert_eq!(rules.len(), 16);
        for (validates, creates, left, says) in [
            (16, 16, 16, None),
            (
                16,
                15,
                0,
                Some("rule 16 of 16 (ipv6 udp dst & 0x0003 == 3 → queue 1) was refused: no room"),
            ),
            (
                16,
                0,
                0,
                Some("rule 1 of 16 (ipv4 tcp dst & 0x0003 == 0 → queue 0) was refused: no room"),
            ),
            (
                6,
                16,
                0,
                Some(
                    "rule 7 of 16 (ipv6 tcp dst & 0x0003 == 1 → queue 1) was refused: no such mask",
                ),
            ),
        ] {
            let mut device = Double { validates, creates, ..Double::default() };
            let done = install(&mut device, &rules);
            assert_eq!(done.err().as_deref(), says);
            assert_eq!(device.created.len(), left);
        }
    }

    /// Whatever the l4_port, exactly one rule of its kind matches, and it names the map's queue.
    #[test]
    fn rules_say_what_the_map_says() {
        let map: Vec<u16> = (0..64u16).map(|residue| residue % 3).collect();
        let rules = rules_for(&map, true);
        for l4_port in 0..=u16::MAX {
            for (is_v6, is_tcp) in [(false, false), (false, true), (true, false), (true, true)] {
                let matches: Vec<u16> = rules
                    .iter()
                    .filter(|rule| (rule.is_v6, rule.is_tcp) == (is_v6, is_tcp))
                    .filter(|rule| l4_port & rule.mask == rule.value && rule.has_vlan)
                    .map(|rule| rule.queue)
                    .collect();
                assert_eq!(matches, [map[usize::from(l4_port % 64)]], "{l4_port}");
            }
        }
    }
}
