/**
 * @file
 * Results, the host, and the functions that many endpoints and streams have in common.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 */

#ifndef ENDPOINTS_PLUGIN_ENDPOINTS_H
#define ENDPOINTS_PLUGIN_ENDPOINTS_H

#include <unistd.h>

#include "errors.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Results ---- */

/** Closes, drops and frees all that a connection holds, and leaves it absent. */
static inline void endpoints_conn_drop(struct endpoints_conn *conn)
{
    if (conn->kind == ENDPOINTS_CONN_FD || conn->kind == ENDPOINTS_CONN_FD_PAIR)
        close(conn->fd[0]);
    if (conn->kind == ENDPOINTS_CONN_FD_PAIR && conn->fd[1] != conn->fd[0])
        close(conn->fd[1]);
    ENDPOINTS_DROP(&conn->stream);
    ENDPOINTS_DROP(&conn->handshake);
    endpoints_error_drop(&conn->error);
    endpoints_bytes_drop(&conn->facts);
    endpoints_bytes_drop(&conn->leftover);
    ENDPOINTS_INIT(conn);
}

/** Writes an error, which is given away, where a connection was asked for. */
static inline void endpoints_conn_fail(void *out, struct endpoints_error error)
{
    struct endpoints_conn conn;
    ENDPOINTS_INIT(&conn);
    conn.kind = ENDPOINTS_CONN_ERROR;
    conn.error = error;
    ENDPOINTS_WRITE(out, &conn);
}

/** Writes an error, which is given away, where a listener was asked for. */
static inline void endpoints_listen_fail(void *out, struct endpoints_error error)
{
    struct endpoints_listen listen;
    ENDPOINTS_INIT(&listen);
    listen.error = error;
    ENDPOINTS_WRITE(out, &listen);
}

/** Writes an error, which is given away, where an endpoint was asked for. */
static inline void endpoints_endpoint_fail(void *out, struct endpoints_error error)
{
    struct endpoints_endpoint_result result;
    ENDPOINTS_INIT(&result);
    result.error = error;
    ENDPOINTS_WRITE(out, &result);
}

/** No future. */
static inline struct endpoints_future endpoints_future_none(void)
{
    struct endpoints_future future = {NULL, NULL};
    return future;
}

/* ---- The host ---- */

/** Counts one more user of the host, and gives the handle for it. */
static inline struct endpoints_host endpoints_host_retain(struct endpoints_host host)
{
    host.vt->retain(host.data);
    return host;
}

/** Gives one user's count back. */
static inline void endpoints_host_release(struct endpoints_host host)
{
    host.vt->release(host.data);
}

/** Writes a line to the host's log, at most 511 bytes of it, where somebody would see it. */
__attribute__((format(printf, 3, 4))) static inline void
endpoints_log(struct endpoints_host host, enum endpoints_log_level level, const char *format, ...)
{
    char line[512];
    va_list values;
    if (host.vt->log_enabled(host.data, (uint32_t)level) == 0)
        return;
    va_start(values, format);
    if (vsnprintf(line, sizeof line, format, values) >= 0)
        host.vt->log(host.data, (uint32_t)level, endpoints_text(line));
    va_end(values);
}

/* ---- Endpoints of one side ---- */

/** A failure that a future gives once. */
struct endpoints_failing {
    struct endpoints_error error;
    int done;
};

static inline uint32_t endpoints_failing_conn(void *data, const struct endpoints_context *cx, void *out)
{
    struct endpoints_failing *failing = (struct endpoints_failing *)data;
    (void)cx;
    if (failing->done)
        return ENDPOINTS_FUTURE_PANICKED;
    failing->done = 1;
    endpoints_conn_fail(out, failing->error);
    return ENDPOINTS_FUTURE_READY;
}

static inline uint32_t endpoints_failing_listen(void *data, const struct endpoints_context *cx, void *out)
{
    struct endpoints_failing *failing = (struct endpoints_failing *)data;
    (void)cx;
    if (failing->done)
        return ENDPOINTS_FUTURE_PANICKED;
    failing->done = 1;
    endpoints_listen_fail(out, failing->error);
    return ENDPOINTS_FUTURE_READY;
}

static inline void endpoints_failing_drop(void *data)
{
    struct endpoints_failing *failing = (struct endpoints_failing *)data;
    if (!failing->done)
        endpoints_error_drop(&failing->error);
    free(failing);
}

static const struct endpoints_future_vt endpoints_failing_conn_vt = {
    sizeof(struct endpoints_future_vt), endpoints_failing_conn, endpoints_failing_drop};
static const struct endpoints_future_vt endpoints_failing_listen_vt = {
    sizeof(struct endpoints_future_vt), endpoints_failing_listen, endpoints_failing_drop};

static inline struct endpoints_future endpoints_failing(struct endpoints_error error, const struct endpoints_future_vt *vt)
{
    struct endpoints_future future = {calloc(1, sizeof(struct endpoints_failing)), vt};
    if (future.data == NULL) {
        endpoints_error_drop(&error);
        return endpoints_future_none();
    }
    ((struct endpoints_failing *)future.data)->error = error;
    return future;
}

/** A future of a connection that fails at once; the error is given away. */
static inline struct endpoints_future endpoints_connect_failing(struct endpoints_error error)
{
    return endpoints_failing(error, &endpoints_failing_conn_vt);
}

/** A future of a listener that fails at once; the error is given away. */
static inline struct endpoints_future endpoints_listen_failing(struct endpoints_error error)
{
    return endpoints_failing(error, &endpoints_failing_listen_vt);
}

/** The `connect` of a server endpoint. */
static inline struct endpoints_future endpoints_no_connect(void *data, const struct endpoints_connect_context *context)
{
    (void)data;
    (void)context;
    return endpoints_connect_failing(
        endpoints_error(ENDPOINTS_ERROR_KIND_UNSUPPORTED, "a server endpoint cannot connect: make a client endpoint"));
}

/** The `listen` of a client endpoint. */
static inline struct endpoints_future endpoints_no_listen(void *data, const struct endpoints_listen_context *context)
{
    (void)data;
    (void)context;
    return endpoints_listen_failing(
        endpoints_error(ENDPOINTS_ERROR_KIND_UNSUPPORTED, "a client endpoint cannot listen: make a server endpoint"));
}

/** The `describe` of an endpoint that knows no more than its description says. */
static inline struct endpoints_bytes endpoints_no_description(void *data)
{
    (void)data;
    return endpoints_bytes_none();
}

/* ---- Streams with nothing more to tell ---- */

/** The `facts` of a stream whose connection was handed over with them. */
static inline struct endpoints_bytes endpoints_no_facts(void *data)
{
    (void)data;
    return endpoints_bytes_none();
}

/** The `take_error` of a stream that never answers ENDPOINTS_IO_POLL_MESSAGE. */
static inline struct endpoints_error endpoints_no_error(void *data)
{
    (void)data;
    return endpoints_error_none();
}

#ifdef __cplusplus
}
#endif

#endif /* ENDPOINTS_PLUGIN_ENDPOINTS_H */
