//! An answer as the connection sends it: the service's, or one of our own. It counts what was written.

use super::link::Phase;
use super::peer::Peer;
use bytes::{Buf, Bytes};
use http::{HeaderValue, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

pin_project! {
    /// The body.
    pub(super) struct Answer<B> {
        #[pin]
        content: Content<B>,
        peer: Peer,
    }

    impl<B> PinnedDrop for Answer<B> {
        fn drop(this: Pin<&mut Self>) {
            this.peer.link().handed_over();
        }
    }
}

pin_project! {
    #[project = Projected]
    enum Content<B> {
        Service { #[pin] body: B },
        Text { text: Bytes },
    }
}

impl<B> Answer<B> {
    pub(super) fn of_service(response: Response<B>, peer: &Peer) -> Response<Self> {
        peer.link().enter(Phase::Answering);
        response.map(|body| Self { content: Content::Service { body }, peer: peer.clone() })
    }

    /// A short answer in place of the service's, after which the connection is closed if `closes`.
    pub(super) fn instead(
        status: StatusCode,
        text: &'static str,
        closes: bool,
        peer: &Peer,
    ) -> Response<Self> {
        peer.link().enter(Phase::Answering);
        let content = Content::Text { text: Bytes::from_static(text.as_bytes()) };
        let mut response = Response::new(Self { content, peer: peer.clone() });
        *response.status_mut() = status;
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, plain);
        if closes {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

impl<B: Body> Body for Answer<B> {
    type Data = Chunk<B::Data>;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, B::Error>>> {
        let this = self.project();
        let peer = this.peer;
        match this.content.project() {
            Projected::Service { body } => {
                let frame = ready!(body.poll_frame(cx));
                let counted = |data| Chunk { data: Data::Service(data), peer: peer.clone() };
                Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(counted))))
            }
            Projected::Text { text } if text.is_empty() => Poll::Ready(None),
            Projected::Text { text } => {
                let data = Data::Text(std::mem::take(text));
                Poll::Ready(Some(Ok(Frame::data(Chunk { data, peer: peer.clone() }))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Service { body } => body.is_end_stream(),
            Content::Text { text } => text.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Service { body } => body.size_hint(),
            Content::Text { text } => SizeHint::with_exact(text.len() as u64),
        }
    }
}

/// A piece of a body. What is taken from its front has been written.
pub(super) struct Chunk<D> {
    data: Data<D>,
    peer: Peer,
}

enum Data<D> {
    Service(D),
    Text(Bytes),
}

impl<D: Buf> Buf for Chunk<D> {
    fn remaining(&self) -> usize {
        match &self.data {
            Data::Service(data) => data.remaining(),
            Data::Text(text) => text.remaining(),
        }
    }

    fn chunk(&self) -> &[u8] {
        match &self.data {
            Data::Service(data) => data.chunk(),
            Data::Text(text) => text.chunk(),
        }
    }

    fn chunks_vectored<'a>(&'a self, dst: &mut [IoSlice<'a>]) -> usize {
        match &self.data {
            Data::Service(data) => data.chunks_vectored(dst),
            Data::Text(text) => text.chunks_vectored(dst),
        }
    }

    fn advance(&mut self, bytes: usize) {
        self.peer.link().add_written(bytes);
        match &mut self.data {
            Data::Service(data) => data.advance(bytes),
            Data::Text(text) => text.advance(bytes),
        }
    }
}
