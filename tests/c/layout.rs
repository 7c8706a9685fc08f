//! The layouts that a C compiler makes of the header, against those in Rust.
#![expect(unsafe_code, reason = "looks at the words of a value whose fields are private")]

use std::collections::BTreeMap;
use std::fs;
use std::mem::offset_of;
use std::process::Command;

use endpoints_plugin_api::abi;
use endpoints_tests::c::{compiler, headers};

/// A structure: its size, and where each field begins and how long it is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) size: usize,
    pub(crate) fields: Vec<(String, usize, usize)>,
}

fn size_of_field<T, F>(_: fn(&T) -> &F) -> usize {
    size_of::<F>()
}

/// The layouts of structures in Rust, by their names in C.
macro_rules! layouts {
    ($($c:literal: $rust:ty { $($field:ident),* })*) => {
        BTreeMap::from([$(($c.to_owned(), Layout {
            size: size_of::<$rust>(),
            fields: vec![$((
                stringify!($field).to_owned(),
                offset_of!($rust, $field),
                size_of_field(|value: &$rust| &value.$field),
            )),*],
        })),*])
    };
}

/// The layouts in Rust.
pub(crate) fn in_rust() -> BTreeMap<String, Layout> {
    let mut all = layouts! {
        "slice": abi::bytes::RSlice { ptr, len }
        "error": abi::error::RError { kind, os, retry, reserved, message, argument }
        "waker": abi::context::RWaker { data, aux, vtable }
        "waker_vt": abi::context::RWakerVTable { size, clone, wake_by_ref, drop }
        "context": abi::context::RContext { size, waker }
        "future": abi::future::RFuture { data, vt }
        "future_vt": abi::future::FutureVt { size, poll, drop }
        "unit": abi::future::RUnit { size, error }
        "bytes_result": abi::future::RBytesResult { size, error, bytes }
        "io_poll": abi::io::IoPoll { tag, val }
        "stream": abi::stream::RStream { data, vt }
        "stream_vt": abi::stream::StreamVt {
            size, owner, vectored, poll_read, poll_write, poll_write_vectored, poll_flush, poll_shutdown, facts,
            take_error, drop
        }
        "conn": abi::conn::RConn { size, kind, inherited, fd, error, facts, leftover, stream, handshake }
        "endpoint": abi::endpoint::REndpoint { data, vt }
        "endpoint_vt": abi::endpoint::EndpointVt { size, connect, listen, describe, drop }
        "connect_context": abi::endpoint::RConnectContext { size, time_left, origin }
        "listen_context": abi::endpoint::RListenContext { size }
        "endpoint_result": abi::endpoint::REndpointResult { size, error, endpoint }
        "listener": abi::listener::RListener { data, vt }
        "listener_vt": abi::listener::ListenerVt {
            size, poll_accept, addresses, reachable, take_socket, close, drop
        }
        "listen": abi::listener::RListen { size, error, listener }
        "host": abi::host::RHost { data, vt }
        "host_vt": abi::host::HostVt {
            size, retain, release, endpoint, finish_connect, adopt, watch, sleep, spawn, spawn_blocking, resolve,
            log_enabled, log
        }
        "readiness": abi::host::RReadiness { data, vt }
        "readiness_vt": abi::host::ReadinessVt { size, poll_io, drop }
        "readiness_result": abi::host::RReadinessResult { size, error, readiness }
        "argument": abi::module::RArgument { size, name, value, number, given, reserved, endpoint }
        "plugin_vt": abi::module::PluginVt { size, endpoint, drop }
        "created": abi::module::RCreated { size, error, data, vt }
        "entry": abi::entry::REntry { size, abi, reserved, record, create }
    };
    all.insert("bytes".to_owned(), bytes());
    all
}

/// The layout of `RBytes`, whose fields are private: seen in a value.
fn bytes() -> Layout {
    let vector = Vec::from(*b"some bytes");
    let (len, capacity, ptr) = (vector.len(), vector.capacity(), vector.as_ptr().addr());
    let value = abi::bytes::RBytes::from(vector);
    const { assert!(size_of::<abi::bytes::RBytes>() == size_of::<[usize; 4]>()) };
    // SAFETY: four words, each of which is initialised.
    let words: [usize; 4] = unsafe { std::mem::transmute_copy(&value) };
    assert_eq!(size_of_val(&words), size_of_val(&value));
    assert_eq!(words[..3], [ptr, len, capacity]);
    let word = size_of::<usize>();
    let fields = ["ptr", "len", "capacity", "free"].into_iter().enumerate();
    Layout { size: 4 * word, fields: fields.map(|(at, name)| (name.to_owned(), at * word, word)).collect() }
}

/// The names of the structures of the header, with the names of their fields.
fn declared() -> Vec<(String, Vec<String>)> {
    let header = fs::read_to_string(headers().join("endpoints_plugin.h")).expect("the header");
    let mut structures: Vec<(String, Vec<String>)> = Vec::new();
    let (mut inside, mut depth) = (false, 0_usize);
    for line in header.lines() {
        if let Some(name) = line.strip_prefix("struct endpoints_").and_then(|rest| rest.strip_suffix(" {")) {
            structures.push((name.to_owned(), Vec::new()));
            inside = true;
            continue;
        }
        if line == "};" {
            inside = false;
        }
        let text = line.trim();
        if !inside || text.starts_with("/*") || text.starts_with('*') {
            continue;
        }
        if depth == 0 {
            let name = match text.split_once("(*") {
                Some((_, rest)) => rest.split(')').next(),
                None => text
                    .trim_end_matches(';')
                    .split('[')
                    .next()
                    .and_then(|name| name.rsplit([' ', '*']).next()),
            };
            structures.last_mut().expect("a structure").1.push(name.expect("a field").to_owned());
        }
        // A declaration may go on over several lines.
        depth = (depth + text.matches('(').count()).saturating_sub(text.matches(')').count());
    }
    structures
}

/// The layouts as the C compiler makes them.
fn in_c() -> BTreeMap<String, Layout> {
    let mut program = "#include <stdio.h>\n#include \"endpoints_plugin.h\"\nint main(void) {\n".to_owned();
    for (structure, fields) in declared() {
        let full = format!("struct endpoints_{structure}");
        program += &format!("printf(\"{structure} %zu\\n\", sizeof({full}));\n");
        for field in fields {
            program += &format!(
                "printf(\"{structure} {field} %zu %zu\\n\", offsetof({full}, {field}), sizeof((({full} *)0)->{field}));\n"
            );
        }
    }
    program += "return 0; }\n";
    let folder = tempfile::tempdir().expect("a folder");
    let (source, binary) = (folder.path().join("layout.c"), folder.path().join("layout"));
    fs::write(&source, program).expect("a program");
    let built =
        compiler().arg("-I").arg(headers()).arg(&source).arg("-o").arg(&binary).output().expect("a compiler");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let output = Command::new(binary).output().expect("it runs");
    let mut layouts: BTreeMap<String, Layout> = BTreeMap::new();
    for line in String::from_utf8(output.stdout).expect("UTF-8").lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |word: &str| word.parse().expect("a number");
        match words[..] {
            [structure, size] => layouts.entry(structure.to_owned()).or_default().size = number(size),
            [structure, field, offset, size] => {
                let field = (field.to_owned(), number(offset), number(size));
                layouts.entry(structure.to_owned()).or_default().fields.push(field);
            }
            _ => panic!("{line}"),
        }
    }
    layouts
}

#[test]
fn structures_are_laid_out_alike() {
    let (rust, c) = (in_rust(), in_c());
    let names = |layouts: &BTreeMap<String, Layout>| layouts.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&c), names(&rust), "the structures of the header, and those of this test");
    for (name, layout) in &c {
        assert_eq!(layout, &rust[name], "{name}");
    }
}
