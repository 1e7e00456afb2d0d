//! A stream in two parts: split, shared, or half closed.

use super::*;

#[test]
fn half_a_connection_stays_open() {
    run(async {
        let (mut client, mut server) = pair().await;
        client.write_all(b"request").await.unwrap();
        client.close().await.unwrap();
        let mut text = String::new();
        server.read_to_string(&mut text).await.unwrap();
        server.write_all(b"response").await.unwrap();
        server.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!((&*text, &*answer), ("request", "response"));
        // At the end it stays at the end, and closing twice is no error.
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        assert_eq!(client.try_read(&mut [0]).unwrap(), 0);
        drop(server);
        client.close().await.unwrap();
    });
}

#[test]
fn halves_work_in_two_tasks_and_are_joined_again() {
    run(async {
        let (client, mut server) = pair().await;
        let (mut read, mut write) = client.into_split();
        let reader = spawn(async move {
            let mut buf = [0; 4];
            read.read_exact(&mut buf).await.unwrap();
            assert_eq!(&buf, b"pong");
            read
        });
        let writer = spawn(async move {
            write.write_all(b"ping").await.unwrap();
            write
        });
        let mut buf = [0; 4];
        server.read_exact(&mut buf).await.unwrap();
        server.write_all(b"pong").await.unwrap();
        let (read, write) = (reader.await.unwrap(), writer.await.unwrap());

        let (other, _) = UnixStream::pair().unwrap();
        drop(other);
        let (third, _fourth) = pair().await;
        let (third_read, third_write) = third.into_split();
        let error = read.reunite(third_write).unwrap_err();
        assert_eq!(error.to_string(), "the halves are not of the same stream");
        let mut client = write.reunite(error.0).unwrap();
        drop((error.1, third_read));

        // The joined stream is open in both directions; its borrowed halves too.
        let (mut read, mut write) = client.split();
        write.write_all(b"more").await.unwrap();
        server.read_exact(&mut buf).await.unwrap();
        server.write_all(&buf).await.unwrap();
        read.read_exact(&mut buf).await.unwrap();
        assert_eq!(&buf, b"more");
    });
}

#[test]
fn dropping_the_writing_half_ends_the_stream() {
    run(async {
        let (client, mut server) = pair().await;
        let (mut read, write) = client.into_split();
        drop(write);
        assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
        server.write_all(b"still here").await.unwrap();
        let mut buf = [0; 10];
        read.read_exact(&mut buf).await.unwrap();

        let (client, mut server) = pair().await;
        let (read, write) = client.into_split();
        write.forget();
        assert!(poll_once(server.read(&mut [0])).await.is_pending());
        drop(read);
        assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
    });
}

/// One task waits to read and another to write, through a shared reference.
#[test]
fn shared_references_read_and_write() {
    run(async {
        let (client, server) = pair().await;
        let client = Rc::new(client);
        let reader = {
            let client = client.clone();
            spawn(async move {
                let mut buf = [0; 2];
                (&*client).read_exact(&mut buf).await.unwrap();
                buf
            })
        };
        (&*client).write_all(b"hi").await.unwrap();
        let mut buf = [0; 2];
        (&server).read_exact(&mut buf).await.unwrap();
        (&server).write_all(&buf).await.unwrap();
        assert_eq!(&reader.await.unwrap(), b"hi");
    });
}
