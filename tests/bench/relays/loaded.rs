//! Ours with its streams from plugins in files, beside itself with those that are built in, moving bytes and copying them.

use std::fs;
use std::path::Path;
use std::process::{Child, Command};

use crate::Bench;
use crate::peers::command;
use crate::relay::{Place, Relay};
use crate::table::{Needs, Prepare, Row, print_head, print_row, summary};
use crate::work::Way;

pub(crate) fn run(bench: &Bench) {
    let names = [
        "through a .so: bulk up",
        "through a .so: bulk down",
        "through a .so: ping-pong",
        "through a .so: connect",
    ];
    if !names.iter().any(|name| bench.wants(name)) {
        return;
    }
    let Some(folder) = &bench.plugins else {
        println!("\nthrough a .so: not measured, for want of --plugins DIR");
        return;
    };
    // Hosts load nothing from a folder that others may write to, as that of a build may be.
    let plugins = bench.folder.join("plugins");
    fs::create_dir(&plugins).expect("a folder");
    for name in ["plugin_tcp", "fixture_pass"] {
        let file = format!("libendpoints_{name}.so");
        let from = folder.join(&file);
        fs::copy(&from, plugins.join(&file)).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    }
    let tcp = |port: u16| format!("tcp:{port}:interface=127.0.0.1");
    let pass = |port: u16| format!("pass:tcp\\:{port}\\:interface\\=127.0.0.1");
    let start = |name, begin: fn(&Path, &Place) -> Command, loaded: bool, server: &dyn Fn(u16) -> String| {
        let place = bench.place(1);
        let server = server(place.port);
        let command = begin(&bench.endpoints, &place);
        let processes = vec![forward(command, &place, loaded.then_some(plugins.as_path()), &server)];
        Relay::new(name, place, processes, false)
    };
    let relays = [
        start("built in", command, false, &tcp),
        start("built in again", command, false, &tcp),
        start("by descriptor", command, true, &tcp),
        start("built in, copying", copying, false, &tcp),
        start("wrapped", command, true, &pass),
    ];
    print_head("ours, through a .so", &relays);
    for (name, ..) in RATIOS {
        print!("{name:>20}");
    }
    println!();
    let row = |name, unit, rounds, prepare: Prepare<'_>| {
        if bench.wants(name) {
            measure(bench, &relays, &Row { name, unit, rounds, needs: Needs::Nothing, prepare });
        }
    };
    row(names[0], "s/GB", 9, Box::new(|relay| bench.bulk(relay.front(), 1, Way::Up)));
    row(names[1], "s/GB", 9, Box::new(|relay| bench.bulk(relay.front(), 1, Way::Down)));
    row(names[2], "µs", 15, Box::new(|relay| bench.ping_pong(&relay.front(), 1)));
    row(names[3], "µs", 15, Box::new(|relay| bench.connects(relay.front())));
}

/// What is printed as the ratio of one of the relays to another.
const RATIOS: [(&str, usize, usize); 5] = [
    ("again/built in", 1, 0),
    ("descriptor/built in", 2, 0),
    ("copying/built in", 3, 0),
    ("wrapped/built in", 4, 0),
    ("wrapped/copying", 4, 3),
];

/// Without /proc, a relay cannot know whether splice(2) may end it by SIGPIPE, and copies, as it does for a wrapped stream.
fn copying(program: &Path, place: &Place) -> Command {
    let mut command = command(Path::new("unshare"), place);
    command.args(["--mount", "sh", "-c", "mount -t tmpfs tmpfs /proc && exec \"$@\"", "sh"]).arg(program);
    command
}

fn forward(mut command: Command, place: &Place, plugins: Option<&Path>, server: &str) -> Child {
    command.args(["forward", "--workers", "1", "--no-default-plugin-path"]);
    if let Some(folder) = plugins {
        command.arg("--no-built-in").arg("--plugin-path").arg(folder);
    }
    command.arg(server).arg(format!("tcp:127.0.0.1:{}", place.backend));
    command.spawn().expect("it starts")
}

fn measure(bench: &Bench, relays: &[Relay; 5], row: &Row<'_>) {
    let samples = row.samples(relays, bench.quick);
    let medians: Vec<_> = samples.iter().cloned().map(summary).collect();
    print_row(row.name, row.unit, &medians);
    for (_, one, other) in RATIOS {
        // Round by round, so that what the machine does meanwhile concerns both.
        let ratios = samples[one].iter().zip(&samples[other]).map(|(one, other)| one / other).collect();
        let (ratio, spread) = summary(ratios).expect("rounds");
        print!("{:>20}", format!("{ratio:.3} ± {spread:.3}"));
    }
    println!();
    if row.unit == "s/GB" {
        let splice = relays.each_ref().map(Relay::has_pipes);
        assert_eq!(splice, [true, true, true, false, false], "who moves bytes through pipes");
    }
}
