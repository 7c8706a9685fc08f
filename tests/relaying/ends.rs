//! Much at once, by each kind of front and back: to the last byte, also where one side reads slowly, and with an end or a
//! reset while the kernel moves it.

use std::io;
use std::time::Duration;

use rustix::net::sockopt::set_socket_recv_buffer_size;
use tokio::io::{AsyncReadExt, AsyncWriteExt, split};

use crate::joined::{End, Joined, Kind};
use crate::support::{World, in_time};

const MUCH: usize = 4 << 20;

fn pattern(length: usize) -> Vec<u8> {
    (0..length as u64).map(|place| (place.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect()
}

/// Runs a body for each kind of front and back, built in and from files.
async fn each(body: impl AsyncFn(&World, &mut Joined, (Kind, Kind))) {
    for world in [World::built_in(), World::loaded()] {
        for (front, back) in Kind::pairs() {
            let mut joined = Joined::new(&world, front, back).await;
            in_time(body(&world, &mut joined, (front, back))).await;
            joined.end().await;
        }
    }
}

/// Sends all, and the end; gives the stream back.
async fn send_all(mut end: End, bytes: &[u8]) -> End {
    end.write_all(bytes).await.expect("it is taken");
    end.shutdown().await.expect("the end is passed on");
    end
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_side_may_end_first() {
    let bytes = pattern(MUCH);
    each(async |world, joined, kinds| {
        for from_near in [true, false] {
            let (near, far) = joined.pair(world, b"first", None).await;
            let (speaks, mut hears, skipped) = if from_near { (near, far, 5) } else { (far, near, 0) };
            let mut came = vec![0; MUCH + skipped];
            let reading = async {
                hears.read_exact(&mut came).await.expect("all of it");
                assert_eq!(hears.read(&mut [0]).await.expect("the end"), 0, "{kinds:?}");
                hears
            };
            let (mut speaks, mut hears) = tokio::join!(send_all(speaks, &bytes), reading);
            assert!(came[skipped..] == bytes, "{kinds:?}");
            // The other direction goes on.
            let mut answer = Vec::new();
            let answering = async {
                hears.write_all(&bytes).await.expect("it is taken");
                hears.shutdown().await.expect("the end is passed on");
            };
            let reading = speaks.read_to_end(&mut answer);
            let ((), read) = tokio::join!(answering, reading);
            read.expect("all of it");
            let skipped = if from_near { 0 } else { 5 };
            assert!(answer[skipped..] == bytes, "{kinds:?}");
            let told = joined.told().await;
            assert_eq!(
                (told.bytes_in, told.bytes_out, told.error),
                (MUCH as u64 + 5, MUCH as u64, None),
                "{kinds:?}"
            );
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_directions_at_once() {
    let bytes = pattern(MUCH);
    each(async |world, joined, kinds| {
        let (near, far) = joined.pair(world, b"", None).await;
        let (mut read, mut write) = split(near);
        let echoing = async {
            let (mut read, mut write) = split(far);
            tokio::io::copy(&mut read, &mut write).await.expect("it is sent back");
            write.shutdown().await.expect("the end is passed on");
        };
        let writing = async {
            write.write_all(&bytes).await.expect("it is taken");
            write.shutdown().await.expect("the end is passed on");
        };
        let mut back = Vec::new();
        let (_, (), ()) = tokio::join!(read.read_to_end(&mut back), writing, echoing);
        assert!(back == bytes, "{kinds:?}");
        let told = joined.told().await;
        assert_eq!((told.bytes_in, told.bytes_out), (MUCH as u64, MUCH as u64), "{kinds:?}");
    })
    .await;
}

/// A byte at a time for a while, with the smallest window that there is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_gets_everything() {
    let bytes = pattern(MUCH);
    each(async |world, joined, kinds| {
        let (mut near, far) = joined.pair(world, b"", None).await;
        let reading = async {
            let mut came = vec![0; MUCH];
            let (begin, rest) = came.split_at_mut(1 << 20);
            near.read_exact(begin).await.expect("what comes first");
            if let End::Tcp(socket) = &near {
                set_socket_recv_buffer_size(socket, 1).expect("the smallest there is");
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
            let (slow, rest) = rest.split_at_mut(3000);
            for byte in slow.chunks_mut(1) {
                near.read_exact(byte).await.expect("a byte");
            }
            if let End::Tcp(socket) = &near {
                set_socket_recv_buffer_size(socket, 1 << 20).expect("more again");
            }
            near.read_exact(rest).await.expect("the rest");
            assert_eq!(near.read(&mut [0]).await.expect("the end"), 0);
            (near, came)
        };
        let (far, (mut near, came)) = tokio::join!(send_all(far, &bytes), reading);
        assert!(came == bytes, "{kinds:?}");
        near.shutdown().await.expect("the end");
        drop(far);
        let told = joined.told().await;
        assert_eq!((told.bytes_out, told.error), (MUCH as u64, None), "{kinds:?}");
    })
    .await;
}

/// What is still in the pipe when copying begins again, as pieces have become small, comes first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_pieces_behind_large_ones_do_not_overtake() {
    let world = World::built_in();
    let bytes = pattern(400_000);
    let sockets = [Kind::Tcp, Kind::Unix];
    for (front, back) in sockets.into_iter().flat_map(|front| sockets.map(|back| (front, back))) {
        let mut joined = Joined::new(&world, front, back).await;
        let (mut near, mut far) = joined.pair(&world, b"", None).await;
        let (large, small) = bytes.split_at(200_000);
        let writing = async {
            near.write_all(large).await.expect("it is taken");
            for piece in small.chunks(150) {
                near.write_all(piece).await.expect("it is taken");
            }
            near.shutdown().await.expect("the end is passed on");
        };
        let reading = async {
            let mut came = vec![0; bytes.len()];
            tokio::time::sleep(Duration::from_millis(50)).await;
            // So slowly that there is never much room.
            for piece in came.chunks_mut(1000) {
                far.read_exact(piece).await.expect("bytes");
                tokio::time::sleep(Duration::from_micros(100)).await;
            }
            came
        };
        let ((), came) = in_time(async { tokio::join!(writing, reading) }).await;
        assert!(came == bytes, "{front:?} {back:?}");
        drop(far);
        in_time(joined.told()).await;
        joined.end().await;
    }
}

/// While bytes move, and while they are stuck, as the other side reads nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_is_passed_on() {
    let bytes = pattern(1 << 20);
    each(async |world, joined, (front, back)| {
        for (from_near, stuck) in [(true, false), (true, true), (false, false), (false, true)] {
            let (near, far) = joined.pair(world, b"", None).await;
            let (mut speaks, mut hears) = if from_near { (near, far) } else { (far, near) };
            let (gone, left) = if from_near { (front, back) } else { (back, front) };
            let mut buf = vec![0; 256 * 1024];
            let mut came = 0;
            // Until nothing goes any more; the other side takes nothing after the first four pieces.
            let sending = async {
                for _ in 0..64 {
                    let write = speaks.write_all(&bytes);
                    if tokio::time::timeout(Duration::from_millis(300), write).await.is_err() {
                        return;
                    }
                    if !stuck {
                        break;
                    }
                }
            };
            let reading = async {
                while came < 1 << 20 {
                    came += hears.read(&mut buf).await.expect("bytes");
                }
            };
            tokio::join!(sending, reading);
            speaks.cut();
            let ended = loop {
                match hears.read(&mut buf).await {
                    Ok(0) => break Ok(()),
                    Ok(count) => came += count,
                    Err(error) => break Err(error.kind()),
                }
            };
            let what = format!("{front:?} {back:?} {from_near} {stuck} after {came}: {ended:?}");
            match left {
                // Only the end can be told on it.
                Kind::Unix => {}
                // The other's end was one.
                _ if gone == Kind::Unix => assert_eq!(ended, Ok(()), "{what}"),
                Kind::Tls => assert!(ended.is_err(), "{what}"),
                _ => assert_eq!(ended, Err(io::ErrorKind::ConnectionReset), "{what}"),
            }
            drop(hears);
            let told = joined.told().await;
            assert!(told.error.is_some() || gone == Kind::Unix, "{what}: {told:?}");
        }
    })
    .await;
}
