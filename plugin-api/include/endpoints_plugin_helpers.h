/**
 * @file
 * What most plugins in C need beside the boundary itself. Nothing of this is part of the boundary, and a plugin may do
 * without: all functions are static, and compiled into the plugin.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 */

#ifndef ENDPOINTS_PLUGIN_HELPERS_H
#define ENDPOINTS_PLUGIN_HELPERS_H

#include "endpoints_plugin.h"
#include "endpoints_plugin/endpoints.h"
#include "endpoints_plugin/entry.h"
#include "endpoints_plugin/errors.h"
#include "endpoints_plugin/facts.h"
#include "endpoints_plugin/values.h"

#endif /* ENDPOINTS_PLUGIN_HELPERS_H */
