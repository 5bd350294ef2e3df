//! A connection and its bodies, which tell the seat who waits for whom.

use super::seats::Client;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// A client's socket.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// The socket, whose client has to take what is sent to it.
pub(super) struct WatchedStream {
    stream: Box<dyn Stream>,
    client: Arc<Client>,
    /// How long the client may take nothing.
    patience: Duration,
    /// Runs while it takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
    linger: Linger,
}

/// RFC 9112, 9.6: who closes while the client still sends makes it lose the answer. So first only
/// the sending half is closed, and what comes is thrown away for a while.
enum Linger {
    Open,
    Reads(Pin<Box<Sleep>>),
}

/// After an answer that did not want all of its request.
const LINGER: Duration = Duration::from_secs(2);

impl WatchedStream {
    pub(super) fn new(stream: Box<dyn Stream>, client: Arc<Client>, patience: Duration) -> Self {
        WatchedStream { stream, client, patience, stalled: None, linger: Linger::Open }
    }

    fn written(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = written {
            if self.stalled.take().is_some() {
                self.client.is_worked_for();
            }
            return Poll::Ready(written.inspect(|bytes| self.client.moves(*bytes)));
        }
        self.client.is_waited_for();
        let patience = self.patience;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the answer is not taken")))
    }
}

impl AsyncRead for WatchedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for WatchedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.written(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.written(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Called when all that there was is written.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut self.stream).poll_flush(cx));
        self.client.is_flushed();
        Poll::Ready(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Linger::Open = this.linger {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
            if !this.client.has_unread() {
                return Poll::Ready(Ok(()));
            }
            this.client.is_waited_for();
            this.linger = Linger::Reads(Box::pin(sleep(LINGER)));
        }
        let Linger::Reads(end) = &mut this.linger else { return Poll::Ready(Ok(())) };
        let mut scratch = [0; 8192];
        loop {
            if end.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let mut buf = ReadBuf::new(&mut scratch);
            let read = ready!(Pin::new(&mut this.stream).poll_read(cx, &mut buf));
            if read.is_err() || buf.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

/// A request's body.
pub(super) struct Arriving<B> {
    body: B,
    client: Arc<Client>,
}

impl<B: Body> Arriving<B> {
    pub(super) fn new(body: B, client: Arc<Client>) -> Self {
        client.has_asked(!body.is_end_stream());
        Arriving { body, client }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Arriving<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        match &frame {
            Poll::Pending => self.client.is_waited_for(),
            Poll::Ready(frame) => {
                self.client.is_worked_for();
                let data = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
                self.client.moves(data.map_or(0, Bytes::len));
                if frame.is_none() || self.body.is_end_stream() {
                    self.client.body_is_read();
                }
            }
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Who stops reading a body does not wait for the client any more.
impl<B> Drop for Arriving<B> {
    fn drop(&mut self) {
        self.client.is_worked_for();
    }
}

/// An answer's body.
pub(super) struct Leaving<B> {
    body: B,
    client: Arc<Client>,
}

impl<B> Leaving<B> {
    pub(super) fn new(body: B, client: Arc<Client>) -> Self {
        client.has_answer();
        Leaving { body, client }
    }
}

impl<B: Body + Unpin> Body for Leaving<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> Drop for Leaving<B> {
    fn drop(&mut self) {
        self.client.is_answered();
    }
}
