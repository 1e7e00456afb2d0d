//! The body of a response, billed to its request.

use super::line::Bill;
use super::panics::{self, Place};
use bytes::Bytes;
use context::FutureExt;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use std::error::Error;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

type BoxError = Box<dyn Error + Send + Sync>;

pin_project! {
    /// The body of a response that [`ContextLayer`](super::ContextLayer) has billed: polled and dropped in the context of
    /// its request, which ends when the last piece of it was written to the connection.
    #[must_use = "a body does nothing unless polled"]
    pub struct ResponseBody<B> {
        // Empty once it ended.
        #[pin]
        inner: Option<B>,
        bill: Arc<Bill>,
        // Bytes that the head has announced and that were not handed over yet; `None` if it announces no length.
        left: Option<u64>,
        place: Place,
    }

    impl<B> PinnedDrop for ResponseBody<B> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            let bill = this.bill;
            if this.inner.is_some() {
                bill.abandon();
                let dropped = panics::catch(|| bill.context().scope(|| this.inner.set(None)));
                if let Err(panic) = dropped {
                    panic.report(bill.context(), this.place);
                }
            }
            bill.hold_until_written();
        }
    }
}

impl<B> ResponseBody<B> {
    /// `left`: what the head announces of a body that is to be sent. `inner` is `None` if there is nothing.
    pub(super) fn new(inner: Option<B>, bill: Arc<Bill>, left: Option<u64>, place: Place) -> Self {
        Self { inner, bill, left, place }
    }
}

impl<B> Body for ResponseBody<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut this = self.project();
        let Some(mut inner) = this.inner.as_mut().as_pin_mut() else { return Poll::Ready(None) };
        let bill = &*this.bill;
        let polled = panics::catch(|| {
            let frame = poll_fn(|cx| inner.as_mut().poll_frame(cx)).in_context(bill.context().clone());
            pin!(frame).poll(cx)
        });
        let frame = match polled {
            Ok(poll) => ready!(poll),
            Err(panic) => {
                bill.panicked();
                panic.report(bill.context(), this.place);
                return Poll::Ready(Some(Err(BodyPanicked.into())));
            }
        };
        let has_ended = inner.is_end_stream();
        Poll::Ready(match frame {
            None => {
                end(bill, *this.left);
                None
            }
            Some(Err(error)) => {
                bill.failed();
                Some(Err(error.into()))
            }
            Some(Ok(frame)) => {
                let frame = frame.map_data(|data| {
                    let sent = this.left.map_or(data.len() as u64, |left| left.min(data.len() as u64));
                    *this.left = this.left.map(|left| left - sent);
                    bill.add_bytes(sent);
                    held(data, bill)
                });
                // What the head has announced is all that is sent: then nobody asks for more.
                if has_ended || *this.left == Some(0) {
                    end(bill, *this.left);
                }
                Some(Ok(frame))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

/// The body has ended. If that is too early for what the head has announced, the client gets a broken answer.
fn end(bill: &Bill, left: Option<u64>) {
    if left.is_some_and(|left| left > 0) { bill.failed() } else { bill.complete() }
}

/// The same bytes, which hold the account of their request until they are written: some 50 ns for each piece.
fn held(data: Bytes, bill: &Arc<Bill>) -> Bytes {
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

/// The body of a response panicked; it was reported.
#[derive(Debug)]
struct BodyPanicked;

impl fmt::Display for BodyPanicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the body of the response panicked")
    }
}

impl Error for BodyPanicked {}
