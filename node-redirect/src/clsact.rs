//! Attachment by a clsact filter: on every kernel that this program supports.

use std::os::fd::AsFd;

use anyhow::{Context, Result};
use futures_util::TryStreamExt;
use libbpf_rs::{ErrorKind, Program, TC_EGRESS, TC_INGRESS, TcAttachPoint, TcHook, TcHookBuilder};

use crate::tcx::Side;

/// In front of what others attach, as they take higher numbers or the kernel's own, from 49152 down.
const PRIORITY: u32 = 1;
/// "egw": tells our filter from another at the same priority.
const HANDLE: u32 = 0x0065_6777;

/// Replaces our own filter, if it is there, in one step.
pub fn attach(program: &Program<'_>, ifindex: u32, side: Side) -> Result<()> {
    let mut hook = hook(program, ifindex, side)?;
    match hook.create() {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error).context("cannot make the clsact qdisc"),
    }
    hook.attach().context("cannot attach the filter").map(drop)
}

pub fn is_attached(program: &Program<'_>, ifindex: u32, side: Side) -> bool {
    hook(program, ifindex, side).is_ok_and(|mut hook| hook.query().is_ok_and(|id| id != 0))
}

/// Also fine when there is none.
pub fn detach(ifindex: u32, side: Side) -> Result<bool> {
    // The builder wants a program, which detaching does not look at: any open fd will do.
    let unused = std::fs::File::open("/dev/null")?;
    let mut hook = build(unused.as_fd(), ifindex, side)?;
    if hook.query().is_err() {
        return Ok(false);
    }
    hook.detach().context("cannot detach the filter")?;
    Ok(true)
}

/// The id of the program that our filter runs.
pub fn attached_program(ifindex: u32, side: Side) -> Option<u32> {
    let unused = std::fs::File::open("/dev/null").ok()?;
    build(unused.as_fd(), ifindex, side).ok()?.query().ok().filter(|&id| id != 0)
}

/// The qdisc goes when nobody has a filter on it any more.
pub async fn remove_unused_qdisc(netlink: &rtnetlink::Handle, ifindex: u32) -> Result<()> {
    let index = i32::try_from(ifindex)?;
    let requests = netlink.clone();
    let ours = requests.qdisc().get().index(index).execute();
    let qdiscs: Vec<_> = ours.try_collect().await.unwrap_or_default();
    if !qdiscs.iter().any(is_clsact) {
        return Ok(());
    }
    let ingress = requests.traffic_filter(index).get().ingress().execute();
    let egress = requests.traffic_filter(index).get().egress().execute();
    let filters = [ingress.try_collect::<Vec<_>>().await?, egress.try_collect::<Vec<_>>().await?];
    if filters.iter().any(|filters| !filters.is_empty()) {
        return Ok(());
    }
    let unused = std::fs::File::open("/dev/null")?;
    let mut hook = TcHookBuilder::new(unused.as_fd()).ifindex(index).hook(TC_INGRESS | TC_EGRESS);
    hook.destroy().context("cannot remove the clsact qdisc")
}

fn is_clsact(qdisc: &rtnetlink::packet_route::tc::TcMessage) -> bool {
    use rtnetlink::packet_route::tc::TcAttribute;
    qdisc
        .attributes
        .iter()
        .any(|attribute| matches!(attribute, TcAttribute::Kind(kind) if kind == "clsact"))
}

fn hook(program: &Program<'_>, ifindex: u32, side: Side) -> Result<TcHook> {
    build(program.as_fd(), ifindex, side)
}

fn build(fd: std::os::fd::BorrowedFd<'_>, ifindex: u32, side: Side) -> Result<TcHook> {
    let point: TcAttachPoint = match side {
        Side::Ingress => TC_INGRESS,
        Side::Egress => TC_EGRESS,
    };
    let mut builder = TcHookBuilder::new(fd);
    builder.ifindex(i32::try_from(ifindex)?).replace(true).handle(HANDLE).priority(PRIORITY);
    Ok(builder.hook(point))
}
