//! Unix sockets and datagrams.

use super::*;

/// A path in the temporary directory; removed at the end.
struct Temporary(PathBuf);

impl Temporary {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("bursar-net-{}-{name}", std::process::id())))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn unix_sockets_go_round() {
    let path = Temporary::new("listener");
    run(async {
        let listener = UnixListener::bind(&path.0).unwrap();
        assert_eq!(listener.local_addr().unwrap().as_pathname(), Some(&*path.0));
        let server = spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).await.unwrap();
            stream.write_all(text.to_uppercase().as_bytes()).await.unwrap();
        });
        let mut client = UnixStream::connect(&path.0).await.unwrap();
        assert_eq!(client.peer_addr().unwrap().as_pathname(), Some(&*path.0));
        client.write_all(b"quiet").await.unwrap();
        client.close().await.unwrap();
        let mut text = String::new();
        client.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "QUIET");
        server.await.unwrap();
        assert_eq!(UnixStream::connect(&path.0).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn unix_datagrams_go_round() {
    let path = Temporary::new("datagram");
    run(async {
        let server = UnixDatagram::bind(&path.0).unwrap();
        let client = UnixDatagram::unbound().unwrap();
        client.send_to(b"one", &path.0).await.unwrap();
        client.connect(&path.0).unwrap();
        client.send(b"two!").await.unwrap();
        let mut buf = [0; 16];
        assert_eq!(server.recv_from(&mut buf).await.unwrap().0, 3);
        assert_eq!(server.recv(&mut buf).await.unwrap(), 4);
        // More than the receiver has room for: the sender waits for it.
        let sender = spawn(async move {
            for _ in 0..2000 {
                client.send(b"x").await.unwrap();
            }
        });
        for _ in 0..2000 {
            assert_eq!(server.recv(&mut buf).await.unwrap(), 1);
        }
        sender.await.unwrap();
    });
}
