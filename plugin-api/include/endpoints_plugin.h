/**
 * @file
 * What plugins in C and their hosts agree on: values, tables of functions and constants.
 *
 * Made from the definitions in plugin-api/src/abi; do not edit. The book's chapter "The plugin boundary" says what each
 * part promises, and "Plugins in C" how to begin. endpoints_plugin_helpers.h has the manifest record, the entry and what
 * most plugins need besides.
 *
 * In short: the first field of a table or of a structure that may grow is its size; a field beyond that is absent. No
 * function of the first version of a table is null. A handle is `data` and `vt`; who is given one calls its `drop` once.
 * Futures, streams and listeners outlive what they came from. What is behind a pointer or in a slice is lent for the length
 * of the call. Any function may be called from any thread, one call at a time for each object unless it says otherwise.
 * Nothing blocks.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 */

#ifndef ENDPOINTS_PLUGIN_H
#define ENDPOINTS_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

/** The version of the plugin API that this header belongs to. */
#define ENDPOINTS_API_VERSION "1.0.0"

/** The oldest version whose hosts run plugins that are built with it. */
#define ENDPOINTS_API_REQUIRES "1.0.0"

/** The version of the entry of plugins in C. */
#define ENDPOINTS_ENTRY_ABI 1

/** Not done; the context's waker will be called. */
#define ENDPOINTS_FUTURE_PENDING 0

/** Done; the result is written. */
#define ENDPOINTS_FUTURE_READY 1

/** It panicked, or was polled after its end; nothing is written. */
#define ENDPOINTS_FUTURE_PANICKED 2

/** The role of an endpoint that connects. */
#define ENDPOINTS_CLIENT 1

/** The role of an endpoint that listens. */
#define ENDPOINTS_SERVER 2

/** Readiness for reading: bytes, the end of the stream, or a connection to accept. */
#define ENDPOINTS_READABLE 1

/** Readiness for writing, or the end of a connect that was under way. */
#define ENDPOINTS_WRITABLE 2

/** What sort of failure it was. */
enum endpoints_error_kind {
  /** None of the others. */
  ENDPOINTS_ERROR_KIND_OTHER = 1,
  /** An argument has a value that the scheme cannot take. */
  ENDPOINTS_ERROR_KIND_INVALID_ARGUMENT = 2,
  /** The scheme has no such role, or the platform no such feature. */
  ENDPOINTS_ERROR_KIND_UNSUPPORTED = 3,
  /** The address is taken by somebody else (`EADDRINUSE`). */
  ENDPOINTS_ERROR_KIND_ADDRESS_IN_USE = 4,
  /** This machine has no such address (`EADDRNOTAVAIL`). */
  ENDPOINTS_ERROR_KIND_ADDRESS_NOT_AVAILABLE = 5,
  /** The operating system, or a proxy's rules, forbid it. */
  ENDPOINTS_ERROR_KIND_PERMISSION_DENIED = 6,
  /** A file, a socket or a directory is not there. */
  ENDPOINTS_ERROR_KIND_NOT_FOUND = 7,
  /** Nobody listens there. */
  ENDPOINTS_ERROR_KIND_CONNECTION_REFUSED = 8,
  /** The peer, or the way to it, cut the connection. */
  ENDPOINTS_ERROR_KIND_CONNECTION_RESET = 9,
  /** There is no way to that network or host. */
  ENDPOINTS_ERROR_KIND_UNREACHABLE = 10,
  /** It took too long. */
  ENDPOINTS_ERROR_KIND_TIMED_OUT = 11,
  /** A host name could not be resolved. */
  ENDPOINTS_ERROR_KIND_NAME_RESOLUTION = 12,
  /** The peer does not speak the protocol, or ended it early. */
  ENDPOINTS_ERROR_KIND_HANDSHAKE_FAILED = 13,
  /** The peer refused who we say we are. */
  ENDPOINTS_ERROR_KIND_AUTHENTICATION_FAILED = 14,
  /** Descriptors, memory or another resource ran out. */
  ENDPOINTS_ERROR_KIND_RESOURCE_EXHAUSTED = 15,
  /** The operation was given up; a handshake by a peer that closed the connection before it had sent anything. */
  ENDPOINTS_ERROR_KIND_CANCELLED = 16,
  /** A plugin panicked; the object it happened in is unusable. */
  ENDPOINTS_ERROR_KIND_PANICKED = 17,
  /** The host or the plugin broke the contract between them. */
  ENDPOINTS_ERROR_KIND_INTERNAL = 18,
  /** The listener, service or connection is closed already. */
  ENDPOINTS_ERROR_KIND_CLOSED = 19,
};

/** What sort of error it is, where the operating system has no number for it. */
enum endpoints_io_kind {
  /** None of the others. */
  ENDPOINTS_IO_KIND_OTHER = 0,
  /** Something is not there. */
  ENDPOINTS_IO_KIND_NOT_FOUND = 1,
  /** It is forbidden. */
  ENDPOINTS_IO_KIND_PERMISSION_DENIED = 2,
  /** Nobody listens there. */
  ENDPOINTS_IO_KIND_CONNECTION_REFUSED = 3,
  /** The peer cut the connection. */
  ENDPOINTS_IO_KIND_CONNECTION_RESET = 4,
  /** The connection was given up. */
  ENDPOINTS_IO_KIND_CONNECTION_ABORTED = 5,
  /** There is no connection yet, or no more. */
  ENDPOINTS_IO_KIND_NOT_CONNECTED = 6,
  /** Somebody else has the address. */
  ENDPOINTS_IO_KIND_ADDR_IN_USE = 7,
  /** This machine has no such address. */
  ENDPOINTS_IO_KIND_ADDR_NOT_AVAILABLE = 8,
  /** The peer does not read any more. */
  ENDPOINTS_IO_KIND_BROKEN_PIPE = 9,
  /** A caller asked for what makes no sense. */
  ENDPOINTS_IO_KIND_INVALID_INPUT = 10,
  /** What was read makes no sense. */
  ENDPOINTS_IO_KIND_INVALID_DATA = 11,
  /** It took too long. */
  ENDPOINTS_IO_KIND_TIMED_OUT = 12,
  /** A write took no byte. */
  ENDPOINTS_IO_KIND_WRITE_ZERO = 13,
  /** It was interrupted, and can be tried again. */
  ENDPOINTS_IO_KIND_INTERRUPTED = 14,
  /** It is not possible here. */
  ENDPOINTS_IO_KIND_UNSUPPORTED = 15,
  /** The stream ended too early. */
  ENDPOINTS_IO_KIND_UNEXPECTED_EOF = 16,
};

/** How much a log line matters. */
enum endpoints_log_level {
  /** Something failed. */
  ENDPOINTS_LOG_LEVEL_ERROR = 1,
  /** Something is wrong but goes on. */
  ENDPOINTS_LOG_LEVEL_WARN = 2,
  /** Something worth knowing. */
  ENDPOINTS_LOG_LEVEL_INFO = 3,
  /** For whoever looks for a fault. */
  ENDPOINTS_LOG_LEVEL_DEBUG = 4,
  /** Everything. */
  ENDPOINTS_LOG_LEVEL_TRACE = 5,
};

/** Bytes lent for the length of a call; not necessarily UTF-8. */
struct endpoints_slice {
  /** Where they begin; may be dangling or null where `len` is 0. */
  const uint8_t *ptr;
  /** How many they are. */
  size_t len;
};

/** Bytes that the receiver owns; freed by the image that made them. */
struct endpoints_bytes {
  /** Where they begin; may be null where `len` is 0. */
  uint8_t *ptr;
  /** How many they are. */
  size_t len;
  /** The maker's own: the size of its allocation, say. */
  size_t capacity;
  /** Frees them; called once, with the three words above. Null where there is nothing to free. */
  void (*free)(uint8_t *ptr, size_t len, size_t capacity);
};

/** An error, or none where `kind` is 0. */
struct endpoints_error {
  /** The number of the `endpoints_error_kind`; 0: no error. A number that the reader does not know reads as other. */
  uint32_t kind;
  /** The operating system's error number, 0 where there is none. */
  int32_t os;
  /** Whether a retry makes sense: 0 by the kind, 1 yes, 2 no. */
  uint32_t retry;
  /** Zero, for later use. */
  uint32_t reserved;
  /** One line for a person, UTF-8. A reader makes one of whatever is there. */
  struct endpoints_bytes message;
  /** The argument that is at fault, empty where none is. */
  struct endpoints_bytes argument;
};

/** What can be done with a waker; each function may be called from any thread, at any time, also after the task ended. */
struct endpoints_waker_vt {
  /** Bytes in this table. */
  size_t size;
  /** Another handle to the same waker, which the caller must drop. */
  struct endpoints_waker (*clone)(const struct endpoints_waker *waker);
  /** Wakes the task and leaves the handle as it is. */
  void (*wake_by_ref)(const struct endpoints_waker *waker);
  /** Gives the handle back. */
  void (*drop)(struct endpoints_waker *waker);
};

/** A waker of either side. */
struct endpoints_waker {
  /** The owner's first word. */
  const void *data;
  /** The owner's second word. */
  const void *aux;
  /** The owner's functions; never null. */
  const struct endpoints_waker_vt *vtable;
};

/** What a poll is given: the task to wake. Lent for the length of the call. */
struct endpoints_context {
  /** Bytes in this structure. */
  size_t size;
  /** The task's waker, lent: clone it to keep it. */
  struct endpoints_waker waker;
};

/** The functions of a future. */
struct endpoints_future_vt {
  /** Bytes in this table. */
  size_t size;
  /**
   * Polls it: `ENDPOINTS_FUTURE_PENDING`; `ENDPOINTS_FUTURE_READY`, with the result written to `out`;
   * or `ENDPOINTS_FUTURE_PANICKED`. After either of the latter it may be polled again,
   * and answers `ENDPOINTS_FUTURE_PANICKED`.
   */
  uint32_t (*poll)(void *data, const struct endpoints_context *cx, void *out);
  /** Cancels and frees it. */
  void (*drop)(void *data);
};

/** A future; null `data` and `vt`: there is none. What it writes is fixed by who made it. */
struct endpoints_future {
  /** The maker's own. */
  void *data;
  /** The maker's functions. */
  const struct endpoints_future_vt *vt;
};

/** What one attempt to connect is about. */
struct endpoints_connect_context {
  /** Bytes in this structure. */
  size_t size;
  /**
   * Nanoseconds that are left for the attempt, the largest number where the caller set no limit. The caller
   * enforces it.
   */
  uint64_t time_left;
  /** Facts of the connection that is being relayed, where one is. */
  struct endpoints_slice origin;
};

/** What one call of `listen` is about. */
struct endpoints_listen_context {
  /** Bytes in this structure. */
  size_t size;
};

/** The functions of an endpoint. All but `drop` may be called several times at once. */
struct endpoints_endpoint_vt {
  /** Bytes in this table. */
  size_t size;
  /** A future of an `endpoints_conn`; fails as unsupported on a server endpoint. The context is lent for the call. */
  struct endpoints_future (*connect)(void *data, const struct endpoints_connect_context *context);
  /** A future of an `endpoints_listen`; fails as unsupported on a client endpoint. The context is lent for the call. */
  struct endpoints_future (*listen)(void *data, const struct endpoints_listen_context *context);
  /** Arguments whose final value only the plugin knows, as facts. */
  struct endpoints_bytes (*describe)(void *data);
  /** Frees it; what it has connected or listens on lives on. */
  void (*drop)(void *data);
};

/** An endpoint of one role; null `vt`: there is none. */
struct endpoints_endpoint {
  /** The maker's own. */
  void *data;
  /** The maker's functions. */
  const struct endpoints_endpoint_vt *vt;
};

/** What making an endpoint comes to. */
struct endpoints_endpoint_result {
  /** Bytes in this structure. */
  size_t size;
  /** Set where it failed. */
  struct endpoints_error error;
  /** The endpoint, where it did not. */
  struct endpoints_endpoint endpoint;
};

/** What a poll of a stream came to. */
struct endpoints_io_poll {
  /** One of the constants of this type; no minor version adds to them. */
  uint64_t tag;
  /** What it means depends on the tag. */
  uint64_t val;
};
/** Done; `val` is the number of bytes. */
#define ENDPOINTS_IO_POLL_READY 0
/** Not ready; the context's waker will be called. */
#define ENDPOINTS_IO_POLL_PENDING 1
/** Failed; `val` is the operating system's error number. */
#define ENDPOINTS_IO_POLL_OS 2
/** Failed; `val` is the number of an `endpoints_io_kind`. */
#define ENDPOINTS_IO_POLL_KIND 3
/** Failed; the text waits in `take_error`, and `val` is the number of an `endpoints_io_kind`. */
#define ENDPOINTS_IO_POLL_MESSAGE 4
/** It panicked; a stream answers nothing else from now on. */
#define ENDPOINTS_IO_POLL_PANICKED 5

/** A piece of a vectored write; laid out as `struct endpoints_iovec`, and in Rust as `io_IoSlice`. */
typedef struct endpoints_slice endpoints_io_slice;

/** The functions of a stream. Reading and writing may be polled with different wakers; one call at a time in all. */
struct endpoints_stream_vt {
  /** Bytes in this table. */
  size_t size;
  /**
   * Null, or the address of a static of the maker's own. A host takes a stream that bears its mark for its own, and what is
   * behind `data` with it. So never copy another stream's table: one that passes everything on has its own, with null.
   */
  const void *owner;
  /** 1 where `poll_write_vectored` is better than several writes. */
  uint64_t vectored;
  /** Reads into memory that need not be initialised. 0 bytes: the end of the stream, or no room was given. */
  struct endpoints_io_poll (*poll_read)(void *data,
                             const struct endpoints_context *cx,
                             uint8_t *into,
                             size_t len);
  /** Writes some of the bytes. */
  struct endpoints_io_poll (*poll_write)(void *data,
                              const struct endpoints_context *cx,
                              const uint8_t *from,
                              size_t len);
  /** Writes some of the bytes of several pieces. */
  struct endpoints_io_poll (*poll_write_vectored)(void *data,
                                       const struct endpoints_context *cx,
                                       const endpoints_io_slice *pieces,
                                       size_t count);
  /** Passes on what is buffered. */
  struct endpoints_io_poll (*poll_flush)(void *data, const struct endpoints_context *cx);
  /** Ends the sending direction: the peer reads the end of the stream, and can still send. */
  struct endpoints_io_poll (*poll_shutdown)(void *data, const struct endpoints_context *cx);
  /** What is known about the connection, as facts. */
  struct endpoints_bytes (*facts)(void *data);
  /** The words of the error that the last poll answered with. */
  struct endpoints_error (*take_error)(void *data);
  /** Closes and frees it. */
  void (*drop)(void *data);
};

/** A stream that reads and writes bytes; null `vt`: there is none. */
struct endpoints_stream {
  /** The maker's own. */
  void *data;
  /** The maker's functions. */
  const struct endpoints_stream_vt *vt;
};

/** What `connect`, `accept` and a handshake come to. `kind` says which fields count; the receiver owns them. */
struct endpoints_conn {
  /** Bytes in this structure. */
  size_t size;
  /** One of the constants of this type; no minor version adds to them. */
  uint32_t kind;
  /** 1 where the descriptors belong to others too (standard streams, a terminal): their flags stay as they are. */
  uint32_t inherited;
  /** The descriptor, or the one to read and the one to write. */
  int32_t fd[2];
  /** Why there is no connection. */
  struct endpoints_error error;
  /**
   * What this layer knows about it, as facts; the layers further inside too, where the stream is the
   * maker's own.
   */
  struct endpoints_bytes facts;
  /** Bytes that were read already and belong to the reader of the stream. */
  struct endpoints_bytes leftover;
  /** The stream: the maker's own, or one of the receiver's streams given back. */
  struct endpoints_stream stream;
  /** A future of an `endpoints_conn` that is no handshake again. */
  struct endpoints_future handshake;
};
/** There is none; see `error`. */
#define ENDPOINTS_CONN_ERROR 1
/** A connected stream socket, in `fd[0]`. The receiver makes it non-blocking and close-on-exec. */
#define ENDPOINTS_CONN_FD 2
/** A descriptor to read from and one to write to. */
#define ENDPOINTS_CONN_FD_PAIR 3
/** A stream through its table. */
#define ENDPOINTS_CONN_STREAM 4
/** A connection whose handshake is done by polling `handshake`; only from `poll_accept`. */
#define ENDPOINTS_CONN_HANDSHAKE 5

/** The functions of a readiness. */
struct endpoints_readiness_vt {
  /** Bytes in this table. */
  size_t size;
  /**
   * Waits until the descriptor is ready for reading (`ENDPOINTS_READABLE`)
   * or writing (`ENDPOINTS_WRITABLE`), then calls `operation` with the pointer;
   * where that answers `ENDPOINTS_IO_POLL_PENDING` (it would block), waits again. Its other answers count as done: it leaves
   * what came of it behind the pointer. It runs within this call, never twice at once. May be called several times at
   * once; in each direction the last waker to wait may be the only one that is woken.
   */
  struct endpoints_io_poll (*poll_io)(const void *data,
                           const struct endpoints_context *cx,
                           uint32_t interest,
                           struct endpoints_io_poll (*operation)(void *argument),
                           void *argument);
  /** Stops watching; the descriptor stays open. */
  void (*drop)(void *data);
};

/** Readiness of a watched descriptor. */
struct endpoints_readiness {
  /** The host's own. */
  void *data;
  /** The host's functions. */
  const struct endpoints_readiness_vt *vt;
};

/** What watching a descriptor comes to. */
struct endpoints_readiness_result {
  /** Bytes in this structure. */
  size_t size;
  /** Set where it failed. */
  struct endpoints_error error;
  /** The readiness, where it did not. */
  struct endpoints_readiness readiness;
};

/**
 * The host's services. Each may be called from any thread; those that need a reactor use the runtime of the calling
 * thread, or the registry's own where that has none.
 */
struct endpoints_host_vt {
  /** Bytes in this table. */
  size_t size;
  /** Counts one more user. */
  void (*retain)(const void *data);
  /** Counts one user less. */
  void (*release)(const void *data);
  /** Makes an endpoint (role: `ENDPOINTS_CLIENT` or `ENDPOINTS_SERVER`) from a description. */
  void (*endpoint)(const void *data,
                   uint32_t role,
                   struct endpoints_slice description,
                   struct endpoints_endpoint_result *out);
  /**
   * Takes over a non-blocking internet socket whose connect is under way: a future of an `endpoints_conn` that ends when it is
   * connected or has failed. The connect of a Unix socket is never under way: give it to `adopt` when it is connected.
   */
  struct endpoints_future (*finish_connect)(const void *data, int32_t fd);
  /** Takes over a connected stream socket and gives it back as a stream of the host. */
  void (*adopt)(const void *data, int32_t fd, struct endpoints_conn *out);
  /** Watches a non-blocking descriptor, which stays the plugin's and must stay open until the readiness is dropped. */
  void (*watch)(const void *data, int32_t fd, struct endpoints_readiness_result *out);
  /** A future of an `endpoints_unit` that ends after so many nanoseconds. */
  struct endpoints_future (*sleep)(const void *data, uint64_t nanoseconds);
  /** Drives a future of an `endpoints_unit` to its end. */
  struct endpoints_error (*spawn)(const void *data, struct endpoints_future future);
  /**
   * Calls `work` with the pointer, on a thread where blocking is allowed; or `discard`, where that will not come to
   * pass, be it because of the error that is returned or because the runtime ends. One of them is called, once.
   */
  struct endpoints_error (*spawn_blocking)(const void *data,
                                  void (*work)(void *argument),
                                  void (*discard)(void *argument),
                                  void *argument);
  /**
   * A future of an `endpoints_bytes_result`: the socket addresses of a name, as text, one a line,
   * in the order of the resolver.
   */
  struct endpoints_future (*resolve)(const void *data, struct endpoints_slice name, uint16_t port);
  /** Whether a message of that level would be seen: 1 error, 2 warning, 3 information, 4 debugging, 5 trace. */
  uint32_t (*log_enabled)(const void *data, uint32_t level);
  /** Logs a line. */
  void (*log)(const void *data, uint32_t level, struct endpoints_slice line);
};

/** The host of one plugin instance. Counted: `create` is given one count; `retain` and `release` what is kept. */
struct endpoints_host {
  /** The host's own. */
  const void *data;
  /** The host's functions: a `endpoints_host_vt`, which grows, so its layout is not compared. */
  const struct endpoints_host_vt *vt;
};

/** One argument, checked against the manifest; lent, but for the endpoint. */
struct endpoints_argument {
  /** Bytes in this structure, the distance to the next argument. */
  size_t size;
  /** The parameter's name. */
  struct endpoints_slice name;
  /** The value; for a nested description its text. */
  struct endpoints_slice value;
  /** The value of an integer, a port, a flag (0 or 1) or a mode; of a duration its nanoseconds. */
  uint64_t number;
  /** 1 where the description gives it, 0 where it is the default. */
  uint32_t given;
  /** Zero, for later use. */
  uint32_t reserved;
  /** A nested description, made by the host; taken by writing a null handle in its place. What is left, the host drops. */
  struct endpoints_endpoint endpoint;
};

/** The functions of a plugin's instance. */
struct endpoints_plugin_vt {
  /** Bytes in this table. */
  size_t size;
  /**
   * Makes an endpoint of a role (`ENDPOINTS_CLIENT` or `ENDPOINTS_SERVER`).
   * Takes the nested endpoints that it wants out of the arguments. May read the files that arguments name; opens no
   * socket. May be called several times at once.
   */
  void (*endpoint)(void *data,
                   uint32_t role,
                   struct endpoints_slice scheme,
                   struct endpoints_argument *arguments,
                   size_t count,
                   struct endpoints_endpoint_result *out);
  /** Frees the instance; its endpoints live on. */
  void (*drop)(void *data);
};

/** What making an instance of a plugin comes to. */
struct endpoints_created {
  /** Bytes in this structure. */
  size_t size;
  /** Set where it failed. */
  struct endpoints_error error;
  /** The plugin's own. */
  void *data;
  /** The plugin's functions, where it did not fail. */
  const struct endpoints_plugin_vt *vt;
};

/** What the entry symbol of a plugin in C is: a constant, called `endpoints_plugin_c1_` and the plugin's name. */
struct endpoints_entry {
  /** Bytes in this structure. */
  size_t size;
  /** The version of this structure: `ENDPOINTS_ENTRY_ABI`. */
  uint32_t abi;
  /** Zero, for later use. */
  uint32_t reserved;
  /**
   * The manifest record, from its first byte on, as it is in the file's section: so that a host can see that what is
   * loaded is what it has read.
   */
  const uint8_t *record;
  /**
   * Makes an instance for a host; never null. The plugin owns the handle to the host, also where it fails, and writes
   * the result.
   */
  void (*create)(struct endpoints_host host, struct endpoints_created *out);
};

/** The functions of a listener. */
struct endpoints_listener_vt {
  /** Bytes in this table. */
  size_t size;
  /**
   * Waits for a connection, never for a peer's bytes. Answers as the poll of a future, with an `endpoints_conn` written to
   * `out`, which may be an error or a handshake. When the caller stops polling no connection is lost: the next call
   * goes on.
   */
  uint32_t (*poll_accept)(void *data, const struct endpoints_context *cx, struct endpoints_conn *out);
  /** The addresses that are listened on, as facts. */
  struct endpoints_bytes (*addresses)(void *data);
  /**
   * The client descriptions by which it is reached, as facts: one with an empty name begins a
   * description and has its scheme as the value, the others are its arguments; a name with `@` before it has a
   * nested description, in the same form, as its value.
   */
  struct endpoints_bytes (*reachable)(void *data);
  /**
   * Gives up the listening stream socket, from which the host then accepts by itself; -1: there is none, use
   * `poll_accept`. Asked once, before the first accept. The listener stays, and is dropped when listening ends.
   */
  int32_t (*take_socket)(void *data);
  /**
   * A future of an `endpoints_unit` that ends when listening has stopped; no future: dropping is all there is to do. The caller
   * asks for no more connections, and drops the future before the listener.
   */
  struct endpoints_future (*close)(void *data);
  /** Stops listening and frees it. */
  void (*drop)(void *data);
};

/** Something that listens; null `vt`: there is none. */
struct endpoints_listener {
  /** The maker's own. */
  void *data;
  /** The maker's functions. */
  const struct endpoints_listener_vt *vt;
};

/** What `listen` comes to. */
struct endpoints_listen {
  /** Bytes in this structure. */
  size_t size;
  /** Set where it failed. */
  struct endpoints_error error;
  /** The listener, where it did not. */
  struct endpoints_listener listener;
};

/** The result of a future that only succeeds or fails. */
struct endpoints_unit {
  /** Bytes in this structure. */
  size_t size;
  /** Set where it failed. */
  struct endpoints_error error;
};

/** The result of a future that gives bytes. */
struct endpoints_bytes_result {
  /** Bytes in this structure. */
  size_t size;
  /** Set where it failed. */
  struct endpoints_error error;
  /** The bytes, where it did not. */
  struct endpoints_bytes bytes;
};

#endif  /* ENDPOINTS_PLUGIN_H */
