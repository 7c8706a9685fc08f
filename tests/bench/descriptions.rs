//! Parsing, and making endpoints.

use std::hint::black_box;
use std::time::Instant;

use endpoints::{Description, Registry};

use crate::Plugins;
use crate::measure::{Table, median};

const TYPICAL: &str = "tcp:host=example.com:port=80:timeout=15";

pub(crate) fn run(quick: bool, plugins: &Plugins) {
    let (rounds, count) = if quick { (5, 2_000) } else { (51, 20_000) };
    let mut texts: Vec<(String, &str)> = [
        TYPICAL,
        "tcp:80",
        r"tls:awesome.site.example.com:443:endpoint=tcp\:7.6.5.4\:443",
        r"unix:/var/run/web.sock:mode=660:lockfile=1",
    ]
    .map(|text| (text.chars().take(34).collect(), text))
    .into();
    let parse =
        |text: &mut &str| per_operation(count, || drop(black_box(Description::parse(black_box(*text)))));
    let table = Table::measure("parse a description (target 250 ns)", "ns", rounds, &mut texts, parse);
    table.print(&[]);

    let make = |registry: &Registry, text: &'static str| {
        let registry = registry.clone();
        let made = registry.client(text);
        made.unwrap_or_else(|error| panic!("{text}: {error}"));
        move || drop(black_box(registry.client(black_box(text))))
    };
    let (built_in, loaded) = (plugins.built_in(), plugins.loaded());
    let nested = r"socks5:host=example.com:port=80:proxy=tcp\:127.0.0.1\:1080";
    let mut makers: Vec<(String, Box<dyn FnMut()>)> = vec![
        ("tcp, built in".into(), Box::new(make(&built_in, TYPICAL))),
        ("tcp, from a .so".into(), Box::new(make(&loaded, TYPICAL))),
        ("socks5 around tcp, from .so".into(), Box::new(make(&loaded, nested))),
    ];
    let count = count / 10;
    let table = Table::measure(
        "description to endpoint and back, plugin loaded (target 2,000 ns)",
        "ns",
        rounds,
        &mut makers,
        |make| per_operation(count, &mut *make),
    );
    table.print(&[]);

    let loads: Vec<f64> = (0..rounds)
        .map(|_| {
            let registry = plugins.loaded();
            let begun = Instant::now();
            drop(black_box(registry.client(TYPICAL)));
            begun.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    println!(
        "\nfirst endpoint of a new registry with 5 .so files (index, check, load): {:.0} µs",
        median(loads)
    );
}

/// Nanoseconds an operation.
pub(crate) fn per_operation(count: u32, mut operation: impl FnMut()) -> f64 {
    let begun = Instant::now();
    for _ in 0..count {
        operation();
    }
    begun.elapsed().as_secs_f64() * 1e9 / f64::from(count)
}
