//! No allocation per read or write in steady state, counted for the whole process: host, plugins from `.so` files and
//! the C library alike.
//!
//! A program of its own without a test harness, whose threads would be counted too.
#![expect(unsafe_code, reason = "an instrument that stands in front of the C library's allocator")]

use std::ffi::c_void;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use endpoints::{Connection, Registry};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

static COUNT: AtomicU64 = AtomicU64::new(0);

unsafe extern "C" {
    fn __libc_malloc(size: usize) -> *mut c_void;
    fn __libc_calloc(count: usize, size: usize) -> *mut c_void;
    fn __libc_realloc(block: *mut c_void, size: usize) -> *mut c_void;
    fn __libc_memalign(alignment: usize, size: usize) -> *mut c_void;
}

/// Stands in front of the C library's function of that name, for shared objects too.
#[unsafe(no_mangle)]
extern "C" fn malloc(size: usize) -> *mut c_void {
    COUNT.fetch_add(1, Ordering::Relaxed);
    // SAFETY: the C library's own function behind its public name.
    unsafe { __libc_malloc(size) }
}

/// As `malloc`.
#[unsafe(no_mangle)]
extern "C" fn calloc(count: usize, size: usize) -> *mut c_void {
    COUNT.fetch_add(1, Ordering::Relaxed);
    // SAFETY: the C library's own function behind its public name.
    unsafe { __libc_calloc(count, size) }
}

/// As `malloc`.
///
/// # Safety
/// As realloc(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn realloc(block: *mut c_void, size: usize) -> *mut c_void {
    COUNT.fetch_add(1, Ordering::Relaxed);
    // SAFETY: the C library's own function behind its public name, with what the caller gives.
    unsafe { __libc_realloc(block, size) }
}

/// As `malloc`.
///
/// # Safety
/// As posix_memalign(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn posix_memalign(out: *mut *mut c_void, alignment: usize, size: usize) -> i32 {
    COUNT.fetch_add(1, Ordering::Relaxed);
    // SAFETY: the C library's own function; `out` is the caller's.
    unsafe {
        *out = __libc_memalign(alignment, size);
        if (*out).is_null() { 12 } else { 0 }
    }
}

/// How often anything was allocated while `rounds` round trips of `size` bytes went through `near` and `far`.
async fn allocations(near: &mut Connection, far: &mut Connection, size: usize, rounds: u32) -> u64 {
    let mut bytes = vec![7; size];
    let before = COUNT.load(Ordering::Relaxed);
    for _ in 0..rounds {
        // Both wait for each other, so that reads are pending first, wakers are kept, and tasks are woken.
        let (sent, received) = tokio::join!(near.write_all(&bytes), async {
            let mut byte = [0; 64];
            let mut left = size;
            while left > 0 {
                let most = left.min(byte.len());
                left -= far.read(&mut byte[..most]).await?;
            }
            far.write_all(b"k").await
        });
        sent.expect("the far end reads");
        received.expect("the near end writes");
        near.read_exact(&mut bytes[..1]).await.expect("the far end answers");
    }
    COUNT.load(Ordering::Relaxed) - before
}

fn main() {
    // The instrument works: a vector is counted.
    let before = COUNT.load(Ordering::Relaxed);
    drop(std::hint::black_box(vec![1_u8; 100]));
    assert!(COUNT.load(Ordering::Relaxed) > before, "the counter does not stand in front of malloc");

    let executable = std::env::current_exe().unwrap();
    let profile: PathBuf = executable.ancestors().nth(2).unwrap().to_owned();
    let folder = tempfile::tempdir().unwrap();
    for name in ["plugin_tcp", "fixture_pass"] {
        let file = format!("libendpoints_{name}.so");
        std::fs::copy(profile.join(&file), folder.path().join(&file))
            .unwrap_or_else(|error| panic!("{file}: {error}; run `cargo build --workspace` first"));
    }
    let registry = || Registry::builder().default_plugin_path(false).plugin_path(folder.path());
    let forms =
        [("built in", registry().build().unwrap()), ("loaded", registry().no_built_in().build().unwrap())];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for (form, registry) in forms {
        let mut server = "tcp:0:127.0.0.1".to_owned();
        for layers in 0..=2 {
            runtime.block_on(async {
                let listener = registry.server(&server).unwrap().listen().await.unwrap();
                let client = registry.client(listener.reachable().remove(0)).unwrap();
                let (near, far) =
                    tokio::join!(client.connect(), async { listener.accept().await.unwrap().await });
                let (mut near, mut far) = (near.unwrap(), far.unwrap());
                assert_eq!(near.is_socket(), layers == 0);
                for size in [64, 16 * 1024] {
                    // Before the steady state: wakers are kept, and the runtime makes its own queues, for the first time.
                    allocations(&mut near, &mut far, size, 200).await;
                    let counted = allocations(&mut near, &mut far, size, 1_000).await;
                    assert_eq!(counted, 0, "{form}, {layers} layers, {size} bytes, 1,000 round trips");
                }
            });
            server = format!("pass:endpoint={}", endpoints::quote_str(&server));
        }
    }
    println!("no allocation for reading and writing: built in and loaded, with 0 to 2 layers");
}
