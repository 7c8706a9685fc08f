use super::*;
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use rustix::fs::FlockOperation;
use tempfile::TempDir;

fn directory() -> (TempDir, PathBuf) {
    let directory = TempDir::new().unwrap();
    let link = beside(&directory.path().join("s"));
    (directory, link)
}

fn dead_pid() -> Pid {
    let mut child = Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap()
}

fn point(link: &Path, pid: Pid) {
    symlink(pid.as_raw_nonzero().to_string(), link).unwrap();
}

/// Where nobody listens on the socket.
fn take(link: &Path) -> Result<Option<Lock>, Error> {
    Lock::try_take(link, &|| Ok(false))
}

fn target(link: &Path) -> String {
    fs::read_link(link).unwrap().to_str().unwrap().to_owned()
}

fn names(directory: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(directory.path()).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_free_lock_is_taken_and_given_back() {
    let (directory, link) = directory();
    let mut lock = take(&link).unwrap().unwrap();
    assert!(!lock.is_recovered());
    assert_eq!(names(&directory), ["s.lock"]);
    assert_eq!(target(&link), own_number());
    lock.give_back().unwrap();
    assert!(names(&directory).is_empty());
}

#[test]
fn dropping_gives_back() {
    let (directory, link) = directory();
    drop(take(&link).unwrap().unwrap());
    assert!(names(&directory).is_empty());
}

#[test]
fn a_lock_of_a_live_process_is_respected() {
    let (directory, link) = directory();
    let mut child = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
    symlink(child.id().to_string(), &link).unwrap();
    let before = Identity::of(&link).unwrap();

    let error = take(&link).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddressInUse);
    assert!(error.message().contains(&format!("process {}", child.id())), "{error}");
    assert!(error.message().contains(link.to_str().unwrap()), "{error}");
    assert_eq!(Identity::of(&link).unwrap(), before);
    assert_eq!(names(&directory), ["s.lock"]);

    child.kill().unwrap();
    child.wait().unwrap();
    assert!(take(&link).unwrap().unwrap().is_recovered());
}

#[test]
fn a_second_lock_of_the_same_process_is_refused() {
    let (_directory, link) = directory();
    let _first = take(&link).unwrap().unwrap();
    let error = take(&link).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddressInUse);
    assert!(error.message().contains("this very process"), "{error}");
}

#[test]
fn a_process_that_may_not_be_signalled_is_alive() {
    assert!(is_alive(Ok(())));
    assert!(is_alive(Err(Errno::PERM)));
    assert!(!is_alive(Err(Errno::SRCH)));

    if rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: root may signal every process, so nobody answers with EPERM");
        return;
    }
    let (_directory, link) = directory();
    point(&link, Pid::INIT);
    assert_eq!(rustix::process::test_kill_process(Pid::INIT), Err(Errno::PERM));
    assert_eq!(holder(&link).unwrap(), Holder::Alive(Pid::INIT));
    assert_eq!(take(&link).unwrap_err().kind(), ErrorKind::AddressInUse);
}

#[test]
fn a_stale_lock_is_taken_over_and_nothing_else_stays() {
    let (directory, link) = directory();
    let dead = dead_pid();
    point(&link, dead);
    assert_eq!(holder(&link).unwrap(), Holder::Dead(dead));

    let mut lock = take(&link).unwrap().unwrap();
    assert!(lock.is_recovered());
    assert_eq!(target(&link), own_number());
    assert_eq!(names(&directory), ["s.lock"]);
    lock.give_back().unwrap();
    assert!(names(&directory).is_empty());
}

#[test]
fn what_is_no_lock_is_never_removed() {
    for text in ["", "x", "12x", "-1", "+1", " 1", "0", "99999999999999999999", "/etc/passwd"] {
        let (_directory, link) = directory();
        if symlink(text, &link).is_err() {
            // Linux makes no link to nothing; an empty file is the nearest.
            fs::write(&link, "").unwrap();
        }
        let before = Identity::of(&link).unwrap();
        assert!(matches!(holder(&link).unwrap(), Holder::NoLock(_)), "{text:?}");
        let error = take(&link).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddressInUse, "{text:?}");
        assert!(error.message().contains(link.to_str().unwrap()), "{error}");
        assert_eq!(Identity::of(&link).unwrap(), before, "{text:?}");
    }
    let (_directory, link) = directory();
    fs::create_dir(&link).unwrap();
    assert!(take(&link).is_err());
    assert!(link.is_dir());
}

#[test]
fn a_missing_directory_is_not_found() {
    let (directory, _) = directory();
    let error = take(&directory.path().join("none/s.lock")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.message().contains("none/s.lock"), "{error}");
}

#[test]
fn giving_back_leaves_what_another_put_there() {
    let (_directory, link) = directory();
    let mut lock = take(&link).unwrap().unwrap();
    // Made before the first is gone, so that it is another inode for certain.
    let other = with_suffix(&link, ".new");
    symlink(own_number(), &other).unwrap();
    fs::rename(&other, &link).unwrap();
    lock.give_back().unwrap();
    assert_eq!(target(&link), own_number());

    let mut lost = Lock { link: link.clone(), pin: Pin::open(&link).unwrap(), recovered: false, held: true };
    fs::remove_file(&link).unwrap();
    lost.give_back().unwrap();
}

#[test]
fn giving_back_leaves_a_lock_that_could_have_got_the_same_inode() {
    for stale in [false, true] {
        let (_directory, link) = directory();
        if stale {
            point(&link, dead_pid());
        }
        let mut lock = take(&link).unwrap().unwrap();
        assert_eq!(lock.is_recovered(), stale);
        // ext4 gives the inode that was freed a moment ago to the next link, unless it is kept.
        fs::remove_file(&link).unwrap();
        point(&link, Pid::INIT);
        assert_ne!(Identity::of(&link).unwrap(), lock.pin.identity);
        lock.give_back().unwrap();
        assert_eq!(target(&link), "1");
    }
}

#[test]
fn a_lock_taken_over_by_a_faster_server_is_put_back() {
    let (directory, link) = directory();
    let dead = dead_pid();
    // What a slow recoverer does that saw the stale lock before this one was taken.
    let _winner = take(&link).unwrap().unwrap();
    let before = Identity::of(&link).unwrap();
    assert!(Lock::replace(&link, dead).unwrap().is_none());
    assert_eq!(Identity::of(&link).unwrap(), before);
    assert!(Lock::recover(&link, &Holder::Dead(dead)).unwrap().is_none());
    assert_eq!(Identity::of(&link).unwrap(), before);
    assert_eq!(names(&directory), ["s.lock"]);
}

#[test]
fn a_stale_lock_that_is_gone_meanwhile_is_not_replaced() {
    let (directory, link) = directory();
    assert!(Lock::replace(&link, dead_pid()).unwrap().is_none());
    assert!(names(&directory).is_empty());
}

#[test]
fn only_one_at_a_time_replaces_locks_in_a_directory() {
    let (_directory, link) = directory();
    point(&link, dead_pid());
    let exclusive = Exclusive::over(&link).unwrap().unwrap();
    assert!(take(&link).unwrap().is_none());
    drop(exclusive);
    assert!(take(&link).unwrap().is_some());
}

#[test]
fn of_many_recoverers_exactly_one_wins() {
    const RACERS: usize = 8;
    let dead = dead_pid();
    for round in 0..100 {
        let (directory, link) = directory();
        point(&link, dead);
        let start = Barrier::new(RACERS);
        let race = || {
            start.wait();
            loop {
                // Not one at a time within the process, as other processes do it.
                match Lock::attempt(&link, &|| Ok(!super::names(&link, dead))) {
                    Ok(Some(lock)) => return Some(lock),
                    Ok(None) => thread::sleep(Duration::from_micros(100)),
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::AddressInUse, "{error}");
                        return None;
                    }
                }
            }
        };
        let winners: Vec<Lock> = thread::scope(|scope| {
            let racers: Vec<_> = (0..RACERS).map(|_| scope.spawn(race)).collect();
            racers.into_iter().filter_map(|racer| racer.join().unwrap()).collect()
        });
        assert_eq!(winners.len(), 1, "round {round}");
        assert!(winners[0].is_recovered());
        assert_eq!(Identity::of(&link).unwrap(), winners[0].pin.identity);
        assert_eq!(names(&directory), ["s.lock"]);
    }
}

#[test]
fn one_who_may_read_the_directory_cannot_keep_a_lock_from_being_recovered() {
    let (directory, link) = directory();
    point(&link, dead_pid());
    let reader = fs::File::open(directory.path()).unwrap();
    rustix::fs::flock(&reader, FlockOperation::NonBlockingLockShared).unwrap();
    assert!(take(&link).unwrap().unwrap().is_recovered());
}

#[test]
fn a_server_that_answers_keeps_its_lock_though_its_process_is_not_seen() {
    let (directory, link) = directory();
    point(&link, dead_pid());
    let before = Identity::of(&link).unwrap();
    let error = Lock::try_take(&link, &|| Ok(true)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddressInUse);
    assert_eq!(Identity::of(&link).unwrap(), before);
    assert_eq!(names(&directory), ["s.lock"]);
}

#[test]
fn a_lock_of_an_earlier_process_of_the_same_number_is_taken_over() {
    let (_directory, link) = directory();
    symlink(own_number(), &link).unwrap();
    assert_eq!(Lock::try_take(&link, &|| Ok(true)).unwrap_err().kind(), ErrorKind::AddressInUse);
    let lock = take(&link).unwrap().unwrap();
    assert!(lock.is_recovered());
    assert!(take(&link).unwrap_err().message().contains("this very process"));
    drop(lock);
    assert!(!take(&link).unwrap().unwrap().is_recovered());
}
