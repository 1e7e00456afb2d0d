//! X3: every request, cut at each of its awaits in turn.

use super::files::Files;
use super::index::{self, Progress};
use super::{App, routes, search};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use runtime::db::sqlite;
use runtime::http::Readiness;
use runtime::testing::sweep;
use runtime::{Runtime, yield_now};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fs;
use std::future::poll_fn;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use tower_service::Service;

/// All that the service has, and at how many awaits it can be cut at least.
const PATHS: [(&str, u32); 7] = [
    ("/", 0),
    ("/search?q=sentinel", 1),
    ("/file?path=notes.md", 1),
    ("/render?path=notes.md", 1),
    ("/fanout?q=sentinel,other,nothing", 1),
    ("/sleep?ms=200", 1),
    ("/accounts", 0),
];

/// A directory with a text and its index, gone with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let folder = Self(std::env::temp_dir().join(format!("bursar-{test}-{}", std::process::id())));
        fs::create_dir_all(folder.texts()).unwrap();
        // Large enough that whoever asks for it has begun to wait before it is there.
        let notes =
            format!("The *sentinel* sees no other.\n\n{}", "# Chapter\n\nSome text.\n\n".repeat(1_000));
        fs::write(folder.texts().join("notes.md"), notes).unwrap();
        Runtime::new().unwrap().block_on(async {
            let app = folder.open("index");
            search::prepare(&app.pool).await.unwrap();
            index::run(app.files, app.pool.clone(), app.progress).await.unwrap();
            app.pool.close().await;
        });
        folder
    }

    fn texts(&self) -> PathBuf {
        self.0.join("texts")
    }

    /// The sweep called `name` looks at threads that are called so, too.
    fn open(&self, name: &str) -> App {
        let pool = sqlite::builder(self.0.join("index.sqlite")).name(format!("{name}-db")).build();
        App {
            files: Files::below(Path::new(&self.texts())).unwrap(),
            pool,
            progress: Arc::new(Progress::default()),
            readiness: Readiness::default(),
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// One request, up to the last byte of its answer.
async fn ask(mut router: Router, path: &str) {
    let request = Request::builder().uri(path).body(Body::empty()).unwrap();
    let response = router.call(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK, "{path}");
    to_bytes(response.into_body(), usize::MAX).await.unwrap();
}

fn sweep_all(name: &'static str, folder: &Folder, make: fn(App) -> Router) {
    for (path, awaits) in PATHS {
        // A job may be back before it is awaited, if this thread has to wait for a processor. Then once more.
        let again = || sweep(name, || make(folder.open(name)), |router| ask(router.clone(), path));
        assert!((0..20).any(|_| again() >= awaits), "{name}: {path} was never cut at {awaits} awaits");
    }
}

#[test]
fn x3_the_sweep_finds_nothing_in_the_handlers_of_the_service() {
    let folder = Folder::new("x3-service");
    // In the context of the sweep, which has to finish after each cut; and in one of its own.
    sweep_all("x3 handlers", &folder, routes::handlers);
    sweep_all("x3 requests", &folder, routes::router);
    for class in context::classes() {
        let is_request = class.class.starts_with("GET ") || class.class == "fanout part";
        assert!(!is_request || class.opened > 0 && class.open == 0, "{class:?}");
    }
}

/// A lock that is handed on. If it is careless, one who goes after it was chosen takes the lock along.
#[derive(Default)]
struct Lock {
    held: Cell<bool>,
    waiters: RefCell<VecDeque<Rc<Waiter>>>,
    careless: bool,
}

#[derive(Default)]
struct Waiter {
    chosen: Cell<bool>,
    waker: Cell<Option<Waker>>,
}

impl Lock {
    async fn lock(&self) -> Held<'_> {
        if !self.held.replace(true) {
            return Held(self);
        }
        let turn = Turn { lock: self, waiter: Rc::default() };
        self.waiters.borrow_mut().push_back(turn.waiter.clone());
        poll_fn(|cx| {
            turn.waiter.waker.set(Some(cx.waker().clone()));
            if turn.waiter.chosen.get() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        turn.waiter.chosen.set(false);
        Held(self)
    }

    fn unlock(&self) {
        let next = self.waiters.borrow_mut().pop_front();
        self.held.set(next.is_some());
        if let Some(next) = next {
            next.chosen.set(true);
            next.waker.take().into_iter().for_each(Waker::wake);
        }
    }
}

struct Held<'a>(&'a Lock);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.unlock();
    }
}

struct Turn<'a> {
    lock: &'a Lock,
    waiter: Rc<Waiter>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.lock.waiters.borrow_mut().retain(|other| !Rc::ptr_eq(other, &self.waiter));
        if self.waiter.chosen.get() && !self.lock.careless {
            self.lock.unlock();
        }
    }
}

/// Two requests at once, of which the lock lets one at a time into the handler; the second one is cut.
async fn ask_in_turn(lock: Rc<Lock>, router: Router, path: &str) {
    let first = lock.clone();
    let holder = runtime::background("x3 first", async move {
        let _held = first.lock().await;
        yield_now().await;
        Ok::<_, String>(())
    });
    yield_now().await;
    let held = lock.lock().await;
    ask(router, path).await;
    drop((held, holder));
}

fn sweep_in_turn(name: &'static str, folder: &Folder, careless: bool) -> u32 {
    let set_up = || (Rc::new(Lock { careless, ..Lock::default() }), routes::router(folder.open(name)));
    sweep(name, set_up, |(lock, router)| ask_in_turn(lock.clone(), router.clone(), "/search?q=sentinel"))
}

#[test]
fn x3_the_sweep_finds_a_lost_hand_off_in_front_of_a_handler() {
    let folder = Folder::new("x3-planted");
    assert!(sweep_in_turn("x3 sound", &folder, false) >= 2);
    let found = std::panic::catch_unwind(|| sweep_in_turn("x3 careless", &folder, true));
    let panic = found.unwrap_err();
    let text = context::panic_message(&*panic);
    assert!(text.contains("a whole request is stuck after a request was cut at await 2"), "{text}");
}
