/**
 * @file
 * The manifest record and the entry: what makes a file a plugin.
 *
 * For Linux and ELF files, with GCC or a compiler that takes its attributes and its assembler statements.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 */

#ifndef ENDPOINTS_PLUGIN_ENTRY_H
#define ENDPOINTS_PLUGIN_ENTRY_H

#include "../endpoints_plugin.h"

#ifdef __cplusplus
#define ENDPOINTS_EXTERN extern "C"
#else
#define ENDPOINTS_EXTERN extern
#endif

#ifdef __clang__
#define ENDPOINTS_COMPILER __VERSION__
#else
#define ENDPOINTS_COMPILER "gcc " __VERSION__
#endif

/** A name and a text of the manifest record, as the assembler takes them. */
#define ENDPOINTS_RECORD_FIELD(name, text) ".ascii \"\\\"" name "\\\":\\\"" text "\\\"\"\n"

/**
 * Makes the file a plugin; once, at file scope, with a semicolon after it.
 *
 * name: the plugin's name, an identifier. version: its version, a text such as "0.1.0" (three numbers, as Semantic
 * Versioning has them). manifest: the path of plugin.json, a text; the assembler looks for it in the working directory and
 * where -I says. create: the function of the entry.
 */
#define ENDPOINTS_PLUGIN(name, version, manifest, create)                                                              \
    ENDPOINTS_RECORD(name, version, manifest);                                                                         \
    ENDPOINTS_EXTERN const struct endpoints_entry endpoints_plugin_c1_##name __attribute__((visibility("default")));   \
    const struct endpoints_entry endpoints_plugin_c1_##name = {sizeof(struct endpoints_entry), ENDPOINTS_ENTRY_ABI, 0, \
                                                               endpoints_record_##name, create}

/**
 * The manifest record alone; a part of ENDPOINTS_PLUGIN.
 *
 * endpoints_manifest_NAME is exported, so that no linker drops what hosts read from the file. endpoints_record_NAME is the
 * same record for this file's own use, hidden: nobody else's symbol of that name can come between.
 */
#define ENDPOINTS_RECORD(name, version, manifest)                                                                      \
    __asm__(".pushsection .epplugin,\"a\",%progbits\n"                                                                 \
            ".globl endpoints_manifest_" #name "\n"                                                                    \
            ".globl endpoints_record_" #name "\n"                                                                      \
            ".hidden endpoints_record_" #name "\n"                                                                     \
            ".type endpoints_manifest_" #name ", %object\n"                                                            \
            "endpoints_manifest_" #name ":\n"                                                                          \
            "endpoints_record_" #name ":\n"                                                                            \
            ".ascii \"endpoints-plugin\"\n"                                                                            \
            /* The form, and the length of the text: little-endian everywhere. */                                      \
            ".byte 1, 0, 0, 0\n"                                                                                       \
            ".byte (2f - 1f) & 255, (2f - 1f) >> 8 & 255, (2f - 1f) >> 16 & 255, 0\n"                                  \
            "1:\n"                                                                                                     \
            ".ascii \"{\\\"build\\\":{\"\n"                                                                            \
            ENDPOINTS_RECORD_FIELD("name", #name) ".ascii \",\"\n"                                                     \
            ENDPOINTS_RECORD_FIELD("version", version) ".ascii \",\"\n"                                                \
            ENDPOINTS_RECORD_FIELD("api", ENDPOINTS_API_VERSION) ".ascii \",\"\n"                                      \
            ENDPOINTS_RECORD_FIELD("requires", ENDPOINTS_API_REQUIRES) ".ascii \",\"\n"                                \
            ENDPOINTS_RECORD_FIELD("compiler", ENDPOINTS_COMPILER) ".ascii \",\"\n"                                    \
            ENDPOINTS_RECORD_FIELD("entry", "endpoints_plugin_c1_" #name)                                              \
            ".ascii \"},\\\"plugin\\\":\"\n"                                                                           \
            ".incbin \"" manifest "\"\n"                                                                               \
            ".ascii \"}\"\n"                                                                                           \
            "2:\n"                                                                                                     \
            ".size endpoints_manifest_" #name ", . - endpoints_manifest_" #name "\n"                                   \
            ".popsection\n");                                                                                          \
    ENDPOINTS_EXTERN const uint8_t endpoints_record_##name[] __attribute__((visibility("hidden")))

#endif /* ENDPOINTS_PLUGIN_ENTRY_H */
