//! The bodies of requests: how large each may be, how long it may take to come, and how much of the
//! process's memory all of them may hold together. Nobody else waits meanwhile: who writes policies
//! takes its turn when its text is here.

use super::error::{ApiError, not_utf8};
use axum::{
    body::{Body, Bytes, HttpBody},
    http::StatusCode,
};
use http_body_util::BodyExt;
use std::{ops::Deref, sync::Arc, time::Duration};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// Bodies of the largest size that there is room for at a time.
const AT_A_TIME: usize = 4;
/// For a body to arrive.
const WITHIN: Duration = Duration::from_secs(30);

/// What the bodies of all requests share.
#[derive(Debug)]
pub(super) struct Bodies {
    /// Bytes of one.
    largest: usize,
    within: Duration,
    /// Bytes of all; each takes its own as they arrive.
    room: Arc<Semaphore>,
}

/// A whole body. Its room is free again when it is dropped.
#[derive(Debug)]
pub(super) struct Text {
    text: String,
    _room: Option<OwnedSemaphorePermit>,
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

impl Bodies {
    /// `largest`: bytes of one body.
    pub(super) fn new(largest: usize) -> Self {
        let room = largest.saturating_mul(AT_A_TIME).min(Semaphore::MAX_PERMITS);
        Bodies { largest, within: WITHIN, room: Arc::new(Semaphore::new(room)) }
    }

    pub(super) async fn read(&self, body: Body) -> Result<Text, ApiError> {
        // What is announced to be too large is not read at all.
        if body.size_hint().lower() > self.largest as u64 {
            return Err(self.too_large());
        }
        let read = timeout(self.within, self.collect(body)).await;
        let (bytes, room) = read.unwrap_or_else(|_| {
            let message = format!("the body did not arrive within {} s", self.within.as_secs());
            Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, message))
        })?;
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Text { text, _room: room }),
            Err(error) => {
                let valid = error.utf8_error().valid_up_to();
                let before = String::from_utf8_lossy(&error.as_bytes()[..valid]).into_owned();
                let (line, column) = position(&before);
                Err(not_utf8(line, column))
            }
        }
    }

    async fn collect(
        &self,
        mut body: Body,
    ) -> Result<(Vec<u8>, Option<OwnedSemaphorePermit>), ApiError> {
        let mut bytes = Vec::new();
        let mut room: Option<OwnedSemaphorePermit> = None;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                ApiError::bad_request(format!("the body is not whole: {error}"))
            })?;
            // Trailers say nothing here.
            let Ok(chunk) = frame.into_data() else { continue };
            if bytes.len() + chunk.len() > self.largest {
                return Err(self.too_large());
            }
            let more = self.room_for(&chunk)?;
            match &mut room {
                Some(room) => room.merge(more),
                None => room = Some(more),
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok((bytes, room))
    }

    fn room_for(&self, chunk: &Bytes) -> Result<OwnedSemaphorePermit, ApiError> {
        let bytes = u32::try_from(chunk.len()).unwrap_or(u32::MAX);
        Arc::clone(&self.room).try_acquire_many_owned(bytes).map_err(|_| {
            let message = "there is no room for this body beside those of other requests";
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message)
                .hint("send it again in a few seconds")
                .retry_after(5)
        })
    }

    fn too_large(&self) -> ApiError {
        let message = format!("a policy set has at most {} bytes", self.largest);
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message)
    }
}

/// Line and column, from 1, behind `text`.
fn position(text: &str) -> (usize, usize) {
    let last = text.rsplit('\n').next().unwrap_or_default();
    (text.matches('\n').count() + 1, last.chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::body::{Body as HyperBody, Frame};
    use std::{
        convert::Infallible,
        pin::Pin,
        task::{Context, Poll},
    };
    use tokio::sync::mpsc;

    /// A body whose chunks the test sends.
    struct Sent(mpsc::UnboundedReceiver<Bytes>);

    impl HyperBody for Sent {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            self.0.poll_recv(cx).map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
        }
    }

    fn chunk(bytes: usize) -> Bytes {
        vec![b'x'; bytes].into()
    }

    fn wait<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap()
            .block_on(future)
    }

    #[test]
    fn size_and_encoding_are_judged() {
        let bodies = Bodies::new(10);
        let status =
            |body: Body| wait(bodies.read(body)).map(|text| text.len()).map_err(|e| e.status());
        assert_eq!(status(Body::empty()).unwrap(), 0);
        assert_eq!(status(chunk(10).into()).unwrap(), 10);
        assert_eq!(status(chunk(11).into()), Err(StatusCode::PAYLOAD_TOO_LARGE));
        let (send, chunks) = mpsc::unbounded_channel();
        for _ in 0..2 {
            send.send(chunk(6)).unwrap();
        }
        // Without a length it is found out on the way; the rest, here endless, is not waited for.
        assert_eq!(status(Body::new(Sent(chunks))), Err(StatusCode::PAYLOAD_TOO_LARGE));
        let error = wait(bodies.read(Body::from(&b"a\nb\xff"[..]))).unwrap_err();
        assert_eq!((&error.body()["line"], &error.body()["column"]), (&2.into(), &2.into()));
        assert_eq!(bodies.room.available_permits(), 40);
    }

    #[test]
    fn a_slow_body_is_given_up() {
        let bodies = Bodies { within: Duration::from_millis(20), ..Bodies::new(10) };
        let (send, chunks) = mpsc::unbounded_channel();
        send.send(chunk(4)).unwrap();
        let error = wait(bodies.read(Body::new(Sent(chunks)))).unwrap_err();
        assert_eq!(error.status(), StatusCode::REQUEST_TIMEOUT);
        assert_eq!(bodies.room.available_permits(), 40);
    }

    #[test]
    fn there_is_room_for_some_and_the_next_comes_again() {
        wait(async {
            let bodies = Bodies::new(10);
            let mut held: Vec<Text> = Vec::new();
            for _ in 0..AT_A_TIME {
                held.push(bodies.read(chunk(10).into()).await.unwrap());
            }
            let error = bodies.read(chunk(1).into()).await.unwrap_err();
            assert_eq!(error.status(), StatusCode::SERVICE_UNAVAILABLE);
            drop(held.pop());
            assert_eq!(&*bodies.read(chunk(1).into()).await.unwrap(), "x");
        });
    }
}
