//! The body of a response, billed to its request.

use super::line::Bill;
use bytes::Bytes;
use context::FutureExt;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

pin_project! {
    /// The body of a response that [`ContextLayer`](super::ContextLayer) has billed: polled and dropped in the context of
    /// its request, which ends when the last piece of it was written to the connection.
    #[must_use = "a body does nothing unless polled"]
    pub struct ResponseBody<B> {
        // Empty once it ended.
        #[pin]
        inner: Option<B>,
        bill: Arc<Bill>,
    }

    impl<B> PinnedDrop for ResponseBody<B> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            if this.inner.is_some() {
                let bill = this.bill;
                bill.abandon();
                bill.context().scope(|| this.inner.set(None));
            }
        }
    }
}

impl<B: Body<Data = Bytes>> ResponseBody<B> {
    /// `empty`: whatever `inner` says, no body belongs to this response (the answer to `HEAD`, say).
    pub(super) fn new(inner: B, bill: Arc<Bill>, empty: bool) -> Self {
        if empty || inner.is_end_stream() {
            bill.complete();
        }
        Self { inner: Some(inner), bill }
    }
}

impl<B: Body<Data = Bytes>> Body for ResponseBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let mut this = self.project();
        let Some(mut inner) = this.inner.as_mut().as_pin_mut() else { return Poll::Ready(None) };
        let bill = &*this.bill;
        let frame = {
            let frame = poll_fn(|cx| inner.as_mut().poll_frame(cx)).in_context(bill.context().clone());
            ready!(pin!(frame).poll(cx))
        };
        match &frame {
            Some(Ok(_)) if !inner.is_end_stream() => {}
            Some(Err(_)) => bill.failed(),
            Some(Ok(_)) | None => bill.complete(),
        }
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(|data| held(data, bill)))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

/// The same bytes, which hold the account of their request until they are written: some 50 ns for each piece.
fn held(data: Bytes, bill: &Arc<Bill>) -> Bytes {
    bill.add_bytes(data.len());
    if data.is_empty() { data } else { Bytes::from_owner(Unsent { data, _bill: bill.clone() }) }
}

struct Unsent {
    data: Bytes,
    _bill: Arc<Bill>,
}

impl AsRef<[u8]> for Unsent {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}
