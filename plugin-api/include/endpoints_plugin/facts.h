/**
 * @file
 * Facts about connections and listeners, descriptions in the same form, and the arguments of an endpoint.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 */

#ifndef ENDPOINTS_PLUGIN_FACTS_H
#define ENDPOINTS_PLUGIN_FACTS_H

#include "values.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Facts, and descriptions in their form ---- */

/** Facts that are being put together; begins as zeroes. */
struct endpoints_facts {
    struct endpoints_bytes bytes;
    /** Set where there was no memory, or a name or value is too long: then there are none in the end. */
    int failed;
};

/** Adds facts in their encoded form at the end. */
static inline void endpoints_facts_append(struct endpoints_facts *facts, struct endpoints_slice encoded)
{
    struct endpoints_bytes *bytes = &facts->bytes;
    if (facts->failed || encoded.len == 0)
        return;
    if (encoded.len > bytes->capacity - bytes->len) {
        size_t capacity = 2 * (bytes->len + encoded.len);
        uint8_t *ptr = (uint8_t *)realloc(bytes->ptr, capacity);
        if (ptr == NULL) {
            facts->failed = 1;
            return;
        }
        bytes->ptr = ptr;
        bytes->capacity = capacity;
        bytes->free = endpoints_bytes_free;
    }
    memcpy(bytes->ptr + bytes->len, encoded.ptr, encoded.len);
    bytes->len += encoded.len;
}

/** Adds a fact at the end. Its name and its value are shorter than 4 GiB each, as lengths have 32 bits. */
static inline void endpoints_facts_push(struct endpoints_facts *facts, struct endpoints_slice name, struct endpoints_slice value)
{
    const struct endpoints_slice parts[2] = {name, value};
    for (int part = 0; part < 2; part++) {
        uint8_t length[4];
        uint64_t len = parts[part].len;
        struct endpoints_slice head = {length, sizeof length};
        if (len > UINT32_MAX) {
            facts->failed = 1;
            return;
        }
        for (int place = 0; place < 4; place++)
            length[place] = (uint8_t)(len >> 8 * place);
        endpoints_facts_append(facts, head);
        endpoints_facts_append(facts, parts[part]);
    }
}

/** Adds a fact whose value is a text. */
static inline void endpoints_facts_text(struct endpoints_facts *facts, const char *name, const char *value)
{
    endpoints_facts_push(facts, endpoints_text(name), endpoints_text(value));
}

/** The encoded form, to give away; begins anew. */
static inline struct endpoints_bytes endpoints_facts_take(struct endpoints_facts *facts)
{
    struct endpoints_bytes bytes = facts->bytes;
    if (facts->failed)
        endpoints_bytes_drop(&bytes);
    memset(facts, 0, sizeof *facts);
    return bytes;
}

/** Splits off a length and as many bytes; 0 where there are none, or they are cut off. */
static inline int endpoints_facts_split(struct endpoints_slice *rest, struct endpoints_slice *part)
{
    size_t len = 0;
    if (rest->len < 4)
        return 0;
    for (int place = 0; place < 4; place++)
        len |= (size_t)rest->ptr[place] << 8 * place;
    if (rest->len - 4 < len)
        return 0;
    part->ptr = rest->ptr + 4;
    part->len = len;
    rest->ptr += 4 + len;
    rest->len -= 4 + len;
    return 1;
}

/** Splits the first fact off `rest`: 1, or 0 where there is none that can be read. */
static inline int endpoints_facts_next(struct endpoints_slice *rest, struct endpoints_slice *name, struct endpoints_slice *value)
{
    struct endpoints_slice after = *rest;
    if (!endpoints_facts_split(&after, name) || !endpoints_facts_split(&after, value))
        return 0;
    *rest = after;
    return 1;
}

/* ---- Arguments ---- */

/** The argument of that name; NULL where there is none: it is neither given, nor has it a default. */
static inline struct endpoints_argument *endpoints_argument(struct endpoints_argument *arguments, size_t count, const char *name)
{
    char *at = (char *)arguments;
    for (size_t place = 0; place < count; place++) {
        struct endpoints_argument *argument = (struct endpoints_argument *)(void *)at;
        if (endpoints_is(argument->name, name))
            return argument;
        at += argument->size;
    }
    return NULL;
}

/** Takes the endpoint of a nested description out of its argument. */
static inline struct endpoints_endpoint endpoints_argument_take(struct endpoints_argument *argument)
{
    struct endpoints_endpoint none = {NULL, NULL};
    struct endpoints_endpoint endpoint = argument == NULL ? none : argument->endpoint;
    if (argument != NULL)
        argument->endpoint = none;
    return endpoint;
}

#ifdef __cplusplus
}
#endif

#endif /* ENDPOINTS_PLUGIN_FACTS_H */
