//! The executor of the `futures` crate: no timers, no network.

use super::{Peer, Sure};
use futures_executor::{LocalPool as Pool, LocalSpawner};
use futures_util::future::RemoteHandle;
use futures_util::task::LocalSpawnExt;
use std::cell::RefCell;
use std::convert::Infallible;
use std::future::Future;

thread_local! {
    static SPAWNER: RefCell<Option<LocalSpawner>> = const { RefCell::new(None) };
}

/// `futures::executor::LocalPool`, its tasks spawned with a handle.
#[derive(Debug)]
pub struct LocalPool;

impl Peer for LocalPool {
    const NAME: &'static str = "futures LocalPool";

    type Context = ();

    type Handle<T: Send + 'static> = Sure<RemoteHandle<T>>;

    type Error = Infallible;

    fn block_on<F: Future>(future: F) -> F::Output {
        let mut pool = Pool::new();
        SPAWNER.set(Some(pool.spawner()));
        pool.run_until(future)
    }

    fn context() {}

    fn spawn_here<F>(_: &(), future: F) -> Self::Handle<F::Output>
    where
        F: Future + 'static,
        F::Output: Send + 'static,
    {
        SPAWNER.with_borrow(|spawner| {
            let spawner = spawner.as_ref().expect("within `block_on`");
            Sure(spawner.spawn_local_with_handle(future).expect("the pool lives"))
        })
    }

    fn spawn<F>(future: F) -> Self::Handle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        Self::spawn_here(&(), future)
    }
}
