//! Many pieces of work inside one task, a limited number of them at a time.

use futures_util::stream::{FuturesUnordered, StreamExt};
use std::future::Future;

/// Runs `work` on every item, on at most `limit` of them at a time, within the calling task.
///
/// `limit` items are begun at once, in order; whenever one is done the next is begun. The results come in the order of
/// the items. The first error ends it: it is returned as it is, the pieces under way are dropped, and the remaining
/// items are not looked at.
///
/// No task is spawned, so the pieces may borrow, and all of them run and are dropped in the caller's context. To
/// account for each by itself, wrap it: `async move { .. }.in_context(Context::current().child("fetch"))`. For pieces
/// that go on by themselves, spawn them in a group.
///
/// Only pieces that were woken are polled (by [`FuturesUnordered`], at the price of one allocation a piece).
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// # runtime::Runtime::new()?.block_on(async {
/// use runtime::sync::concurrently;
///
/// let lengths = concurrently(2, ["a", "bb", "ccc"], async |word| Ok::<_, ()>(word.len())).await;
/// assert_eq!(lengths, Ok(vec![1, 2, 3]));
/// # });
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// The first error of any piece.
///
/// # Panics
///
/// If `limit` is 0; and with the first panic of a piece, after the others were dropped.
pub async fn concurrently<I, W, F, T, E>(limit: usize, items: I, mut work: W) -> Result<Vec<T>, E>
where
    I: IntoIterator,
    W: FnMut(I::Item) -> F,
    F: Future<Output = Result<T, E>>,
{
    assert!(limit > 0, "at least one at a time");
    let mut items = items.into_iter();
    let mut results = Vec::new();
    let mut begin = |results: &mut Vec<Option<T>>| {
        let piece = work(items.next()?);
        let place = results.len();
        results.push(None);
        Some(async move { (place, piece.await) })
    };
    let mut pieces = FuturesUnordered::new();
    while pieces.len() < limit {
        let Some(piece) = begin(&mut results) else { break };
        pieces.push(piece);
    }
    while let Some((place, result)) = pieces.next().await {
        results[place] = Some(result?);
        pieces.extend(begin(&mut results));
    }
    Ok(results.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::super::trace::{Gate, Trace, clean, settle, task};
    use super::*;
    use context::{Context, FutureExt};

    /// Each piece says that it began, waits for its gate, and says that it ended.
    async fn pieces(limit: usize, gates: Vec<Gate>, trace: Trace) -> Result<Vec<usize>, String> {
        let result = concurrently(limit, gates.iter().enumerate(), |(number, gate)| {
            let trace = &trace;
            async move {
                trace.say(format_args!("{number}+"));
                gate.pass().await;
                trace.say(format_args!("{number}-"));
                if number == 7 { Err("seven".to_owned()) } else { Ok(number) }
            }
        });
        let result = result.await;
        trace.say("over");
        result
    }

    #[test]
    fn a09_exactly_limit_start_and_each_end_starts_the_next() {
        clean("a09", async {
            let trace = Trace::default();
            let gates: Vec<Gate> = (0..6).map(|_| Gate::default()).collect();
            let all = task("all", pieces(3, gates.clone(), trace.clone()));
            settle().await;
            assert_eq!(trace.take(), "0+ 1+ 2+");
            gates[1].open();
            settle().await;
            assert_eq!(trace.take(), "1- 3+");
            gates[0].open();
            settle().await;
            assert_eq!(trace.take(), "0- 4+");
            gates[5].open();
            settle().await;
            assert_eq!(trace.take(), "", "not done early");
            gates.iter().for_each(Gate::open);
            assert_eq!(all.await.unwrap().unwrap(), [0, 1, 2, 3, 4, 5]);
            let rest = trace.take();
            assert!(
                rest.ends_with(" over") && ["2-", "3-", "4-", "5+ 5-"].iter().all(|end| rest.contains(end))
            );
        });
    }

    #[test]
    fn a10_the_first_error_is_returned_as_it_is_and_the_rest_dropped() {
        clean("a10", async {
            let trace = Trace::default();
            let gates: Vec<Gate> = (0..12).map(|_| Gate::default()).collect();
            gates[..8].iter().for_each(Gate::open);
            let all = task("all", pieces(3, gates, trace.clone()));
            assert_eq!(all.await.unwrap(), Err("seven".to_owned()));
            let log = trace.take();
            assert!(log.ends_with("7- over") && !log.contains("8-"), "{log}");
        });
    }

    #[test]
    fn a11_an_immediate_error_too() {
        clean("a11", async {
            let mut begun = 0;
            let result: Result<Vec<()>, _> = concurrently(2, 0..10, |number| {
                begun += 1;
                async move { Err(number) }
            })
            .await;
            assert_eq!((result, begun), (Err(0), 2));
        });
    }

    #[test]
    fn the_pieces_run_and_are_dropped_in_the_callers_context_or_their_own() {
        struct Says(Trace);
        impl Drop for Says {
            fn drop(&mut self) {
                self.0.say(Context::current().class());
            }
        }
        clean("contexts", async {
            let trace = Trace::default();
            let piece = |number: u32| {
                let says = Says(trace.clone());
                let class = if number == 0 { "own" } else { "caller" };
                let piece = async move {
                    crate::yield_now().await;
                    assert_eq!(Context::current().class(), class);
                    let _says = says;
                    std::future::pending::<Result<(), ()>>().await
                };
                async move {
                    if number == 0 {
                        piece.in_context(Context::current().child("own")).await
                    } else {
                        piece.await
                    }
                }
            };
            let pieces = vec![piece(0), piece(1)];
            let all = task("caller", async { concurrently(2, pieces, |piece| piece).await.is_ok() });
            settle().await;
            all.abort();
            settle().await;
            let mut said: Vec<_> = trace.take().split(' ').map(str::to_owned).collect();
            said.sort();
            assert_eq!(said, ["caller", "own"]);
        });
    }

    #[test]
    fn no_items_no_wait() {
        clean("none", async {
            assert_eq!(concurrently(1, [], async |()| Ok::<u8, ()>(0)).await, Ok(Vec::new()));
        });
    }
}
