//! Programs on interfaces, by either hook. Attachments outlive the agent: a tcx link by its pin, a clsact filter by itself. Attaching
//! where something of ours is attached replaces the program in one step, so no packet passes unseen.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use libbpf_rs::Link;
use libbpf_rs::query::LinkTypeInfo;

use crate::clsact;
use crate::config::HookChoice;
use crate::program::{Programs, Role};
use crate::tcx::{self, Side, TcxLink};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    Tcx,
    Clsact,
}

impl Hook {
    pub fn choose(choice: HookChoice, programs: &Programs) -> Result<Self> {
        let has_tcx = tcx::is_supported(programs.get(Role::FromPod));
        match (choice, has_tcx) {
            (HookChoice::Clsact, _) | (HookChoice::Auto, false) => Ok(Hook::Clsact),
            (HookChoice::Auto | HookChoice::Tcx, true) => Ok(Hook::Tcx),
            (HookChoice::Tcx, false) => {
                bail!(
                    "attach.hook is \"tcx\", and this kernel has none (Linux 6.6 is the first): use \"clsact\" or \"auto\""
                )
            }
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Hook::Tcx => "tcx",
            Hook::Clsact => "clsact",
        }
    }
}

impl Role {
    fn side(self) -> Side {
        match self {
            Role::FromPod | Role::FromTunnel => Side::Ingress,
            Role::ToPod => Side::Egress,
        }
    }
}

#[derive(Debug)]
pub struct Attacher {
    pub hook: Hook,
    programs: Programs,
    link_pins: PathBuf,
}

impl Attacher {
    pub fn new(hook: Hook, programs: Programs, link_pins: PathBuf) -> Result<Self> {
        fs::create_dir_all(&link_pins)
            .with_context(|| format!("cannot make {}", link_pins.display()))?;
        Ok(Self { hook, programs, link_pins })
    }

    /// Attaches or replaces, then takes away what the other hook may have from an earlier configuration.
    pub fn attach(&self, ifindex: u32, role: Role) -> Result<()> {
        match self.hook {
            Hook::Tcx => {
                self.attach_tcx(ifindex, role)?;
                clsact::detach(ifindex, role.side())?;
            }
            Hook::Clsact => {
                clsact::attach(self.programs.get(role), ifindex, role.side())?;
                remove_pin(&link_pin(&self.link_pins, ifindex, role))?;
            }
        }
        Ok(())
    }

    pub fn is_attached(&self, ifindex: u32, role: Role) -> bool {
        match self.hook {
            Hook::Tcx => {
                tcx_link(&link_pin(&self.link_pins, ifindex, role)).map(|link| link.ifindex)
                    == Some(ifindex)
            }
            Hook::Clsact => clsact::is_attached(self.programs.get(role), ifindex, role.side()),
        }
    }

    pub fn detach(&self, ifindex: u32, role: Role) -> Result<()> {
        remove_pin(&link_pin(&self.link_pins, ifindex, role))?;
        clsact::detach(ifindex, role.side()).map(drop)
    }

    /// Pins of links whose interface is gone hold nothing but a name.
    pub fn remove_dead_pins(&self) -> Result<()> {
        for pin in pinned_links(&self.link_pins)? {
            if tcx_link(&pin.path).map(|link| link.ifindex) != Some(pin.ifindex) {
                remove_pin(&pin.path)?;
            }
        }
        Ok(())
    }

    fn attach_tcx(&self, ifindex: u32, role: Role) -> Result<()> {
        let pin = link_pin(&self.link_pins, ifindex, role);
        let program = self.programs.get(role);
        if tcx_link(&pin).map(|link| link.ifindex) == Some(ifindex) {
            let mut link = Link::open(&pin)?;
            return link.update_prog(program).context("cannot replace the attached program");
        }
        remove_pin(&pin)?;
        let link =
            TcxLink::create(program, ifindex, role.side()).context("cannot attach by tcx")?;
        link.pin(&pin).with_context(|| format!("cannot pin the link at {}", pin.display()))
    }
}

/// By index and not by name: interfaces are renamed, and a bpf file system allows no dots.
fn link_pin(link_pins: &Path, ifindex: u32, role: Role) -> PathBuf {
    link_pins.join(format!("{ifindex}-{}", role.name()))
}

#[derive(Debug)]
pub struct PinnedLink {
    pub path: PathBuf,
    pub ifindex: u32,
    pub role: Role,
}

pub fn pinned_links(link_pins: &Path) -> Result<Vec<PinnedLink>> {
    let entries = match fs::read_dir(link_pins) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("{}", link_pins.display())),
    };
    let mut links = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some((ifindex, role)) = name.split_once('-') else { continue };
        let role = Role::ALL.into_iter().find(|known| known.name() == role);
        if let (Ok(ifindex), Some(role)) = (ifindex.parse(), role) {
            links.push(PinnedLink { path, ifindex, role });
        }
    }
    links.sort_by_key(|link| (link.ifindex, link.role));
    Ok(links)
}

/// A program that is attached, by either hook, with the agent or without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attached {
    pub hook: Hook,
    pub program_id: u32,
}

pub fn attached(link_pins: &Path, ifindex: u32, role: Role) -> Option<Attached> {
    let tcx = tcx_link(&link_pin(link_pins, ifindex, role)).filter(|link| link.ifindex == ifindex);
    if let Some(link) = tcx {
        return Some(Attached { hook: Hook::Tcx, program_id: link.program_id });
    }
    let program_id = clsact::attached_program(ifindex, role.side())?;
    Some(Attached { hook: Hook::Clsact, program_id })
}

struct PinnedTcx {
    ifindex: u32,
    program_id: u32,
}

/// None also when the link's interface is gone; the kernel then says 0.
fn tcx_link(pin: &Path) -> Option<PinnedTcx> {
    let link = pin.exists().then(|| Link::open(pin).ok()).flatten()?;
    let info = link.info().ok()?;
    let LinkTypeInfo::Tcx(tcx) = info.info else { return None };
    (tcx.ifindex != 0).then_some(PinnedTcx { ifindex: tcx.ifindex, program_id: info.prog_id })
}

pub fn remove_pin(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
