//! Urgent data (`MSG_OOB`), which no relay passes on: what comes before and behind it is.

use std::net::{Shutdown, TcpStream as StdStream};
use std::time::Duration;

use rustix::net::{SendFlags, send};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::joined::{End, Joined, Kind};
use crate::support::{World, in_time};

/// So much that the kernel moves it.
const BULK: usize = 16 << 20;

/// Also behind it at the very end, and where nothing more comes for a while.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_behind_urgent_data_is_passed_on() {
    let world = World::built_in();
    for back in [Kind::Tcp, Kind::Unix] {
        for ends in [true, false] {
            let mut joined = Joined::new(&world, Kind::Tcp, back).await;
            let (near, mut far) = in_time(joined.pair(&world, b"first", None)).await;
            let End::Tcp(near) = near else { unreachable!("a front of TCP is a socket") };
            let near = near.into_std().expect("a socket");
            near.set_nonblocking(false).expect("a socket");
            let sending = tokio::task::spawn_blocking(move || send_urgent(near, ends));
            let mut came = 0;
            let mut buf = vec![0; 1 << 20];
            let all = 5 + BULK + 300_000;
            while came < all {
                let count = in_time(far.read(&mut buf)).await.expect("bytes");
                assert!(count > 0, "{back:?}: it ends after {came} bytes of {all}");
                came += count;
            }
            let near = sending.await.expect("it sends");
            far.shutdown().await.expect("half");
            drop(near);
            assert_eq!(in_time(far.read(&mut buf)).await.expect("the end"), 0);
            assert_eq!(in_time(joined.told()).await.bytes_in, all as u64);
            joined.end().await;
        }
    }
}

/// All of it but for one byte in the midst of it, and the end.
fn send_urgent(mut near: StdStream, ends: bool) -> StdStream {
    use std::io::Write;
    near.write_all(&vec![1; BULK]).expect("it is taken");
    assert_eq!(send(&near, b"!", SendFlags::OOB), Ok(1));
    near.write_all(&vec![2; 300_000]).expect("it is taken");
    if ends {
        near.shutdown(Shutdown::Write).expect("half");
    } else {
        std::thread::sleep(Duration::from_millis(100));
    }
    near
}
