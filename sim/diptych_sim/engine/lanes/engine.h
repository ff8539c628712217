// SPDX-License-Identifier: BSD-2-Clause
// What a compiled design and its driver share.
#pragma once
#include <stdint.h>

struct Context {
    long block;
    long failed;  // number of the assertion, or -1
    long instance;
    long cycle;
};

static inline void fail(Context* c, long number, long lanes, long lane) {
    if (c->failed >= 0) return;
    c->failed = number;
    c->instance = c->block * lanes + lane;
}
