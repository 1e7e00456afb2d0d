//! What allocates nothing, with an allocator that counts. One test a process: its other threads would be counted, too.

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use runtime::net::{TcpListener, TcpStream};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::io::IoSlice;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Reads and writes of a connection, waits and wakes between two tasks of two contexts included.
#[test]
fn reads_and_writes_allocate_nothing() {
    // Counted wakers, which builds with debug assertions have by default, are allocated.
    let runtime = runtime::Runtime::builder().track_wakers(false).build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        client.set_nodelay(true).unwrap();
        let server = runtime::spawn_in(&context::Context::root("echo"), echo(server));
        rounds(&mut client, 100).await;
        let region = Region::new(ALLOCATOR);
        rounds(&mut client, 1_000).await;
        let change = region.change();
        assert_eq!((change.allocations, change.reallocations, change.deallocations), (0, 0, 0));
        drop(client);
        server.await.unwrap();
    });
}

async fn rounds(client: &mut TcpStream, rounds: usize) {
    for _ in 0..rounds {
        let parts = [IoSlice::new(b"head"), IoSlice::new(b"body")];
        assert_eq!(client.write_vectored(&parts).await.unwrap(), 8);
        let mut text = [0; 8];
        client.read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"headbody");
    }
}

async fn echo(mut stream: TcpStream) {
    let mut buf = [0; 64];
    loop {
        match stream.read(&mut buf).await.unwrap() {
            0 => return,
            length => stream.write_all(&buf[..length]).await.unwrap(),
        }
    }
}
