// SPDX-License-Identifier: BSD-2-Clause
// Where tiles are in lanes, and what instances drive to their neighbors, part by part.
#pragma once
#include <vector>

#include "instances.h"

// Tiles in parts: rectangles of height x width tiles, row by row, in lanes 0 to height * width - 1.
struct Tiling {
    long rows, columns, height, width, across;  // across: parts side by side
    long part(long row, long column) const { return row / height * across + column / width; }
    long lane(long row, long column) const {
        return part(row, column) * PART + row % height * width + column % width;
    }
    bool has(long row, long column) const { return row >= 0 && row < rows && column >= 0 && column < columns; }
};

// size: bytes of an element, or 0 for a bit.
struct Wire {
    long from, to, size, down, right;
    long output, input;  // numbers of the tile's ports
};

// Lanes of a part that are fed from lanes of itself, and from those of the part next to it.
struct Source {
    long other;  // that part, or -1
    B own, next;
};

// Wires in one direction.
struct Ways {
    long down, right;
    long own_shift, next_shift;           // how many lanes on they go
    std::vector<Source> sources;          // of each part
    uint64_t outputs;                     // that have wires
    std::vector<std::vector<Wire>> wires;  // of each output
};

// Returns a direction without wires.
static Ways toward(const Tiling& t, long parts, long down, long right) {
    Ways way = {down, right, down * t.width + right, 0, {}, 0, {}};
    way.next_shift = -(down * (t.height - 1) * t.width + right * (t.width - 1));
    way.wires.resize(64);
    way.sources.assign(parts, {-1, 0, 0});
    for (long r = 0; r < t.rows; r++)
        for (long c = 0; c < t.columns; c++) {
            if (!t.has(r - down, c - right)) continue;
            const long part = t.part(r, c), from = t.part(r - down, c - right);
            const B bit = (B)1 << (t.lane(r, c) % PART);
            Source& source = way.sources[part];
            if (from == part) source.own |= bit;
            else {
                source.next |= bit;
                source.other = from;
            }
        }
    return way;
}

// Moves bits some lanes on, or back.
static inline B moved_on(B x, long lanes) {
    if (lanes >= PART || lanes <= -PART) return 0;
    return lanes < 0 ? x >> -lanes : x << lanes;
}

// Brings elements of type T of a part up to date; returns whether that changes them.
template <class T>
static bool exchange_elements(char* target, const char* own_part, const char* next_part, const Ways& way, const Source& from) {
    T* to = (T*)target;
    const T *own = (const T*)own_part, *next = (const T*)next_part;
    alignas(64) T all[PART];
    const long n = way.own_shift < 0 ? -way.own_shift : way.own_shift;
    if (from.own) memcpy(all + (way.own_shift < 0 ? 0 : n), own + (way.own_shift < 0 ? n : 0), (PART - n) * sizeof(T));
    for (B rest = ~from.own; rest; rest &= rest - 1) {
        const long lane = __builtin_ctzll(rest);
        all[lane] = from.next >> lane & 1 ? next[lane - way.next_shift] : to[lane];
    }
    if (!memcmp(to, all, sizeof all)) return false;
    memcpy(to, all, sizeof all);
    return true;
}

// Brings a part of a wire's target up to date; returns whether it changes. Lanes without a
// neighbor keep what they have.
static bool exchange(const Group& g, const Wire& w, const Ways& way, const Source& from, long part) {
    const char* own = g.part(part, w.from, w.size);
    const char* next = from.other < 0 ? own : g.part(from.other, w.from, w.size);
    char* to = g.part(part, w.to, w.size);
    switch (w.size) {
    case 0: {
        B x = (moved_on(*(const B*)own, way.own_shift) & from.own) | (moved_on(*(const B*)next, way.next_shift) & from.next);
        const B before = *(const B*)to;
        *(B*)to = x |= before & ~(from.own | from.next);
        return x != before;
    }
    case 1: return exchange_elements<uint8_t>(to, own, next, way, from);
    case 2: return exchange_elements<uint16_t>(to, own, next, way, from);
    case 4: return exchange_elements<uint32_t>(to, own, next, way, from);
    }
    return exchange_elements<uint64_t>(to, own, next, way, from);
}
