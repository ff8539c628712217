// SPDX-License-Identifier: BSD-2-Clause
// Carries what instances drive to their neighbors, part by part.
#pragma once
#include <vector>

#include "instances.h"

// size: bytes of an element, or 0 for a bit.
struct Wire {
    long from, to, size, down, right;
    long output, input;  // numbers of the tile's ports
};

// Lanes that lanes of a part are fed from: of two parts, if there are such, from an offset on.
struct Source {
    long low, offset;
    bool less, more;
};

// Wires in one direction.
struct Ways {
    long down, right;
    std::vector<B> inside;                // lanes of each part whose neighbor exists
    std::vector<Source> sources;          // of each part
    uint64_t outputs;                     // that have wires
    std::vector<std::vector<Wire>> wires;  // of each output
};

static Source source_of(long part, long parts, long shift) {
    long start = part * PART - shift;
    long low = start >= 0 ? start / PART : -((-start + PART - 1) / PART);
    long offset = start - low * PART;
    return {low, offset, low >= 0 && low < parts, offset && low + 1 >= 0 && low + 1 < parts};
}

// Returns a direction without wires.
static Ways toward(long rows, long columns, long parts, long down, long right) {
    Ways way = {down, right, std::vector<B>(parts), {}, 0, {}};
    way.wires.resize(64);
    for (long part = 0; part < parts; part++)
        way.sources.push_back(source_of(part, parts, down * columns + right));
    for (long r = 0; r < rows; r++)
        for (long c = 0; c < columns; c++) {
            long sr = r - down, sc = c - right;
            if (sr < 0 || sr >= rows || sc < 0 || sc >= columns) continue;
            long lane = r * columns + c;
            way.inside[lane / PART] |= (B)1 << (lane % PART);
        }
    return way;
}

// Sets bytes, and returns whether that changes them.
static bool replace(char* to, const char* from, long size) {
    if (!memcmp(to, from, size)) return false;
    memcpy(to, from, size);
    return true;
}

// Brings a part of a wire's target up to date; returns whether it changes. Lanes without a
// neighbor keep what they have.
static bool exchange(const Group& g, const Wire& w, const Source& from, B inside, long part) {
    const long offset = from.offset;
    const char* first = from.less ? g.part(from.low, w.from, w.size) : 0;
    const char* second = from.more ? g.part(from.low + 1, w.from, w.size) : 0;
    char* to = g.part(part, w.to, w.size);
    if (w.size == 0) {
        B x = first ? *(const B*)first >> offset : 0;
        if (second) x |= *(const B*)second << (PART - offset);
        const B before = *(const B*)to;
        *(B*)to = x = (x & inside) | (before & ~inside);
        return x != before;
    }
    alignas(64) char all[8 * PART];
    if (first) memcpy(all, first + offset * w.size, (PART - offset) * w.size);
    if (second) memcpy(all + (PART - offset) * w.size, second, offset * w.size);
    for (B out = ~inside; out; out &= out - 1) {
        const long n = __builtin_ctzll(out) * w.size;
        memcpy(all + n, to + n, w.size);
    }
    return replace(to, all, w.size * PART);
}
