//! Trap 15: tasks parked on I/O are dropped at shutdown, in their contexts, and their sockets closed.

use crate::books::on_own_thread;
use crate::trace::Trace;
use context::Context;
use futures_lite::AsyncReadExt;
use runtime::net::{TcpListener, TcpStream, UdpSocket};
use runtime::{Runtime, yield_now};
use std::io::Read;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

/// What the tasks hold, and what they wait for.
struct Parked {
    trace: Trace,
    held: Rc<()>,
}

impl Parked {
    /// A task that notes its drop, and that it went on.
    fn park<F: Future + 'static>(&self, class: &str, wait: F) {
        let (own, noted, held) = (self.trace.clone(), self.trace.on_drop("task"), self.held.clone());
        drop(runtime::spawn_in(&Context::root(class), async move {
            let (_noted, _held) = (noted, held);
            wait.await;
            own.note("went on");
        }));
    }

    /// Accepts, reads and receives; nothing of it ever comes. The address of the listener.
    async fn start(&self, peer: SocketAddr) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        self.park("trap 15 accept", async move { listener.accept().await.map(drop) });
        let mut stream = TcpStream::connect(peer).await.unwrap();
        self.park("trap 15 read", async move { stream.read(&mut [0; 8]).await });
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        self.park("trap 15 receive", async move { socket.recv_from(&mut [0; 8]).await.map(drop) });
        // All are parked: they were polled, and the reactor has been asked since.
        for _ in 0..4 {
            yield_now().await;
        }
        addr
    }
}

fn parked_tasks_are_dropped(end: impl FnOnce(Runtime) -> usize + Send) {
    on_own_thread(|| {
        let peer = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let parked = Parked { trace: Trace::new(), held: Rc::new(()) };
        let runtime = Runtime::new().unwrap();
        let addr = runtime.block_on(parked.start(peer.local_addr().unwrap()));
        let (mut accepted, _) = peer.accept().unwrap();
        assert_eq!(Rc::strong_count(&parked.held), 4, "parked");
        parked.trace.expect(&[]);
        assert_eq!(end(runtime), 3);
        let mut drops = parked.trace.take();
        drops.sort();
        let expected = ["accept", "read", "receive"].map(|what| format!("drop task @ trap 15 {what}"));
        assert_eq!(drops, expected);
        assert_eq!(Rc::strong_count(&parked.held), 1);
        // The other ends see that the sockets are gone.
        assert_eq!(accepted.read(&mut [0; 8]).unwrap(), 0);
        assert!(std::net::TcpStream::connect(addr).is_err());
        assert!(Context::current().is_sentinel());
    });
}

#[test]
fn trap_15_tasks_parked_on_io_are_dropped_with_their_runtime() {
    parked_tasks_are_dropped(|runtime| {
        drop(runtime);
        3
    });
}

#[test]
fn trap_15_tasks_parked_on_io_are_dropped_when_the_patience_ends() {
    parked_tasks_are_dropped(|runtime| runtime.shutdown_timeout(Duration::from_millis(1)).len());
}
