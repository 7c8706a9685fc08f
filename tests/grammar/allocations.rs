//! Parsing makes one allocation for the parts, however many there are, and none for their values.
#![expect(unsafe_code, reason = "a counting allocator")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;

use endpoints::grammar::Description;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count() {
    // A thread that is ending has no count any more.
    let _ = ALLOCATIONS.try_with(|allocations| allocations.set(allocations.get() + 1));
}

// SAFETY: everything is passed on to the system's allocator, and counting allocates nothing: the counter needs neither
// initialisation nor a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller upholds what `alloc` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller upholds what `dealloc` asks for, and the pointer came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller upholds what `realloc` asks for, and the pointer came from `System`.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}

fn allocations<T>(of: impl FnOnce() -> T) -> (usize, T) {
    let before = ALLOCATIONS.get();
    let result = black_box(of());
    (ALLOCATIONS.get() - before, result)
}

#[test]
fn parsing_allocates_once_for_any_number_of_parts() {
    for unit in [":", ":k=v", r":k\==\:v", r"\:", r"\\", "x"] {
        for times in [0, 1, 3, 10, 1000, 100_000] {
            let text = format!("tcp{}", unit.repeat(times)).into_bytes();
            let (made, description) = allocations(|| Description::parse(text));
            assert!(description.is_ok());
            assert_eq!(made, 1, "{times} times {unit}");
        }
    }
}

#[test]
fn parsing_borrowed_text_allocates_once_more() {
    let (made, description) = allocations(|| Description::parse("tcp:host=example.com:port=80:timeout=15"));
    assert!(description.is_ok());
    assert_eq!(made, 2);
}

#[test]
fn looking_at_what_has_no_escape_allocates_nothing() {
    let description = Description::parse("tcp:80:host=example.com:timeout=15").expect("a description");
    let (made, length) = allocations(|| {
        let values: usize = description.parts().map(|part| part.value().len()).sum();
        let keys: usize = description.keywords().filter_map(|part| part.key()).map(|key| key.len()).sum();
        let timeout = description.keyword("timeout").map_or(0, |part| part.value().len());
        values + keys + timeout + description.scheme().len()
    });
    assert_eq!((made, length), (0, 2 + 11 + 2 + 4 + 7 + 2 + 3));
}
