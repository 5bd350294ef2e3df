//! The system calls that no library wraps: making and pinning a tcx link, and waiting for running programs. The crate's only unsafe.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use libbpf_rs::Program;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Ingress,
    Egress,
}

/// An attachment by tcx. Dropping it detaches, unless it is pinned.
#[derive(Debug)]
pub struct TcxLink {
    fd: OwnedFd,
}

impl TcxLink {
    /// In front of what is attached already: a CNI's own program often has the last word on a packet.
    pub fn create(program: &Program<'_>, ifindex: u32, side: Side) -> io::Result<Self> {
        let attach_type = match side {
            Side::Ingress => libbpf_sys::BPF_TCX_INGRESS,
            Side::Egress => libbpf_sys::BPF_TCX_EGRESS,
        };
        let ifindex = i32::try_from(ifindex).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut options = libbpf_sys::bpf_link_create_opts {
            sz: size_of::<libbpf_sys::bpf_link_create_opts>() as _,
            flags: libbpf_sys::BPF_F_BEFORE,
            ..Default::default()
        };
        let options: *mut libbpf_sys::bpf_link_create_opts = &raw mut options;
        // SAFETY: the program's fd is open for as long as `program` is borrowed; `options` is initialised, bears its own size, and
        // outlives the call, which keeps no pointer.
        let fd = unsafe {
            libbpf_sys::bpf_link_create(program.as_fd().as_raw_fd(), ifindex, attach_type, options)
        };
        if fd < 0 {
            return Err(io::Error::from_raw_os_error(-fd));
        }
        // SAFETY: the call just returned this fd, so nobody else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { fd })
    }

    /// The attachment then lives until the file is removed, whoever made it.
    pub fn pin(&self, path: &Path) -> io::Result<()> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        // SAFETY: the fd is open, the path ends in zero, and the call keeps neither.
        let result = unsafe { libbpf_sys::bpf_obj_pin(self.fd.as_raw_fd(), path.as_ptr()) };
        if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(()) }
    }
}

/// Does the kernel know tcx? It looks at the attach type before the interface, so an interface that cannot be tells.
pub fn is_supported(program: &Program<'_>) -> bool {
    const NO_INTERFACE: u32 = i32::MAX as u32;
    match TcxLink::create(program, NO_INTERFACE, Side::Ingress) {
        Ok(_) => true,
        Err(error) => error.raw_os_error() == Some(libc::ENODEV),
    }
}

/// Returns when every program that was running at the call has ended: what it had looked up is no longer in use.
pub fn wait_for_running_programs() -> io::Result<()> {
    const MEMBARRIER_CMD_GLOBAL: libc::c_long = 1;
    // SAFETY: membarrier takes three integers and touches no memory of ours. GLOBAL is an RCU grace period, and BPF programs run
    // inside RCU read sections.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
