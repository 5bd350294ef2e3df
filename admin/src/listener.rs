//! The API's socket. Bound before anything else starts, so that an address in use is the first thing
//! an operator reads, and nothing has to be undone.

use crate::listen::Listen;
use socket2::{Domain, SockAddr, Socket, Type};
use std::{
    fs, io,
    net::{SocketAddr, TcpListener},
    os::unix::{fs::FileTypeExt, net::UnixListener, net::UnixStream},
    path::{Path, PathBuf},
};

/// A bound socket. A socket file is removed on drop.
#[derive(Debug)]
pub enum ApiListener {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

/// Removes its file on drop.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

impl ApiListener {
    pub fn bind(listen: &Listen) -> io::Result<Self> {
        let bound = match listen {
            Listen::Tcp(address) => bind_tcp(*address),
            Listen::Unix(path) => bind_unix(path),
        };
        let listener = bound.map_err(|error| {
            io::Error::new(error.kind(), format!("api.listen {listen}: {error}"))
        })?;
        match &listener {
            ApiListener::Tcp(socket) => socket.set_nonblocking(true)?,
            ApiListener::Unix(socket, _) => socket.set_nonblocking(true)?,
        }
        Ok(listener)
    }
}

/// Connections that the kernel keeps until they are accepted; more have to knock again, and a TCP
/// client does that only after a second. `net.core.somaxconn` may allow less.
const QUEUE: i32 = 4096;

fn bind_tcp(address: SocketAddr) -> io::Result<ApiListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // A connection of the process before must not keep this one from starting.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(QUEUE)?;
    Ok(ApiListener::Tcp(socket.into()))
}

/// A socket file that a killed process left behind is replaced; one that somebody answers is not, nor
/// anything that is not a socket.
fn bind_unix(path: &Path) -> io::Result<ApiListener> {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    if is_socket && UnixStream::connect(path).is_err() {
        fs::remove_file(path)?;
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile(path.to_owned());
    socket.listen(QUEUE)?;
    Ok(ApiListener::Unix(socket.into(), file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_socket_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("api.sock");
        let listen = Listen::Unix(path.clone());
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "std leaves the file of a closed listener");
        let live = ApiListener::bind(&listen).unwrap();
        let error = ApiListener::bind(&listen).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains("api.sock"), "{error}");
        drop(live);
        assert!(!path.exists());

        fs::write(&path, "a file").unwrap();
        assert!(ApiListener::bind(&listen).is_err());
        assert!(path.exists());
    }
}
