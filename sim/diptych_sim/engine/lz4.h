// SPDX-License-Identifier: BSD-2-Clause
// The two functions of liblz4 that Verilator's FST writer calls, for machines without it.
// Writes the LZ4 block format: greedy matches of at least four bytes, found by a hash table.
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

static inline int LZ4_compressBound(int size) { return size + size / 255 + 16; }

static inline char* diptych_lz4_length(char* out, int rest) {
    for (; rest >= 255; rest -= 255) *out++ = static_cast<char>(255);
    *out++ = static_cast<char>(rest);
    return out;
}

static inline char* diptych_lz4_literals(char* out, const char* from, int count, int match) {
    const int high = count < 15 ? count : 15;
    const int low = match < 15 ? match : 15;
    *out++ = static_cast<char>(high << 4 | low);
    if (high == 15) out = diptych_lz4_length(out, count - 15);
    std::memcpy(out, from, static_cast<size_t>(count));
    return out + count;
}

// The destination must hold LZ4_compressBound(size) bytes.
static inline int LZ4_compress_default(const char* source, char* target, int size, int capacity) {
    if (capacity < LZ4_compressBound(size)) return 0;
    constexpr int bits = 14;
    std::vector<int> seen(1 << bits, -1);
    const auto word = [source](int at) {
        uint32_t value;
        std::memcpy(&value, source + at, sizeof value);
        return value;
    };
    char* out = target;
    int start = 0;
    // The format ends in five literals at least, and no match starts in the last twelve bytes.
    for (int at = 0; at < size - 12;) {
        const uint32_t value = word(at);
        int& slot = seen[(value * 2654435761U) >> (32 - bits)];
        const int before = slot;
        slot = at;
        if (before < 0 || at - before > 65535 || word(before) != value) {
            ++at;
            continue;
        }
        int length = 4;
        while (at + length < size - 5 && source[before + length] == source[at + length]) ++length;
        out = diptych_lz4_literals(out, source + start, at - start, length - 4);
        *out++ = static_cast<char>(at - before);
        *out++ = static_cast<char>((at - before) >> 8);
        if (length - 4 >= 15) out = diptych_lz4_length(out, length - 4 - 15);
        at += length;
        start = at;
    }
    out = diptych_lz4_literals(out, source + start, size - start, 0);
    return static_cast<int>(out - target);
}
