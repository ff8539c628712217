// SPDX-License-Identifier: BSD-2-Clause
// Values of the word engine, and what it runs: bits above the width of a value are zero.
#pragma once
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstddef>
#include <cstring>

// Types of literals, so that no overload is ambiguous.
typedef unsigned u32;
typedef unsigned long long u64;
typedef long long s64;

#define INLINE static inline __attribute__((always_inline))

template <int N> struct B {
    u64 w[N];
};

constexpr u64 ones(int n) { return n >= 64 ? ~u64{0} : (u64{1} << n) - 1; }

// Bits START to START + LEN, at most 64.
template <int START, int LEN, int N> INLINE u64 get(const B<N>& a) {
    constexpr int word = START / 64, low = START % 64;
    u64 out = a.w[word] >> low;
    if constexpr (low + LEN > 64) out |= a.w[word + 1] << (64 - low);
    return out & ones(LEN);
}

// Adds LEN bits to bits that are zero.
template <int AT, int LEN, int N> INLINE void put(B<N>& a, u64 v) {
    constexpr int word = AT / 64, low = AT % 64;
    a.w[word] |= v << low;
    if constexpr (low + LEN > 64) a.w[word + 1] |= v >> (64 - low);
}

template <int START, int LEN, int AT, int N, int M>
INLINE void move(B<N>& to, const B<M>& from) {
    constexpr int first = LEN < 64 - AT % 64 ? LEN : 64 - AT % 64;
    put<AT, first>(to, get<START, first>(from));
    if constexpr (LEN > first) move<START + first, LEN - first, AT + first>(to, from);
}

template <int AT, int LEN, int N> INLINE void fill(B<N>& to, u64 bit) {
    constexpr int first = LEN < 64 - AT % 64 ? LEN : 64 - AT % 64;
    put<AT, first>(to, (u64{0} - bit) & ones(first));
    if constexpr (LEN > first) fill<AT + first, LEN - first>(to, bit);
}

// Replaces LEN bits.
template <int AT, int LEN, int N> INLINE void set(B<N>& a, u64 v) {
    constexpr int word = AT / 64, low = AT % 64;
    a.w[word] = (a.w[word] & ~(ones(LEN) << low)) | v << low;
    if constexpr (low + LEN > 64)
        a.w[word + 1] = (a.w[word + 1] & ~ones(low + LEN - 64)) | v >> (64 - low);
}
template <int AT, int LEN, int N, int M> INLINE void set(B<N>& a, const B<M>& v) {
    constexpr int first = LEN < 64 ? LEN : 64;
    set<AT, first>(a, get<0, first>(v));
    if constexpr (LEN > 64) {
        B<M> rest = {};
        move<64, LEN - 64, 0>(rest, v);
        set<AT + 64, LEN - 64>(a, rest);
    }
}

template <int N> INLINE B<N> operator&(const B<N>& a, const B<N>& b) {
    B<N> out;
    for (int n = 0; n < N; n++) out.w[n] = a.w[n] & b.w[n];
    return out;
}
template <int N> INLINE B<N> operator|(const B<N>& a, const B<N>& b) {
    B<N> out;
    for (int n = 0; n < N; n++) out.w[n] = a.w[n] | b.w[n];
    return out;
}
template <int N> INLINE B<N> operator^(const B<N>& a, const B<N>& b) {
    B<N> out;
    for (int n = 0; n < N; n++) out.w[n] = a.w[n] ^ b.w[n];
    return out;
}
template <int N> INLINE u32 any(const B<N>& a) {
    u64 out = 0;
    for (int n = 0; n < N; n++) out |= a.w[n];
    return out != 0;
}
INLINE u32 any(u32 a) { return a != 0; }
INLINE u32 any(u64 a) { return a != 0; }
template <int N> INLINE u32 differ(const B<N>& a, const B<N>& b) { return any(a ^ b); }
INLINE u32 differ(u32 a, u32 b) { return a != b; }
INLINE u32 differ(u64 a, u64 b) { return a != b; }

// Clears bits from W on.
template <int W, int N> INLINE B<N> trim(B<N> a) {
    if constexpr (W % 64) a.w[N - 1] &= ones(W % 64);
    return a;
}
template <int W, int N> INLINE B<N> invert(B<N> a) {
    for (int n = 0; n < N; n++) a.w[n] = ~a.w[n];
    return trim<W>(a);
}
// The lowest W bits, in M words.
template <int W, int M, int N> INLINE B<M> cut(const B<N>& a) {
    B<M> out;
    for (int n = 0; n < M; n++) out.w[n] = a.w[n];
    return trim<W>(out);
}
template <int N> INLINE B<N> add(const B<N>& a, const B<N>& b) {
    B<N> out;
    u64 carry = 0;
    for (int n = 0; n < N; n++) {
        const unsigned __int128 sum = (unsigned __int128)a.w[n] + b.w[n] + carry;
        out.w[n] = (u64)sum;
        carry = (u64)(sum >> 64);
    }
    return out;
}
template <int N> INLINE B<N> subtract(const B<N>& a, const B<N>& b) {
    B<N> out;
    u64 borrow = 0;
    for (int n = 0; n < N; n++) {
        const unsigned __int128 left = (unsigned __int128)a.w[n] - b.w[n] - borrow;
        out.w[n] = (u64)left;
        borrow = (u64)(left >> 64) & 1;
    }
    return out;
}
template <int N> INLINE B<N> multiply(const B<N>& a, const B<N>& b) {
    B<N> out = {};
    for (int i = 0; i < N; i++) {
        u64 carry = 0;
        for (int j = 0; i + j < N; j++) {
            const unsigned __int128 part =
                (unsigned __int128)a.w[i] * b.w[j] + out.w[i + j] + carry;
            out.w[i + j] = (u64)part;
            carry = (u64)(part >> 64);
        }
    }
    return out;
}
template <int N> INLINE B<N> shift_left(const B<N>& a, u64 by) {
    B<N> out;
    const u64 words = by / 64, low = by % 64;
    for (int n = 0; n < N; n++) {
        const s64 from = n - (s64)words;
        u64 v = by < 64 * N && from >= 0 ? a.w[from] << low : 0;
        if (low && by < 64 * N && from >= 1) v |= a.w[from - 1] >> (64 - low);
        out.w[n] = v;
    }
    return out;
}
template <int N> INLINE B<N> shift_right(const B<N>& a, u64 by) {
    B<N> out;
    const u64 words = by / 64, low = by % 64;
    for (int n = 0; n < N; n++) {
        const u64 from = n + words;
        u64 v = from < N ? a.w[from] >> low : 0;
        if (low && from + 1 < N) v |= a.w[from + 1] << (64 - low);
        out.w[n] = v;
    }
    return out;
}
INLINE u32 shift_left(u32 a, u64 by) { return by < 32 ? a << (u32)by : 0; }
INLINE u64 shift_left(u64 a, u64 by) { return by < 64 ? a << by : 0; }
INLINE u32 shift_left(u32 a, u32 by) { return by < 32 ? a << by : 0; }
INLINE u64 shift_left(u64 a, u32 by) { return by < 64 ? a << by : 0; }
INLINE u32 shift_right(u32 a, u64 by) { return by < 32 ? a >> (u32)by : 0; }
INLINE u32 shift_right(u32 a, u32 by) { return by < 32 ? a >> by : 0; }
INLINE u64 shift_right(u64 a, u64 by) { return by < 64 ? a >> by : 0; }
INLINE u64 shift_right(u64 a, u32 by) { return by < 64 ? a >> by : 0; }
INLINE int32_t shift_right(int32_t a, u32 by) { return a >> (by < 32 ? by : 31); }
INLINE int32_t shift_right(int32_t a, u64 by) { return a >> (by < 32 ? (u32)by : 31); }
INLINE s64 shift_right(s64 a, u64 by) { return a >> (by < 64 ? by : 63); }
INLINE s64 shift_right(s64 a, u32 by) { return a >> (by < 64 ? by : 63); }

template <int W> INLINE int32_t signed_of(u32 a) { return (int32_t)(a << (32 - W)) >> (32 - W); }
template <int W> INLINE s64 signed_of(u64 a) { return (s64)(a << (64 - W)) >> (64 - W); }
