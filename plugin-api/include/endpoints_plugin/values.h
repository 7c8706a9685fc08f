/**
 * @file
 * Values that cross the boundary: structures that begin with their size, handles, bytes, text.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 */

#ifndef ENDPOINTS_PLUGIN_VALUES_H
#define ENDPOINTS_PLUGIN_VALUES_H

#include <stdlib.h>
#include <string.h>

#include "../endpoints_plugin.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Structures and tables that begin with their size ---- */

/** Makes a structure absent: zeroes, but for its size. */
#define ENDPOINTS_INIT(pointer) ((void)memset((pointer), 0, sizeof *(pointer)), (void)((pointer)->size = sizeof *(pointer)))

/**
 * Whether a table or structure of the other side has a field, which may be of a later version than the first. Where it has
 * not, the field must not be looked at.
 */
#define ENDPOINTS_HAS(type, pointer, field) \
    ((pointer)->size >= offsetof(type, field) + sizeof((pointer)->field))

/** Writes a structure into the other side's memory, as much of it as there is room for. The size there stays. */
static inline void endpoints_write(void *out, const void *value, size_t size)
{
    size_t room;
    memcpy(&room, out, sizeof room);
    if (room > size)
        room = size;
    if (room > sizeof room)
        memcpy((char *)out + sizeof room, (const char *)value + sizeof room, room - sizeof room);
}

/** As endpoints_write, of the structure that `pointer` points to. */
#define ENDPOINTS_WRITE(out, pointer) endpoints_write((out), (pointer), sizeof *(pointer))

/** Drops what a handle stands for, if anything, and leaves none in its place. Not for the host, which is counted. */
#define ENDPOINTS_DROP(handle)                      \
    do {                                            \
        if ((handle)->vt != NULL)                   \
            (handle)->vt->drop((handle)->data);     \
        (handle)->data = NULL;                      \
        (handle)->vt = NULL;                        \
    } while (0)

/* ---- Bytes ---- */

/** A text, lent. */
static inline struct endpoints_slice endpoints_text(const char *text)
{
    struct endpoints_slice slice = {(const uint8_t *)text, strlen(text)};
    return slice;
}

/** Bytes that are owned, lent. */
static inline struct endpoints_slice endpoints_lend(const struct endpoints_bytes *bytes)
{
    struct endpoints_slice slice = {bytes->ptr, bytes->len};
    return slice;
}

/** Whether bytes are those of a text. */
static inline int endpoints_is(struct endpoints_slice slice, const char *text)
{
    return slice.len == strlen(text) && (slice.len == 0 || memcmp(slice.ptr, text, slice.len) == 0);
}

/** The `free` of bytes that malloc gave. */
static inline void endpoints_bytes_free(uint8_t *ptr, size_t len, size_t capacity)
{
    (void)len;
    (void)capacity;
    free(ptr);
}

/** Bytes to give away: no bytes. */
static inline struct endpoints_bytes endpoints_bytes_none(void)
{
    struct endpoints_bytes bytes = {NULL, 0, 0, NULL};
    return bytes;
}

/** Bytes to give away: a copy. None where there is no memory. */
static inline struct endpoints_bytes endpoints_bytes_copy(struct endpoints_slice from)
{
    struct endpoints_bytes bytes = endpoints_bytes_none();
    uint8_t *ptr = from.len == 0 ? NULL : (uint8_t *)malloc(from.len);
    if (ptr == NULL)
        return bytes;
    memcpy(ptr, from.ptr, from.len);
    bytes.ptr = ptr;
    bytes.len = bytes.capacity = from.len;
    bytes.free = endpoints_bytes_free;
    return bytes;
}

/** Bytes to give away: a text that is there for as long as the process is, such as a literal. */
static inline struct endpoints_bytes endpoints_bytes_constant(const char *text)
{
    struct endpoints_bytes bytes = endpoints_bytes_none();
    bytes.ptr = (uint8_t *)(uintptr_t)text;
    bytes.len = strlen(text);
    return bytes;
}

/** Frees bytes that were given, and leaves none in their place. */
static inline void endpoints_bytes_drop(struct endpoints_bytes *bytes)
{
    if (bytes->free != NULL)
        bytes->free(bytes->ptr, bytes->len, bytes->capacity);
    *bytes = endpoints_bytes_none();
}

#ifdef __cplusplus
}
#endif

#endif /* ENDPOINTS_PLUGIN_VALUES_H */
