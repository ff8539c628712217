// SPDX-License-Identifier: BSD-2-Clause
// What runs a netlist, and what its parts have in common.

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

constexpr u64 HBM_BYTES = u64{1} << 32;

struct Log {
    u64* at;
    u64 count, room;
};

struct Machine {
    u64 cycle;
    bool waits;   // the edge of the cycle is still to come
    bool resets;  // with which registers are reset
    // The module that something else computes.
    void *mesh, *pins;
    long (*step)(void*, void*, const u32*, u32*);
    u32 to_outside[OUTSIDE + 1], from_outside[OUTSIDE + 1];
    long refused;
    u64 stop, stops[WATCHES / 64 + 1];
    u64 d[MARKS], e[MARKS];
    u32 count;
    u32 commits[CLUSTERS + 1];
    u32 failed;
    uint8_t* hbm;
    Log logs[WATCHES + 1];
};

INLINE void append(Log& log, u64 v) {
    if (log.count == log.room) {
        log.room = log.room ? 2 * log.room : 64;
        log.at = static_cast<u64*>(std::realloc(log.at, 8 * log.room));
        if (!log.at) std::abort();
    }
    log.at[log.count++] = v;
}

INLINE void words_of(Log& log, u64 v) { append(log, v); }
template <int N> INLINE void words_of(Log& log, const B<N>& v) {
    for (int n = 0; n < N; n++) append(log, v.w[n]);
}

// A value that is new in this cycle: the cycle, and its words.
template <class T> INLINE void note(Machine& s, int watch, const T&, const T& v) {
    append(s.logs[watch], s.cycle);
    words_of(s.logs[watch], v);
    s.stop |= s.stops[watch / 64] >> watch % 64 & 1;
}

// The same of a counter: the first cycle, the difference, and the cycles in a row that have it.
template <class T> INLINE void count(Machine& s, int watch, const T& old, const T& v) {
    Log& log = s.logs[watch];
    const u64 step = static_cast<u64>(v) - static_cast<u64>(old);
    if (log.count) {
        u64* last = log.at + log.count - 3;
        if (last[0] + last[2] == s.cycle && last[1] == step) {
            last[2]++;
            return;
        }
    }
    append(log, s.cycle);
    append(log, step);
    append(log, 1);
}

INLINE void fail(Machine& s, u32 cell) {
    if (!s.failed) s.failed = cell;
    s.stop = 1;
}

INLINE B<8> line_of(const Machine& s, u32 line) {
    B<8> out;
    std::memcpy(&out, s.hbm + 64 * u64{line}, 64);
    return out;
}

INLINE void write_line(Machine& s, u32 line, const B<8>& beat, u64 strobe) {
    const auto* from = reinterpret_cast<const uint8_t*>(&beat);
    for (int n = 0; n < 64; n++)
        if (strobe >> n & 1) s.hbm[64 * u64{line} + n] = from[n];
}

template <int N> INLINE B<N> full() {
    B<N> out;
    for (int n = 0; n < N; n++) out.w[n] = ~u64{0};
    return out;
}

// Replaces the parts of a word, GRAIN bits each, that are enabled.
template <int GRAIN, int PARTS, int N, class E>
INLINE void write(B<N>& to, const B<N>& v, const E& enables) {
    B<N> mask = {};
    bool all = true;
    for (int n = 0; n < PARTS; n++) {
        u64 bit;
        if constexpr (PARTS > 64)
            bit = enables.w[n / 64] >> n % 64 & 1;
        else
            bit = enables >> n & 1;
        all &= bit;
        if (!bit) continue;
        for (int at = n * GRAIN, end = at + GRAIN; at < end;) {
            const int low = at % 64, size = end - at < 64 - low ? end - at : 64 - low;
            mask.w[at / 64] |= ones(size) << low;
            at += size;
        }
    }
    if (all)
        to = v;
    else
        to = (to & (mask ^ full<N>())) | (v & mask);
}
template <int GRAIN, int PARTS, class T, class E>
INLINE void write(T& to, const T& v, const E& enables) {
    T mask = 0;
    for (int n = 0; n < PARTS; n++)
        if (enables >> n & 1) mask |= static_cast<T>(ones(GRAIN)) << n * GRAIN;
    to = (to & ~mask) | (v & mask);
}
