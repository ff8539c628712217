// SPDX-License-Identifier: BSD-2-Clause
// Instances of compiled designs, and access to their state.
#pragma once
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "engine.h"

typedef uint64_t B;
static const long PART = 64;

struct Code {
    long (*cycle)(Blocks*, long, long, Context*);
    void (*reset_block)(char*);
    void (*start_block)(char*);
    void (*touch_block)(uint64_t*);
    void (*mark_input)(uint64_t*, long, long);
    void (*settle_block)(Blocks*, long, long);
    long scratch, marks, bytes, state, lanes;
};

// Instances of one design.
struct Group : Blocks {
    Code code;
    long count, blocks;
    int* numbers;  // of the instances in all lanes, -1 where there is none
    bool quiet;    // nothing is to be evaluated
    bool touched;  // anything may have changed

    long parts;  // of 64 lanes, in all blocks
    int split;   // a block has 2 ** split parts
    // Outputs of a part that have changed in the last cycle.
    uint64_t moved(long part) const { return marks(part >> split)[code.marks - (1L << split) + inside(part)]; }
    // Number of a part in its block.
    long inside(long part) const { return part & ((1L << split) - 1); }
    // Says that an input of a part has changed, or of a lane.
    void mark_part(long part, long input) {
        if (quiet) quiet = false;
        code.mark_input(marks(part >> split), input, inside(part));
    }
    void mark(long lane, long input) { mark_part(lane / PART, input); }
    // Gives the counters of all blocks the values of a cycle.
    void settle(long now) {
        quiet = false;
        for (long b = 0; b < blocks; b++) code.settle_block(this, b, now);
    }
    // Says that anything may have changed.
    void touch() {
        quiet = false;
        touched = true;
        for (long b = 0; b < blocks; b++) code.touch_block(marks(b));
    }
    // Part p of something of a block: size bytes a lane, or a bit.
    char* part(long p, long offset, long size) const {
        return state(p >> split) + offset + inside(p) * (size ? size * PART : PART / 8);
    }
    B lanes_of(long p) const { return live(p >> split)[inside(p)]; }
};

// width bits, from bit from_low of an element to bit to_low of another.
struct Link {
    long from, from_size, from_low, to, to_size, to_low, width;
    long output, input;  // numbers of the ports
};

// A port's field: where it is and which bits of the whole it holds.
struct Field {
    long offset, size, low, width;
};

static inline B get_bit(const Group& g, unsigned long lane, long offset) {
    return *(const B*)g.part(lane / PART, offset, 0) >> (lane % PART) & 1;
}
static inline void set_bit(const Group& g, unsigned long lane, long offset, B value) {
    B* to = (B*)g.part(lane / PART, offset, 0);
    *to = (*to & ~((B)1 << (lane % PART))) | value << (lane % PART);
}
static inline char* element(const Group& g, unsigned long lane, long offset, long size) {
    return g.part(lane / PART, offset, size) + lane % PART * size;
}
static inline uint64_t get(const Group& g, long lane, const Field& f) {
    if (f.size == 0) return get_bit(g, lane, f.offset);
    const char* from = element(g, lane, f.offset, f.size);
    switch (f.size) {
    case 1: return *(const uint8_t*)from;
    case 2: return *(const uint16_t*)from;
    case 4: return *(const uint32_t*)from;
    }
    return *(const uint64_t*)from;
}
// Returns whether that changes the element.
static inline bool put(const Group& g, long lane, const Field& f, uint64_t x) {
    if (f.size == 0) {
        const bool same = get_bit(g, lane, f.offset) == (x & 1);
        set_bit(g, lane, f.offset, x & 1);
        return !same;
    }
    char* to = element(g, lane, f.offset, f.size);
    const uint64_t before = get(g, lane, f);
    switch (f.size) {
    case 1: *(uint8_t*)to = (uint8_t)x; break;
    case 2: *(uint16_t*)to = (uint16_t)x; break;
    case 4: *(uint32_t*)to = (uint32_t)x; break;
    default: *(uint64_t*)to = x;
    }
    return before != get(g, lane, f);
}

static inline bool carry(const Group& from, long source, const Group& to, long target, const Link& w) {
    Field f = {w.from, w.from_size, 0, 0}, t = {w.to, w.to_size, 0, 0};
    uint64_t mask = w.width == 64 ? ~0ull : (1ull << w.width) - 1;
    uint64_t x = get(from, source, f) >> w.from_low & mask;
    return put(to, target, t, (get(to, target, t) & ~(mask << w.to_low)) | x << w.to_low);
}

static char* reserve(size_t bytes) {
    void* p = mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return 0;
    madvise(p, bytes, MADV_HUGEPAGE);
    return (char*)p;
}
static void release(Group& g) {
    if (g.states) munmap(g.states, (size_t)g.blocks * g.bytes);
    if (g.scratch) munmap(g.scratch, (size_t)g.blocks * g.scratch_bytes);
    free(g.all_marks);
    free(g.lives);
    free(g.since);
    free(g.numbers);
}
// lane(n) is the lane of instance n, below lanes.
template <class Lane> static bool allocate(Group& g, long lanes, Lane lane) {
    g.blocks = lanes > 0 ? (lanes + g.code.lanes - 1) / g.code.lanes : 1;
    g.parts = g.blocks * (g.code.lanes / PART);
    g.split = __builtin_ctzl(g.code.lanes / PART);
    g.bytes = g.code.bytes;
    g.scratch_bytes = g.code.scratch;
    g.pitch = (g.code.marks + 7) / 8 * 8;
    g.states = reserve((size_t)g.blocks * g.bytes);
    g.scratch = reserve((size_t)g.blocks * g.scratch_bytes);
    g.all_marks = (uint64_t*)aligned_alloc(64, g.blocks * g.pitch * 8);
    g.lives = (uint64_t*)aligned_alloc(64, g.blocks * 64);
    g.numbers = (int*)malloc(g.parts * PART * sizeof(int));
    g.since = (long*)malloc(g.blocks * sizeof(long));
    if (!g.states || !g.scratch || !g.all_marks || !g.lives || !g.numbers || !g.since) return false;
    for (long b = 0; b < g.blocks; b++) g.since[b] = -1;
    memset(g.all_marks, 0, g.blocks * g.pitch * 8);
    memset(g.lives, 0, g.blocks * 64);
    for (long n = 0; n < g.parts * PART; n++) g.numbers[n] = -1;
    for (long n = 0; n < g.count; n++) {
        const long at = lane(n), part = at / PART;
        g.numbers[at] = (int)n;
        g.lives[8 * (part >> g.split) + g.inside(part)] |= (B)1 << (at % PART);
    }
    for (long b = 0; b < g.blocks; b++) g.code.start_block(g.state(b));
    g.touch();
    return true;
}
