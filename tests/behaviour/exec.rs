//! Programs as connections.

use std::fs;
use std::time::{Duration, Instant};

use endpoints::{Connection, ErrorKind, fact};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{World, assert_kind, both_forms, rest};

both_forms!(
    a_program_answers,
    a_program_ends_with_its_connection,
    a_program_may_finish_its_work,
    a_program_that_fails_breaks_the_connection,
    a_program_need_not_read,
    a_program_that_does_not_start,
    much_goes_through,
    many_programs_leave_nothing_behind,
    what_a_program_started_ends_with_it,
    a_program_that_cannot_be_waited_for_holds_nothing_up,
);

fn process(connection: &Connection) -> u32 {
    let info = connection.info();
    let number = info.fact(fact::PEER_PID).expect("the number of the process");
    std::str::from_utf8(number).expect("a number").parse().expect("a number")
}

/// The state of a process: `Z` for one that nobody has waited for.
fn state(process: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

async fn gone(process: u32) -> Duration {
    let begun = Instant::now();
    while let Some(state) = state(process) {
        assert!(begun.elapsed() < Duration::from_secs(20), "process {process} is still there: {state}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    begun.elapsed()
}

async fn a_program_answers(world: &World) {
    let mut sort = world.connect(r#"exec:sh -c "sort | cat -A""#).await;
    assert!(!sort.is_socket());
    sort.write_all(b"b\na b\n").await.expect("write");
    sort.shutdown().await.expect("shutdown");
    assert_eq!(rest(&mut sort).await, b"a b$\nb$\n");
    let mut pwd = world.connect("exec:pwd:directory=/usr/bin").await;
    assert_eq!(rest(&mut pwd).await, b"/usr/bin\n");
    assert_eq!(rest(&mut pwd).await, b"", "the end stays");
}

async fn a_program_ends_with_its_connection(world: &World) {
    // It neither reads nor writes, so that nothing tells it that the connection is gone.
    let sleeping = world.connect("exec:sleep 1000:grace=0.2").await;
    let number = process(&sleeping);
    assert!(matches!(state(number), Some('S' | 'R' | 'D')));
    drop(sleeping);
    assert!(gone(number).await >= Duration::from_millis(150), "it has its grace");
    // One that ends while the connection stays open is waited for.
    let mut done = world.connect("exec:true").await;
    let number = process(&done);
    gone(number).await;
    assert_eq!(rest(&mut done).await, b"");
}

async fn a_program_may_finish_its_work(world: &World) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("written");
    let program =
        format!(r#"exec:sh -c "cat > /dev/null; sleep 0.3; echo done > {}":grace=20"#, file.display());
    let mut program = world.connect(&program).await;
    let number = process(&program);
    program.write_all(b"something").await.expect("write");
    drop(program);
    gone(number).await;
    assert_eq!(fs::read_to_string(file).expect("what it wrote"), "done\n");
}

async fn a_program_that_fails_breaks_the_connection(world: &World) {
    for (program, reason) in [
        (r#"exec:sh -c "echo some; exit 3""#, "sh: exit status: 3"),
        (r#"exec:sh -c "echo some; kill -9 $$""#, "sh: signal: 9"),
    ] {
        let mut program = world.connect(program).await;
        let mut all = Vec::new();
        let error = program.read_to_end(&mut all).await.expect_err("it failed");
        assert_eq!(all, b"some\n");
        assert!(error.to_string().contains(reason), "{error}");
    }
    // Its output may end before it does.
    let mut program = world.connect(r#"exec:sh -c "echo some; exec >&-; sleep 5""#).await;
    let begun = Instant::now();
    assert_eq!(rest(&mut program).await, b"some\n");
    assert!(begun.elapsed() < Duration::from_secs(4));
}

async fn a_program_need_not_read(world: &World) {
    let mut head = world.connect(r#"exec:sh -c "head -c 3; exec <&-; sleep 0.2; echo more""#).await;
    head.write_all(&vec![b'x'; 1 << 20]).await.expect("what is not read is thrown away");
    head.shutdown().await.expect("shutdown");
    assert_eq!(rest(&mut head).await, b"xxxmore\n");
}

async fn a_program_that_does_not_start(world: &World) {
    let error = world.connect_error("exec:/nonexistent/program --flag").await;
    assert_kind(&error, ErrorKind::NotFound);
    assert!(error.message().contains("/nonexistent/program"), "{error}");
    let error = world.connect_error("exec:/etc/passwd").await;
    assert_kind(&error, ErrorKind::PermissionDenied);
    let error = world.connect_error("exec:cat:directory=/nonexistent").await;
    assert_kind(&error, ErrorKind::InvalidArgument);
    assert!(error.message().contains("/nonexistent"), "{error}");
    for (wrong, reason) in
        [("exec:sh -c 'a", "quotation"), ("exec:", "no program"), ("exec:''", "empty"), ("exec:a\0", "NUL")]
    {
        let error = world.registry.client(wrong).expect_err(wrong);
        assert_kind(&error, ErrorKind::InvalidArgument);
        assert!(error.message().contains(reason), "{error}");
        assert_eq!(error.argument(), Some("command"), "{error}");
    }
}

async fn much_goes_through(world: &World) {
    let bytes: Vec<u8> = (0..4_000_000_u32).map(|place| (place / 251 + place) as u8).collect();
    let (mut read, mut write) = tokio::io::split(world.connect("exec:cat").await);
    let sending = async {
        write.write_all(&bytes).await.expect("write");
        write.shutdown().await.expect("shutdown");
    };
    let mut all = Vec::new();
    let (_, got) = tokio::join!(sending, read.read_to_end(&mut all));
    got.expect("read");
    assert!(all == bytes, "all that was sent came back");
}

async fn many_programs_leave_nothing_behind(world: &World) {
    let mut numbers = Vec::new();
    for _ in 0..50 {
        let mut program = world.connect("exec:cat").await;
        numbers.push(process(&program));
        program.write_all(b"x").await.expect("write");
        assert_eq!(program.read_u8().await.expect("read"), b'x');
    }
    for number in numbers {
        gone(number).await;
    }
}

async fn what_a_program_started_ends_with_it(world: &World) {
    let mut shell = world.connect(r#"exec:sh -c "sleep 1000 & echo $!; wait; true":grace=0.1"#).await;
    let mut line = String::new();
    while !line.ends_with('\n') {
        line.push(char::from(shell.read_u8().await.expect("a number")));
    }
    let number = line.trim().parse().expect("a number");
    assert!(state(number).is_some());
    drop(shell);
    // Nobody here waits for it: whoever adopts it may not either.
    let begun = Instant::now();
    while !matches!(state(number), None | Some('Z')) {
        assert!(begun.elapsed() < Duration::from_secs(10), "it goes on");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A program whose tracer, in a process group of its own, does not let its parent see that it has ended.
const TRACED: &str = r#"
import ctypes, os, time
libc = ctypes.CDLL(None)
libc.prctl(0x59616D61, ctypes.c_ulong(-1), 0, 0, 0)  # PR_SET_PTRACER_ANY
program = os.getpid()
if os.fork() == 0:
    os.setsid()
    seized = libc.ptrace(0x4206, program, 0, 0) == 0  # PTRACE_SEIZE
    os.write(1, b"y" if seized else b"n")
    os.close(1)
    time.sleep(3)
    os._exit(0)
time.sleep(1000)
"#;

async fn a_program_that_cannot_be_waited_for_holds_nothing_up(world: &World) {
    let folder = tempfile::tempdir().expect("a folder");
    let script = folder.path().join("traced.py");
    fs::write(&script, TRACED).expect("a script");
    let mut numbers = Vec::new();
    let begun = Instant::now();
    // More than the runtime has threads.
    for _ in 0..6 {
        let program = format!("exec:python3 {}:grace=0", script.display());
        let mut program = match world.registry.client(&program).expect("a client").connect().await {
            Ok(program) => program,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                eprintln!("SKIPPED: python3 is not installed");
                return;
            }
            Err(error) => panic!("{error}"),
        };
        numbers.push(process(&program));
        if program.read_u8().await.expect("an answer") != b'y' {
            eprintln!("SKIPPED: processes may not be traced here");
            return;
        }
        drop(program);
        let asleep = Instant::now();
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(asleep.elapsed() < Duration::from_secs(1), "timers stand still: {:?}", asleep.elapsed());
    }
    assert!(begun.elapsed() < Duration::from_secs(3), "too slow to tell: {:?}", begun.elapsed());
    for number in numbers {
        gone(number).await;
    }
}
