//! The three programs: open, set what is fixed at load, load onto the pinned maps.

use std::mem::MaybeUninit;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{MapCore, MapHandle, Object, OpenObject, Program};

use crate::config::{Config, MapSizes};
use crate::preflight;

/// Generated from `bpf/redirect.bpf.c` by the build.
#[allow(
    unsafe_code,
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    missing_debug_implementations
)]
#[allow(clippy::unwrap_used, clippy::ptr_as_ptr, clippy::multiple_unsafe_ops_per_block)]
#[allow(unreachable_pub, dead_code, unused_imports, non_snake_case, non_camel_case_types)]
mod skeleton {
    include!(concat!(env!("OUT_DIR"), "/redirect.skel.rs"));
}
use skeleton::{RedirectSkel, RedirectSkelBuilder};

/// Where a program sits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Ingress of a pod's host-side interface.
    FromPod,
    /// Egress of it.
    ToPod,
    /// Ingress of the VXLAN device.
    FromTunnel,
}

impl Role {
    pub const ALL: [Role; 3] = [Role::FromPod, Role::ToPod, Role::FromTunnel];
    pub const OF_POD_INTERFACE: [Role; 2] = [Role::FromPod, Role::ToPod];

    /// The program's name in the kernel, and its part of the link pin's.
    pub fn name(self) -> &'static str {
        match self {
            Role::FromPod => "from_pod",
            Role::ToPod => "to_pod",
            Role::FromTunnel => "from_tunnel",
        }
    }
}

/// The loaded programs. Attachments hold them in the kernel, so this may be dropped at any time.
pub struct Programs {
    skel: RedirectSkel<'static>,
}

impl std::fmt::Debug for Programs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Programs")
    }
}

impl Programs {
    /// Maps that are pinned already are taken over with all they hold, the others are made and pinned.
    pub fn load(config: &Config) -> Result<Self> {
        let max_flows = config.flows.max_entries;
        Self::load_at(&config.pin_path, config.vxlan_port, max_flows, &config.map_sizes)
    }

    pub fn load_at(
        pin_path: &Path,
        vxlan_port: u16,
        max_flows: u32,
        sizes: &MapSizes,
    ) -> Result<Self> {
        // The object must not move while the skeleton points into it. One per process, for its whole life.
        let storage: &'static mut MaybeUninit<OpenObject> =
            Box::leak(Box::new(MaybeUninit::uninit()));
        let mut builder = RedirectSkelBuilder::default();
        builder.obj_builder.pin_root_path(pin_path)?;
        let mut open = builder.open(storage).context("cannot read the built-in BPF object")?;
        let fixed = open.maps.rodata_data.as_deref_mut().context("the object has no .rodata")?;
        fixed.vxlan_port = vxlan_port.to_be();
        fixed.fib_flags = fib_flags();
        let sizes = sizes_of(max_flows, sizes);
        for mut map in open.open_object_mut().maps_mut() {
            if let Some((_, entries, _)) = sizes.iter().find(|(name, ..)| map.name() == *name) {
                map.set_max_entries(*entries)?;
            }
        }
        check_pinned(pin_path, &sizes)?;
        let skel = open.load().with_context(|| {
            format!(
                "the kernel does not load the programs. If the maps under {} were made by another version, run \
                 `node-redirect cleanup`",
                pin_path.display()
            )
        })?;
        Ok(Self { skel })
    }

    pub fn get(&self, role: Role) -> &Program<'_> {
        match role {
            Role::FromPod => &self.skel.progs.from_pod,
            Role::ToPod => &self.skel.progs.to_pod,
            Role::FromTunnel => &self.skel.progs.from_tunnel,
        }
    }

    pub fn object(&self) -> &Object {
        libbpf_rs::skel::Skel::object(&self.skel)
    }
}

/// A map, its entries, and the key of the configuration that says how many.
type Size = (&'static str, u32, &'static str);

fn sizes_of(max_flows: u32, sizes: &MapSizes) -> [Size; 8] {
    [
        ("flows", max_flows, "flows.max_entries"),
        ("destinations", sizes.max_destinations, "bpf.max_destinations"),
        ("destinations6", sizes.max_destinations, "bpf.max_destinations"),
        ("policies", sizes.max_policies, "bpf.max_policies"),
        ("endpoints", sizes.max_pods, "bpf.max_pods"),
        ("exempt", sizes.max_exempt, "bpf.max_exempt"),
        ("exempt6", sizes.max_exempt, "bpf.max_exempt"),
        ("vteps", sizes.max_tunnel_addresses, "bpf.max_tunnel_addresses"),
    ]
}

/// A map that is pinned already keeps its size, whatever the configuration has become.
fn check_pinned(pin_path: &Path, sizes: &[Size]) -> Result<()> {
    for (name, entries, key) in sizes {
        let pin = pin_path.join(name);
        if !pin.exists() {
            continue;
        }
        let map = MapHandle::from_pinned_path(&pin)
            .with_context(|| format!("cannot open the map {}", pin.display()))?;
        let made_for = map.max_entries();
        ensure!(
            made_for == *entries,
            "{key} is {entries}, and the map {} was made for {made_for}: put {made_for} there, or stop the agent, run `node-redirect \
             cleanup` and start again (meanwhile pods leave as without policy)",
            pin.display(),
        );
    }
    Ok(())
}

/// Without the permission to look at maps there is nothing to say of them.
pub fn check_sizes(config: &Config) -> Result<()> {
    if preflight::check_capabilities().is_err() {
        return Ok(());
    }
    check_pinned(&config.pin_path, &sizes_of(config.flows.max_entries, &config.map_sizes))
}

const BPF_FIB_LOOKUP_DIRECT: u32 = 1;
const BPF_FIB_LOOKUP_SKIP_NEIGH: u32 = 4;

/// Without SKIP_NEIGH the look-up also wants the neighbour's address, and says so when it is not known; `deliver` takes both.
fn fib_flags() -> u32 {
    if kernel_is_at_least(6, 3) {
        BPF_FIB_LOOKUP_DIRECT | BPF_FIB_LOOKUP_SKIP_NEIGH
    } else {
        BPF_FIB_LOOKUP_DIRECT
    }
}

fn kernel_is_at_least(major: u32, minor: u32) -> bool {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    let running: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    running >= (major, minor)
}

/// What libbpf has to say goes to the log, not to stderr as it is.
pub fn log_libbpf() {
    libbpf_rs::set_print(Some((libbpf_rs::PrintLevel::Warn, |_, message| {
        tracing::debug!(target: "libbpf", "{}", message.trim_end());
    })));
}
