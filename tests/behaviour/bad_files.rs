//! Files that are no sound plugins: each is refused with its reason, and the others work.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use endpoints::{ErrorKind, PluginState, Refusal, RefusalKind, Registry};

use crate::support::{built, copy, file_name, files, folder_with, is_root, skip};
use endpoints_tests::object::{in_record, patched, replaced, write};

const TCP: &str = "endpoints_plugin_tcp";
const PASS: &str = "endpoints_fixture_pass";
const SOUND: &str = "endpoints_plugin_unix";

/// Makes a bad file beside a sound one; the registry says why it does not use it, and works.
async fn refusal(make: impl FnOnce(&Path)) -> Refusal {
    let folder = folder_with(&[SOUND]);
    let bad = folder.path().join("bad.so");
    make(&bad);
    let registry = files(&[folder.path()]);
    let listed = registry.plugins().into_iter().find(|plugin| plugin.origin.path() == Some(&bad));
    let PluginState::Refused(refusal) = listed.expect("it is listed").state else {
        panic!("it is not refused")
    };
    assert!(!refusal.message.is_empty() && !refusal.message.contains('\n'), "{refusal}");
    let inspected = match registry.inspect_file(&bad) {
        Ok(plugins) => match plugins.into_iter().next().expect("a plugin").state {
            PluginState::Refused(refusal) => refusal,
            state => panic!("{state:?}"),
        },
        Err(refusal) => refusal,
    };
    assert_eq!(inspected.kind, refusal.kind, "seen by itself it is as bad");
    // What to do about what is no file depends on who named it.
    if refusal.kind != RefusalKind::Io {
        assert_eq!(inspected, refusal);
    }
    let error = registry.client("tcp:h:80").expect_err("nobody provides it");
    assert!(matches!(error.kind(), ErrorKind::UnknownScheme | ErrorKind::PluginRefused), "{error}");
    assert!(error.message().contains(&refusal.message), "{error} does not say: {refusal}");
    still_works(&registry, folder.path()).await;
    refusal
}

async fn still_works(registry: &Registry, folder: &Path) {
    let socket = format!("unix:{}/socket", folder.display());
    let server = registry.server(socket.as_str()).expect("unix");
    let listener = server.listen().await.expect("listen");
    registry.client(socket).expect("unix").connect().await.expect("connect");
    listener.close().await.expect("close");
}

/// The refusal of a changed tcp plugin.
async fn of(change: impl FnOnce(Vec<u8>) -> Vec<u8>) -> Refusal {
    refusal(|file| patched(TCP, file, change)).await
}

async fn of_bytes(bytes: &[u8]) -> Refusal {
    refusal(|file| write(file, bytes)).await
}

fn assert_refused(refusal: &Refusal, kind: RefusalKind, mention: &str) {
    assert_eq!(refusal.kind, kind, "{refusal}");
    assert!(refusal.message.contains(mention), "{mention:?} is not in: {refusal}");
}

#[tokio::test]
async fn what_is_no_object() {
    assert_refused(&of_bytes(b"").await, RefusalKind::NotAnObject, "no shared object");
    assert_refused(&of_bytes(b"\x7fELF").await, RefusalKind::NotAnObject, "no shared object");
    assert_refused(
        &of_bytes(b"#!/bin/sh\necho a script\n").await,
        RefusalKind::NotAnObject,
        "no shared object",
    );
    assert_refused(&of_bytes(&[b'x'; 100_000]).await, RefusalKind::NotAnObject, "no shared object");
}

#[tokio::test]
async fn what_is_no_file() {
    let directory = refusal(|file| fs::create_dir(file).expect("a directory")).await;
    assert_refused(&directory, RefusalKind::Io, "regular file");
    let dangling = refusal(|file| symlink("/no/such/file", file).expect("a link")).await;
    assert_refused(
        &dangling,
        RefusalKind::Io,
        "a link to /no/such/file, which is not there: take the link away",
    );
    let in_circles = refusal(|file| symlink(file, file).expect("a link")).await;
    assert_refused(&in_circles, RefusalKind::Io, "leads back to itself: take the link away");
    let device = refusal(|file| symlink("/dev/null", file).expect("a link")).await;
    assert_refused(&device, RefusalKind::Io, "regular file");
    let fifo = |file: &Path| {
        let mode = rustix::fs::Mode::from_raw_mode(0o644);
        rustix::fs::mkfifoat(rustix::fs::CWD, file, mode).expect("a FIFO");
    };
    // Opening one waits for its other end, unless it is done with care.
    let (told, hears) = mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        told.send(runtime.block_on(refusal(fifo)))
    });
    let refused = hears.recv_timeout(Duration::from_secs(30)).expect("it does not wait");
    assert_refused(&refused, RefusalKind::Io, "regular file");
    let socket = |file: &Path| drop(std::os::unix::net::UnixListener::bind(file).expect("a socket"));
    assert_eq!(refusal(socket).await.kind, RefusalKind::Io);
}

#[test]
fn who_names_what_is_no_file_is_not_told_to_take_it_away() {
    let folder = folder_with(&[]);
    let (dangling, in_circles) = (folder.path().join("dangling.so"), folder.path().join("circle.so"));
    symlink("gone.so", &dangling).expect("a link");
    symlink(&in_circles, &in_circles).expect("a link");
    for (file, mention) in [
        (folder.path(), "it is a folder; give the file"),
        (Path::new("/dev/null"), "it is not a regular file; give the file"),
        (&folder.path().join("absent.so"), "give the path of a file that is there"),
        (&dangling, "a link to gone.so, which is not there; give the path"),
        (&in_circles, "give the path of a file that is there"),
    ] {
        let registry = Registry::builder().default_plugin_path(false).plugin_file(file).build();
        let registry = registry.expect("a registry");
        let refusal = registry.inspect_file(file).expect_err("it is no plugin");
        assert_refused(&refusal, RefusalKind::Io, mention);
        assert!(!refusal.message.contains("away"), "{refusal}");
        let listed = registry.plugins().into_iter().find(|plugin| plugin.origin.path() == Some(file));
        assert_eq!(listed.expect("it is listed").state, PluginState::Refused(refusal));
    }
}

#[test]
fn what_is_no_file_is_not_even_opened() {
    let folder = folder_with(&[]);
    let fifo = folder.path().join("bad.so");
    let mode = rustix::fs::Mode::from_raw_mode(0o644);
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, mode).expect("a FIFO");
    let (opened, hears) = mpsc::channel();
    let place = fifo.clone();
    // Who opens a FIFO to write to it waits until somebody opens it to read from it.
    let writer = thread::spawn(move || {
        let file = fs::OpenOptions::new().write(true).open(place);
        let _ = opened.send(());
        file
    });
    thread::sleep(Duration::from_millis(50));
    assert_eq!(files(&[folder.path()]).plugins().len(), 1, "it is listed");
    hears.recv_timeout(Duration::from_millis(200)).expect_err("the writer still waits");
    drop(fs::File::open(&fifo).expect("its other end"));
    writer.join().expect("no panic").expect("it is opened");
}

#[tokio::test]
async fn truncated_files() {
    let whole = fs::read(built(TCP)).expect("the plugin");
    let folder = folder_with(&[SOUND]);
    let bad = folder.path().join("bad.so");
    let lengths = (0..=20).map(|part| part * (whole.len() - 1) / 20);
    for length in lengths.chain([1, 16, 63, 64, 65, 1000, 4096, whole.len() - 1]) {
        write(&bad, &whole[..length]);
        let registry = files(&[folder.path()]);
        let refused = registry.inspect_file(&bad).expect_err("a part of a plugin");
        let kind = refused.kind;
        assert!(matches!(kind, RefusalKind::NotAnObject | RefusalKind::NoManifest), "{length}: {refused}");
        registry.client("tcp:h:80").expect_err("it is not used");
        registry.client("unix:/a").expect("another plugin");
    }
    write(&bad, &whole);
    files(&[folder.path()]).client("tcp:h:80").expect("the whole is used");
}

#[tokio::test]
async fn other_machines_and_sorts_of_files() {
    // Offsets of the ELF header: 4 class, 5 byte order, 16 type, 18 machine.
    let with = |at: usize, new: &'static [u8]| {
        move |mut bytes: Vec<u8>| {
            bytes[at..at + new.len()].copy_from_slice(new);
            bytes
        }
    };
    assert_refused(&of(with(18, &[0x08, 0])).await, RefusalKind::WrongTarget, "another machine");
    let executable = of(with(16, &[2, 0])).await;
    assert_refused(&executable, RefusalKind::NotAnObject, "another kind");
    assert_refused(&of(with(16, &[1, 0])).await, RefusalKind::NotAnObject, "");
    let class = of(with(4, &[1])).await;
    assert!(matches!(class.kind, RefusalKind::NotAnObject | RefusalKind::WrongTarget), "{class}");
    let order = of(with(5, &[2])).await;
    assert!(matches!(order.kind, RefusalKind::NotAnObject | RefusalKind::WrongTarget), "{order}");
}

#[tokio::test]
async fn objects_without_a_manifest() {
    let renamed =
        of(|bytes| replaced(bytes, ".epplugin\0", ".epplugout\0".strip_suffix('\0').unwrap_or(""), 1)).await;
    assert_refused(&renamed, RefusalKind::NoManifest, "no section");
    let unmagic = refusal(|file| patched(PASS, file, |bytes| in_record(bytes, 0, b"endpoints-plugon"))).await;
    assert_refused(&unmagic, RefusalKind::NoManifest, "no record");
    let maps = fs::read_to_string("/proc/self/maps").expect("the maps");
    let libc = maps.split_whitespace().find(|path| path.contains("/libc.so")).map(str::to_owned);
    let Some(libc) = libc else { return skip("an ordinary library", "the C library is not shared") };
    let ordinary = refusal(|file| write(file, &fs::read(libc).expect("the C library"))).await;
    assert_refused(&ordinary, RefusalKind::NoManifest, "no endpoint plugin");
}

#[tokio::test]
async fn manifests_that_make_no_sense() {
    let format = of(|bytes| in_record(bytes, 16, &2_u32.to_le_bytes())).await;
    assert_refused(&format, RefusalKind::BadManifest, "form 2");
    for length in [u32::MAX, (1 << 20) + 1, 1 << 20] {
        let absurd = of(|bytes| in_record(bytes, 20, &length.to_le_bytes())).await;
        assert_refused(&absurd, RefusalKind::BadManifest, &length.to_string());
    }
    for length in [0_u32, 10, 100] {
        let short = of(|bytes| in_record(bytes, 20, &length.to_le_bytes())).await;
        assert_refused(&short, RefusalKind::BadManifest, "manifest");
    }
    let no_json = of(|bytes| in_record(bytes, 24, b"[")).await;
    assert_refused(&no_json, RefusalKind::BadManifest, "unsound");
    let no_text = of(|bytes| in_record(bytes, 24, b"\xff")).await;
    assert_refused(&no_text, RefusalKind::BadManifest, "UTF-8");
    let scheme = of(|bytes| replaced(bytes, r#""scheme": "tcp6""#, r#""scheme": "TCP6""#, 2)).await;
    assert_refused(&scheme, RefusalKind::BadManifest, "TCP6");
    let twice = of(|bytes| replaced(bytes, r#""scheme": "tcp6""#, r#""scheme":  "tcp""#, 2)).await;
    assert_refused(&twice, RefusalKind::BadManifest, "twice");
    let kind = of(|bytes| replaced(bytes, r#""name": "timeout""#, r#""name": "tim out""#, 2)).await;
    assert_refused(&kind, RefusalKind::BadManifest, "tim out");
}

#[tokio::test]
async fn versions_and_policies() {
    let newer = of(|bytes| replaced(bytes, r#""requires":"1.0.0""#, r#""requires":"1.9.0""#, 2)).await;
    assert_refused(&newer, RefusalKind::ApiVersion, "newer host");
    let major = of(|bytes| replaced(bytes, r#""requires":"1.0.0""#, r#""requires":"9.9.9""#, 2)).await;
    assert_refused(&major, RefusalKind::ApiVersion, "9.9.9");
    let api = of(|bytes| replaced(bytes, r#""api":"1.0.0""#, r#""api":"2.0.0""#, 2)).await;
    assert_refused(&api, RefusalKind::ApiVersion, "2.0.0");
    // Of a later API, whatever else its manifest has.
    let later = |bytes| {
        let bytes = replaced(bytes, r#""api":"1.0.0""#, r#""api":"2.0.0""#, 2);
        replaced(bytes, r#""name": "timeout""#, r#""name": "tim out""#, 2)
    };
    assert_refused(&of(later).await, RefusalKind::ApiVersion, "2.0.0");

    let abort = |bytes| replaced(bytes, r#""panic":"unwind""#, r#""panic":"abort" "#, 2);
    assert_refused(&of(abort).await, RefusalKind::PanicPolicy, "panic");
    let folder = folder_with(&[]);
    patched(TCP, &folder.path().join("abort.so"), abort);
    let allowed = Registry::builder().no_built_in().default_plugin_path(false).plugin_path(folder.path());
    let allowed = allowed.allow_abort(true).build().expect("a registry");
    allowed.client("tcp:h:80").expect("it is allowed");
}

#[tokio::test]
async fn entries_that_are_missing() {
    // In the manifest alone: the symbol itself is kept.
    let named = |entry: &str| format!(r#""entry":"endpoints_plugin_v1_{entry}""#);
    let missing =
        of(|bytes| replaced(bytes, &named("endpoints_plugin_tcp"), &named("endpoints_plugin_tcq"), 2)).await;
    assert_refused(&missing, RefusalKind::NoEntry, "endpoints_plugin_v1_endpoints_plugin_tcq");
}

#[tokio::test]
async fn an_object_that_cannot_be_loaded() {
    // Its listing is sound; what it needs is not there.
    let folder = folder_with(&[SOUND]);
    let bad = folder.path().join("bad.so");
    patched(PASS, &bad, |bytes| replaced(bytes, "\0libc.so.6\0", "\0libz.so.9\0", 1));
    let registry = files(&[folder.path()]);
    assert!(registry.plugins().iter().all(|plugin| plugin.state == PluginState::Available));
    let error = registry.client(r"pass:unix\:/a").expect_err("the dynamic loader refuses it");
    assert_eq!(error.kind(), ErrorKind::PluginRefused, "{error}");
    assert!(error.message().contains("libz.so.9"), "{error}");
    assert_eq!(error.span(), None, "nothing in the description is wrong: {error}");
    still_works(&registry, folder.path()).await;
}

#[tokio::test]
async fn a_manifest_that_is_not_the_plugins_own() {
    // The record says something else than what is loaded does.
    let folder = folder_with(&[SOUND]);
    patched(TCP, &folder.path().join("bad.so"), |bytes| in_record(bytes, 24, b"{ \"build\":{\"nam"));
    let refused = files(&[folder.path()]);
    refused.client("tcp:h:80").expect_err("its manifest is damaged");
    patched(TCP, &folder.path().join("bad.so"), |bytes| {
        // Where the name stands in the record: 24 of the head, 17 of the text.
        in_record(bytes, 24 + 18, b"fndpoints")
    });
    let registry = files(&[folder.path()]);
    let error = registry.client("tcp:h:80").expect_err("two manifests");
    assert_eq!(error.kind(), ErrorKind::PluginRefused, "{error}");
    assert!(error.message().contains("manifest"), "{error}");
    still_works(&registry, folder.path()).await;
}

#[tokio::test]
async fn files_that_others_could_have_written() {
    let with_mode = |mode: u32| {
        move |file: &Path| {
            copy(TCP, file);
            fs::set_permissions(file, fs::Permissions::from_mode(mode)).expect("its mode");
        }
    };
    assert_refused(&refusal(with_mode(0o757)).await, RefusalKind::Untrusted, "everybody");
    assert_refused(&refusal(with_mode(0o646)).await, RefusalKind::Untrusted, "everybody");
    assert_refused(&refusal(with_mode(0o775)).await, RefusalKind::Untrusted, "its group");
    // Through a link it is the file that counts.
    let elsewhere = folder_with(&[TCP]);
    let target = elsewhere.path().join(file_name(TCP));
    fs::set_permissions(elsewhere.path(), fs::Permissions::from_mode(0o777)).expect("its mode");
    let linked = refusal(|file| symlink(&target, file).expect("a link")).await;
    assert_refused(&linked, RefusalKind::Untrusted, "everybody");

    if !is_root() {
        return skip("files of other users", "only root can give a file away");
    }
    let foreign = refusal(|file| {
        copy(TCP, file);
        chown(file, Some(65_534), None).expect("chown");
    });
    assert_refused(&foreign.await, RefusalKind::Untrusted, "65534");
    chown(elsewhere.path(), Some(65_534), None).expect("chown");
    fs::set_permissions(elsewhere.path(), fs::Permissions::from_mode(0o755)).expect("its mode");
    let linked = refusal(|file| symlink(&target, file).expect("a link")).await;
    assert_refused(&linked, RefusalKind::Untrusted, "65534");
}

/// What becomes of a sound plugin in a folder of this mode, which lies in another of that mode.
fn in_folders(inner: u32, outer: u32) -> PluginState {
    let folder = tempfile::tempdir().expect("a folder");
    let nested = folder.path().join("plugins");
    fs::create_dir(&nested).expect("a folder");
    copy(TCP, &nested.join("tcp.so"));
    fs::set_permissions(&nested, fs::Permissions::from_mode(inner)).expect("its mode");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(outer)).expect("its mode");
    files(&[&nested]).plugins().remove(0).state
}

#[test]
fn folders_that_others_could_have_written() {
    let untrusted = |state: PluginState| match state {
        PluginState::Refused(refusal) => {
            assert_eq!(refusal.kind, RefusalKind::Untrusted, "{refusal}");
            refusal.message
        }
        state => panic!("{state:?}"),
    };
    assert_eq!(in_folders(0o755, 0o755), PluginState::Available);
    assert_eq!(in_folders(0o700, 0o750), PluginState::Available);
    assert!(untrusted(in_folders(0o775, 0o755)).contains("its group"));
    assert!(untrusted(in_folders(0o757, 0o755)).contains("everybody"));
    assert!(untrusted(in_folders(0o755, 0o775)).contains("its group"));
    assert!(untrusted(in_folders(0o755, 0o777)).contains("everybody"));
    // A sticky folder is fine on the way, where it is root's, and not as the plugin's own.
    assert!(untrusted(in_folders(0o1777, 0o755)).contains("move the plugin"));
    assert!(untrusted(in_folders(0o755, 0o777)).contains("take that right away"));
    if is_root() {
        assert_eq!(in_folders(0o755, 0o1777), PluginState::Available);
    }
    assert_eq!(
        in_folders(0o755, 0o760),
        PluginState::Available,
        "nobody can write without the right to search"
    );
}
