//! Files that are replaced while they are looked at and loaded: what runs is what was checked, or nothing does.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use endpoints::{ErrorKind, PluginState, RefusalKind, Registry};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::TempDir;

use crate::support::{built, echo, folder_with, in_time, port};
use endpoints_tests::object::{edition, write};

/// The versions of the two builds.
const FIRST: &str = "1.0.0-first.build";
const OTHER: &str = "1.0.0-other.build";

/// What another thread puts in place of the plugin, again and again.
struct Swapper {
    stop: Arc<AtomicBool>,
    swaps: Arc<AtomicUsize>,
    /// How long a look at what is swapped takes, with its loading, in microseconds.
    look: Arc<AtomicU64>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Swapper {
    fn start(mut swap: impl FnMut(usize) + Send + 'static) -> Self {
        let (stop, swaps) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let look = Arc::new(AtomicU64::new(300));
        let (stopped, counted, takes) = (Arc::clone(&stop), Arc::clone(&swaps), Arc::clone(&look));
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                swap(counted.fetch_add(1, Ordering::Relaxed));
                // About one for each look, whatever machine this is: at any of its steps, and now and then at none.
                let wait = fastrand::u64(0..=2 * takes.load(Ordering::Relaxed));
                thread::sleep(Duration::from_micros(wait));
            }
        });
        Self { stop, swaps, look, thread: Some(thread) }
    }
}

impl Drop for Swapper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking(), "the swapper panicked");
        }
    }
}

/// The sorts of files that are swapped: two builds that may be loaded, and what must not be.
fn variants(folder: &Path) -> Vec<PathBuf> {
    let place = |name: &str| folder.join(name);
    edition(FIRST, &place("first"));
    edition(OTHER, &place("other"));
    let whole = fs::read(place("first")).expect("a file");
    write(&place("truncated"), &whole[..whole.len() / 2]);
    write(&place("text"), b"no plugin at all");
    edition(OTHER, &place("open"));
    fs::set_permissions(place("open"), fs::Permissions::from_mode(0o666)).expect("its mode");
    fs::copy(built("endpoints_fixture_pass"), place("pass")).expect("another plugin");
    fs::set_permissions(place("pass"), fs::Permissions::from_mode(0o644)).expect("its mode");
    // Those that may be loaded come up most.
    [
        "first",
        "other",
        "truncated",
        "first",
        "other",
        "text",
        "first",
        "other",
        "open",
        "first",
        "other",
        "pass",
    ]
    .map(place)
    .to_vec()
}

/// How often what was seen.
#[derive(Debug, Default)]
struct Seen {
    first: usize,
    other: usize,
    changed: usize,
    refused: usize,
    absent: usize,
}

/// Lists and loads until so many plugins were loaded; each must be the one that was listed.
async fn list_and_load(folder: &Path, loads: usize, swapper: &Swapper) -> Seen {
    let tcp = Registry::builder().default_plugin_path(false).build().expect("a registry");
    let listener = tcp.server("tcp:0:interface=127.0.0.1").expect("tcp").listen().await.expect("listen");
    let client = format!(r"edition:tcp\:127.0.0.1\:{}", port(&listener));
    let echoing = tokio::spawn(async move {
        while let Ok(accepted) = listener.accept().await {
            tokio::spawn(async move { echo(accepted.await.expect("a connection")).await });
        }
    });
    let mut seen = Seen::default();
    let begun = Instant::now();
    for looks in 0.. {
        if seen.first + seen.other >= loads {
            break;
        }
        let elapsed = begun.elapsed();
        assert!(elapsed < Duration::from_secs(600), "{seen:?}");
        if let Some(mean) = elapsed.checked_div(looks) {
            swapper.look.store(mean.as_micros() as u64, Ordering::Relaxed);
        }
        // Loading and connecting here seldom wait for anything, and who accepts wants a turn.
        tokio::task::yield_now().await;
        let builder = Registry::builder().default_plugin_path(false).plugin_path(folder);
        let registry = builder.build().expect("a registry");
        for plugin in registry.plugins() {
            if let PluginState::Refused(refusal) = &plugin.state {
                let kinds = [
                    RefusalKind::Io,
                    RefusalKind::NotAnObject,
                    RefusalKind::Untrusted,
                    RefusalKind::NoManifest,
                ];
                assert!(kinds.contains(&refusal.kind), "{refusal:?}");
            }
        }
        let Ok((manifest, _)) = registry.manifest("edition") else {
            seen.absent += 1;
            continue;
        };
        let listed = manifest.build.version.to_string();
        match registry.client(client.as_str()) {
            Ok(client) => {
                let connection = in_time(client.connect()).await.expect("connect");
                let info = connection.info();
                let runs = info.fact("edition.version").map(String::from_utf8_lossy).expect("its version");
                assert_eq!(runs, listed, "what runs is not what was listed; so far {seen:?}");
                *if listed == FIRST { &mut seen.first } else { &mut seen.other } += 1;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::PluginRefused, "{error}");
                assert!(!error.message().contains('\n'), "{error}");
                let changed = error.message().contains("has changed since it was listed");
                *if changed { &mut seen.changed } else { &mut seen.refused } += 1;
            }
        }
    }
    echoing.abort();
    seen
}

/// A loaded file stays open for ever.
fn allow_many_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).expect("the hard limit");
}

fn swap_files(folder: &TempDir) -> (PathBuf, Swapper) {
    let staged = folder.path().join("staged");
    let plugins = folder.path().join("plugins");
    fs::create_dir(&staged).expect("a folder");
    fs::create_dir(&plugins).expect("a folder");
    let variants = variants(&staged);
    let (next, file) = (staged.join("next"), plugins.join("edition.so"));
    let swapper = Swapper::start(move |turn| {
        fs::hard_link(&variants[turn % variants.len()], &next).expect("another name");
        fs::rename(&next, &file).expect("rename");
        // Renaming one name of a file to another of its names does nothing.
        let _ = fs::remove_file(&next);
    });
    (plugins, swapper)
}

fn swap_folders(folder: &TempDir) -> (PathBuf, Swapper) {
    let mut targets = Vec::new();
    for (place, variant) in variants(folder.path()).into_iter().enumerate() {
        let target = folder.path().join(format!("plugins{place}"));
        fs::create_dir(&target).expect("a folder");
        fs::hard_link(variant, target.join("edition.so")).expect("another name");
        if place % 4 == 3 {
            fs::set_permissions(&target, fs::Permissions::from_mode(0o777)).expect("its mode");
        }
        targets.push(target);
    }
    let (next, link) = (folder.path().join("next"), folder.path().join("plugins"));
    let there = link.clone();
    let swapper = Swapper::start(move |turn| {
        symlink(&targets[turn % targets.len()], &next).expect("a link");
        fs::rename(&next, &link).expect("rename");
    });
    (there, swapper)
}

async fn swapped(swap: impl FnOnce(&TempDir) -> (PathBuf, Swapper), loads: usize) {
    let folder = folder_with(&[]);
    let (plugins, swapper) = swap(&folder);
    let seen = list_and_load(&plugins, loads, &swapper).await;
    let swaps = swapper.swaps.load(Ordering::Relaxed);
    println!("{swaps} swaps: {seen:?}");
    assert!(seen.first > 0 && seen.other > 0, "both builds have come up: {seen:?}");
}

#[tokio::test]
async fn files_are_swapped_while_they_are_loaded() {
    swapped(swap_files, 40).await;
}

#[tokio::test]
async fn folders_are_swapped_while_they_are_loaded() {
    swapped(swap_folders, 20).await;
}

#[tokio::test]
#[ignore = "takes a minute: the same with thousands of swaps"]
async fn files_and_folders_are_swapped_thousands_of_times() {
    allow_many_descriptors();
    swapped(swap_files, 1500).await;
    swapped(swap_folders, 1500).await;
}

#[tokio::test]
async fn an_upgrade_leaves_what_is_loaded_as_it_is() {
    let folder = folder_with(&[]);
    let file = folder.path().join("edition.so");
    let registry = || {
        let builder = Registry::builder().default_plugin_path(false).plugin_path(folder.path());
        let registry = builder.build().expect("a registry");
        let (manifest, _) = registry.manifest("edition").expect("it is listed");
        (registry, manifest.build.version.to_string())
    };
    let fact = async |registry: &Registry| {
        let server = registry.server("tcp:0:interface=127.0.0.1").expect("tcp");
        let listener = server.listen().await.expect("listen");
        let client = registry.client(format!(r"edition:tcp\:127.0.0.1\:{}", port(&listener)))?;
        let connection = client.connect().await?;
        let info = connection.info();
        Ok::<_, endpoints::Error>(info.fact("edition.version").map(<[u8]>::to_vec).expect("its version"))
    };
    edition(FIRST, &file);
    let (used, version) = registry();
    assert_eq!((version.as_str(), fact(&used).await.expect("it is used")), (FIRST, FIRST.into()));
    let (listed, _) = registry();
    edition(OTHER, &folder.path().join("next"));
    fs::rename(folder.path().join("next"), &file).expect("rename");
    assert_eq!(fact(&used).await.expect("as before"), FIRST.as_bytes());
    let error = fact(&listed).await.expect_err("it had not been loaded");
    assert!(error.message().contains("has changed since it was listed; make a new registry"), "{error}");
    let (new, version) = registry();
    assert_eq!((version.as_str(), fact(&new).await.expect("the new one")), (OTHER, OTHER.into()));
    assert_eq!(fact(&used).await.expect("still as before"), FIRST.as_bytes());
}
