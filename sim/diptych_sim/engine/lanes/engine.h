// SPDX-License-Identifier: BSD-2-Clause
// What a compiled design and its driver share.
#pragma once
#include <stdint.h>

#define HIDDEN __attribute__((visibility("hidden")))

struct Context {
    long block;
    long failed;  // number of the assertion, or -1
    long instance;
    long cycle;
    const int* numbers;  // of the instances in all lanes
    long now;            // cycles before this one
};

// Blocks of a design in memory.
struct Blocks {
    char *states, *scratch;
    uint64_t *all_marks, *lives;   // lives: bits of lanes that there are, 512 for a block
    long* since;                   // the cycle from which a block has rested, or -1
    bool rests;                    // whether blocks that only count may rest
    long bytes, scratch_bytes, pitch;
    char* state(long block) const { return states + block * bytes; }
    char* kept(long block) const { return scratch + block * scratch_bytes; }
    uint64_t* marks(long block) const { return all_marks + block * pitch; }
    const uint64_t* live(long block) const { return lives + 8 * block; }
};

// An element that a cluster changes: bytes and bits of a lane.
struct Piece {
    long at, size, bits;
};

// What a cluster does at the clock edge: writes, or bytes of the state to be replaced: those of single
// bits end at bits, and elements follow.
struct Edge {
    void (*write)(char*, char*, uint64_t*, unsigned);
    long low, bits, high, first, last;
};

// Notes a failed assertion: the first one of the lowest instance that fails in a cycle.
static inline void fail(Context* c, long number, long lanes, long lane) {
    const long instance = c->numbers[c->block * lanes + lane];
    const bool later = c->instance < instance || (c->instance == instance && c->failed < number);
    if (c->failed >= 0 && later) return;
    c->failed = number;
    c->instance = instance;
}
