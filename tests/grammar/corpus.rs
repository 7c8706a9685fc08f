//! The seeds of the fuzz target obey its laws. What a fuzzer finds becomes a seed, and so stays tested.

use std::fs;

use endpoints_tests::laws;

#[test]
fn the_seeds_obey_the_laws() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/parse");
    let mut seeds = 0;
    for entry in fs::read_dir(folder).expect("the seeds") {
        let path = entry.expect("an entry").path();
        // Shown when the laws panic, since the test fails then.
        println!("{}", path.display());
        laws::grammar::check(&fs::read(path).expect("a seed"));
        seeds += 1;
    }
    assert!(seeds >= 30, "only {seeds} seeds");
}
