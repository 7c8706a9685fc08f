//! Ours with its streams from plugins in files, beside itself with those that are built in.

use std::fs;
use std::path::Path;
use std::process::Child;

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
    let start = |name, loaded: bool, server: &dyn Fn(u16) -> String| {
        let place = bench.place(1);
        let server = server(place.port);
        let processes = vec![forward(&bench.endpoints, &place, loaded.then_some(plugins.as_path()), &server)];
        Relay::new(name, place, processes, false)
    };
    let relays = [
        start("built in", false, &tcp),
        start("built in again", false, &tcp),
        start("by descriptor", true, &tcp),
        start("wrapped", true, &pass),
    ];
    print_head("ours, through a .so", &relays);
    println!("{:>48}", "ratios to built in");
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

fn forward(program: &Path, place: &Place, plugins: Option<&Path>, server: &str) -> Child {
    let mut command = command(program, place);
    command.args(["forward", "--workers", "1", "--no-default-plugin-path"]);
    if let Some(folder) = plugins {
        command.arg("--no-built-in").arg("--plugin-path").arg(folder);
    }
    command.arg(server).arg(format!("tcp:127.0.0.1:{}", place.backend));
    command.spawn().expect("it starts")
}

fn measure(bench: &Bench, relays: &[Relay], row: &Row<'_>) {
    let samples = row.samples(relays, bench.quick);
    let medians: Vec<_> = samples.iter().cloned().map(summary).collect();
    print_row(row.name, row.unit, &medians);
    for sample in &samples[1..] {
        // Round by round, so that what the machine does meanwhile concerns both.
        let ratios = sample.iter().zip(&samples[0]).map(|(sample, first)| sample / first).collect();
        let (ratio, spread) = summary(ratios).expect("rounds");
        print!("{:>16}", format!("{ratio:.3} ± {spread:.3}"));
    }
    println!();
}
