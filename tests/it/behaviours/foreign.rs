//! E9, E10: what another thread or runtime drives is out of the caller's context while pending, and the caller is in
//! its own when it goes on.

use crate::books::current_class;
use crate::promise::Promise;
use context::Context;
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use runtime::Runtime;
use runtime::net::TcpStream;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;
use std::thread;

/// The server answers when it is told to.
#[test]
fn e09_an_outbound_client_is_out_of_its_context_while_it_waits_for_the_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let asked = Promise::new();
    let (told, (answer, go_on)) = (asked.clone(), mpsc::channel::<()>());
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut question = [0; 4];
        stream.read_exact(&mut question).unwrap();
        assert!(Context::current().is_sentinel());
        told.complete(());
        go_on.recv().unwrap();
        stream.write_all(&question).unwrap();
    });
    Runtime::new().unwrap().block_on(async {
        let task = runtime::spawn_in(&Context::root("e09 request"), async move {
            let mut stream = TcpStream::connect(addr).await.unwrap();
            assert_eq!(current_class(), "e09 request", "connected");
            stream.write_all(b"ping").await.unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).await.unwrap();
            (text, current_class())
        });
        asked.await;
        assert_eq!((current_class(), task.is_finished()), ("main", false));
        answer.send(()).unwrap();
        assert_eq!(task.await.unwrap(), ("ping".to_owned(), "e09 request"));
        assert_eq!(current_class(), "main");
    });
    server.join().unwrap();
}

/// A runtime on a thread of its own, which lives until the sender is dropped.
fn elsewhere() -> (runtime::Handle, Promise<()>, thread::JoinHandle<()>) {
    let (sender, receiver) = mpsc::channel();
    let end = Promise::new();
    let ended = end.clone();
    let thread = thread::spawn(move || {
        let runtime = Runtime::builder().class("e10 loop").build().unwrap();
        sender.send(runtime.handle().clone()).unwrap();
        runtime.block_on(async {
            ended.await;
            assert_eq!(current_class(), "e10 loop");
        });
    });
    (receiver.recv().unwrap(), end, thread)
}

#[test]
fn e10_a_task_of_another_runtimes_thread_is_awaited_out_of_the_context_and_resumes_in_it() {
    let (handle, end, thread) = elsewhere();
    Runtime::new().unwrap().block_on(async {
        let (begun, go_on) = (Promise::new(), Promise::new());
        let (told, wait) = (begun.clone(), go_on.clone());
        let (request, here) = (Context::root("e10 request"), thread::current().id());
        let task = runtime::spawn_in(&request, async move {
            let far = handle.spawn(async move {
                told.complete(());
                wait.await;
                (current_class(), thread::current().id())
            });
            let (class, there) = far.await.unwrap();
            (class, there != here, current_class(), thread::current().id() == here)
        });
        begun.await;
        assert_eq!((current_class(), task.is_finished()), ("main", false));
        go_on.complete(());
        assert_eq!(task.await.unwrap(), ("e10 request", true, "e10 request", true));
        assert_eq!(current_class(), "main");
    });
    end.complete(());
    thread.join().unwrap();
}

#[test]
fn e10_so_is_its_failure() {
    let (handle, end, thread) = elsewhere();
    Runtime::new().unwrap().block_on(async {
        let task = runtime::spawn_in(&Context::root("e10 fails"), async move {
            let far = handle.spawn(async { crate::trace::panic_quietly("e10") });
            let error = far.await.map(|()| unreachable!("it panics")).unwrap_err();
            (error.is_panic(), current_class())
        });
        assert_eq!(task.await.unwrap(), (true, "e10 fails"));
    });
    end.complete(());
    thread.join().unwrap();
}
