//! The book and the README, against what is built: a page that is not true fails here.
//!
//! HTML comments in the pages mark what is tested: `<!-- test: NAME -->` before a table, `<!-- file: PATH -->` before a
//! file's content, `<!-- part of: PATH -->` before a part of one, `<!-- build: FOLDER -->` before a command that builds it,
//! `<!-- run -->` or `<!-- run: stderr -->` before a command and its output. With
//! `ENDPOINTS_BOOK_UPDATE=1` the outputs in the pages are written anew instead of compared. The compiler and the target
//! of a build appear in them as `…`.

mod boundary;
mod c;
mod console;
mod grammar;
mod links;
mod notify;
mod page;
mod plugins;
mod schemes;
mod tour;
