/**
 * @file
 * Errors: to make them, and of polls of streams.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 */

#ifndef ENDPOINTS_PLUGIN_ERRORS_H
#define ENDPOINTS_PLUGIN_ERRORS_H

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "values.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Errors ---- */

/** No error. */
static inline struct endpoints_error endpoints_error_none(void)
{
    struct endpoints_error error;
    memset(&error, 0, sizeof error);
    return error;
}

/** Frees what an error holds, and leaves none in its place. */
static inline void endpoints_error_drop(struct endpoints_error *error)
{
    endpoints_bytes_drop(&error->message);
    endpoints_bytes_drop(&error->argument);
    *error = endpoints_error_none();
}

/** An error with a line for a person, at most 511 bytes of it; with none, where the text is empty. */
static inline struct endpoints_error endpoints_error_va(enum endpoints_error_kind kind, const char *format, va_list values)
{
    char line[512];
    struct endpoints_error error = endpoints_error_none();
    error.kind = (uint32_t)kind;
    if (vsnprintf(line, sizeof line, format, values) < 0)
        line[0] = '\0';
    error.message = endpoints_bytes_copy(endpoints_text(line));
    if (error.message.len == 0 && line[0] != '\0')
        error.message = endpoints_bytes_constant("there is no memory to say what went wrong");
    return error;
}

/** An error with a line for a person, as printf makes it: what failed, and what to do next. */
__attribute__((format(printf, 2, 3))) static inline struct endpoints_error
endpoints_error(enum endpoints_error_kind kind, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    struct endpoints_error error = endpoints_error_va(kind, format, values);
    va_end(values);
    return error;
}

/** An error of an argument, whose name should be in the line too. */
__attribute__((format(printf, 2, 3))) static inline struct endpoints_error
endpoints_error_argument(const char *argument, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    struct endpoints_error error = endpoints_error_va(ENDPOINTS_ERROR_KIND_INVALID_ARGUMENT, format, values);
    va_end(values);
    error.argument = endpoints_bytes_copy(endpoints_text(argument));
    return error;
}

/** What sort of failure a number of errno is. */
static inline enum endpoints_error_kind endpoints_error_kind_of(int os)
{
    switch (os) {
    case EADDRINUSE:
        return ENDPOINTS_ERROR_KIND_ADDRESS_IN_USE;
    case EADDRNOTAVAIL:
        return ENDPOINTS_ERROR_KIND_ADDRESS_NOT_AVAILABLE;
    case EACCES:
    case EPERM:
        return ENDPOINTS_ERROR_KIND_PERMISSION_DENIED;
    case ENOENT:
        return ENDPOINTS_ERROR_KIND_NOT_FOUND;
    case ECONNREFUSED:
        return ENDPOINTS_ERROR_KIND_CONNECTION_REFUSED;
    case ECONNRESET:
    case ECONNABORTED:
    case EPIPE:
    case ENOTCONN:
        return ENDPOINTS_ERROR_KIND_CONNECTION_RESET;
    case EHOSTUNREACH:
    case ENETUNREACH:
    case ENETDOWN:
        return ENDPOINTS_ERROR_KIND_UNREACHABLE;
    case ETIMEDOUT:
        return ENDPOINTS_ERROR_KIND_TIMED_OUT;
    case EOPNOTSUPP:
    case EAFNOSUPPORT:
    case EPROTONOSUPPORT:
        return ENDPOINTS_ERROR_KIND_UNSUPPORTED;
    case EINVAL:
        return ENDPOINTS_ERROR_KIND_INVALID_ARGUMENT;
    case EMFILE:
    case ENFILE:
    case ENOMEM:
    case ENOBUFS:
    case ENOSPC:
        return ENDPOINTS_ERROR_KIND_RESOURCE_EXHAUSTED;
    default:
        return ENDPOINTS_ERROR_KIND_OTHER;
    }
}

/* Writes the system's words for a number of errno. Not by strerror, which is for one thread in older libraries; and
 * strerror_r is declared only where a macro before the first header asks for it. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat" /* ISO C has no %m; the C libraries of Linux do. */
static inline void endpoints_os_words(int os, char *words, size_t room)
{
    int before = errno;
    errno = os;
    if (snprintf(words, room, "%m") < 0)
        words[0] = '\0';
    errno = before;
}
#pragma GCC diagnostic pop

/** An error of the operating system: what was being done, a colon, and the system's words. */
__attribute__((format(printf, 2, 3))) static inline struct endpoints_error endpoints_error_os(int os, const char *format, ...)
{
    char doing[384], words[128];
    va_list values;
    va_start(values, format);
    if (vsnprintf(doing, sizeof doing, format, values) < 0)
        doing[0] = '\0';
    va_end(values);
    endpoints_os_words(os, words, sizeof words);
    struct endpoints_error error = endpoints_error(endpoints_error_kind_of(os), "%s: %s", doing, words);
    error.os = os;
    return error;
}

/** The error of a lack of memory. Needs none itself. */
static inline struct endpoints_error endpoints_error_memory(void)
{
    struct endpoints_error error = endpoints_error_none();
    error.kind = ENDPOINTS_ERROR_KIND_RESOURCE_EXHAUSTED;
    error.os = ENOMEM;
    error.message = endpoints_bytes_constant("there is no memory left");
    return error;
}

/* ---- Polls of streams ---- */

/** Done, with so many bytes. */
static inline struct endpoints_io_poll endpoints_io_ready(size_t count)
{
    struct endpoints_io_poll polled = {ENDPOINTS_IO_POLL_READY, count};
    return polled;
}

/** Not ready; only where something that was polled has said so, and will wake the task. */
static inline struct endpoints_io_poll endpoints_io_pending(void)
{
    struct endpoints_io_poll polled = {ENDPOINTS_IO_POLL_PENDING, 0};
    return polled;
}

/** Failed, with a number of errno. */
static inline struct endpoints_io_poll endpoints_io_os(int os)
{
    struct endpoints_io_poll polled = {ENDPOINTS_IO_POLL_OS, (uint64_t)os};
    return polled;
}

/** Failed, with a kind. */
static inline struct endpoints_io_poll endpoints_io_failed(enum endpoints_io_kind kind)
{
    struct endpoints_io_poll polled = {ENDPOINTS_IO_POLL_KIND, (uint64_t)kind};
    return polled;
}

/** What sort of failure a kind of a poll is. */
static inline enum endpoints_error_kind endpoints_error_kind_of_io(uint64_t kind)
{
    switch (kind) {
    case ENDPOINTS_IO_KIND_NOT_FOUND:
        return ENDPOINTS_ERROR_KIND_NOT_FOUND;
    case ENDPOINTS_IO_KIND_PERMISSION_DENIED:
        return ENDPOINTS_ERROR_KIND_PERMISSION_DENIED;
    case ENDPOINTS_IO_KIND_CONNECTION_REFUSED:
        return ENDPOINTS_ERROR_KIND_CONNECTION_REFUSED;
    case ENDPOINTS_IO_KIND_CONNECTION_RESET:
    case ENDPOINTS_IO_KIND_CONNECTION_ABORTED:
    case ENDPOINTS_IO_KIND_NOT_CONNECTED:
    case ENDPOINTS_IO_KIND_BROKEN_PIPE:
        return ENDPOINTS_ERROR_KIND_CONNECTION_RESET;
    case ENDPOINTS_IO_KIND_ADDR_IN_USE:
        return ENDPOINTS_ERROR_KIND_ADDRESS_IN_USE;
    case ENDPOINTS_IO_KIND_ADDR_NOT_AVAILABLE:
        return ENDPOINTS_ERROR_KIND_ADDRESS_NOT_AVAILABLE;
    case ENDPOINTS_IO_KIND_INVALID_INPUT:
        return ENDPOINTS_ERROR_KIND_INVALID_ARGUMENT;
    case ENDPOINTS_IO_KIND_TIMED_OUT:
        return ENDPOINTS_ERROR_KIND_TIMED_OUT;
    case ENDPOINTS_IO_KIND_UNSUPPORTED:
        return ENDPOINTS_ERROR_KIND_UNSUPPORTED;
    case ENDPOINTS_IO_KIND_UNEXPECTED_EOF:
        return ENDPOINTS_ERROR_KIND_HANDSHAKE_FAILED;
    default:
        return ENDPOINTS_ERROR_KIND_OTHER;
    }
}

/** The error of a poll of a stream that failed: what was being done, a colon, and the words that there are. */
static inline struct endpoints_error endpoints_error_of_poll(const struct endpoints_stream *stream,
                                                             struct endpoints_io_poll polled, const char *doing)
{
    if (polled.tag == ENDPOINTS_IO_POLL_OS)
        return endpoints_error_os((int)polled.val, "%s", doing);
    if (polled.tag == ENDPOINTS_IO_POLL_PANICKED)
        return endpoints_error(ENDPOINTS_ERROR_KIND_PANICKED, "%s: the stream's plugin panicked", doing);
    if (polled.tag != ENDPOINTS_IO_POLL_KIND && polled.tag != ENDPOINTS_IO_POLL_MESSAGE)
        return endpoints_error(ENDPOINTS_ERROR_KIND_INTERNAL, "%s: the stream gave an answer without a meaning", doing);
    enum endpoints_error_kind kind = endpoints_error_kind_of_io(polled.val);
    struct endpoints_error words = endpoints_error_none();
    if (polled.tag == ENDPOINTS_IO_POLL_MESSAGE)
        words = stream->vt->take_error(stream->data);
    struct endpoints_error error =
        words.message.len == 0
            ? endpoints_error(kind, "%s: the connection failed", doing)
            : endpoints_error(kind, "%s: %.*s", doing, (int)words.message.len, (const char *)words.message.ptr);
    endpoints_error_drop(&words);
    return error;
}

#ifdef __cplusplus
}
#endif

#endif /* ENDPOINTS_PLUGIN_ERRORS_H */
