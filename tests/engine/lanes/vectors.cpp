// SPDX-License-Identifier: BSD-2-Clause
// Operations on lanes beside the same for one lane after the other.
#include <stdio.h>

#include "lanes.h"

static uint64_t state;
static uint64_t random_word() {
    state += 0x9e3779b97f4a7c15ull;
    uint64_t z = (state ^ state >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}
// Values of all sizes, equal ones and the limits among them.
template <class T> static T random_value() {
    const uint64_t x = random_word();
    switch (x & 7) {
    case 0: return (T)(x >> 3 & 3);
    case 1: return (T)~(x >> 3 & 3);
    case 2: return (T)((T)1 << (8 * sizeof(T) - 1)) + (T)(x >> 3 & 3) - 1;
    }
    return (T)(x >> (3 + (x >> 3 & 60) % (8 * sizeof(T))));
}
template <class T> static V<T> random_vector() {
    V<T> r;
    for (int k = 0; k < PART; k++) ((T*)&r)[k] = random_value<T>();
    return r;
}
template <class T> static T lane(const V<T>& a, int k) { return ((const T*)&a)[k]; }

static char* lines;  // those that differ
static long room;
static void report(const char* what, int bytes, int k, uint64_t found, uint64_t expected) {
    if (found == expected || room < 100) return;
    const int n = snprintf(lines, room, "%s of %d bytes, lane %d: %llx, not %llx\n", what, bytes, k, (unsigned long long)found, (unsigned long long)expected);
    lines += n;
    room -= n;
}
#define VALUES(what, found, expected) \
    { \
        const auto found_ = found; \
        for (int k = 0; k < PART; k++) report(what, sizeof(T), k, lane(found_, k), (decltype(lane(found_, k)))(expected)); \
    }
#define BITS(what, found, expected) \
    { \
        const B found_ = found; \
        for (int k = 0; k < PART; k++) report(what, sizeof(T), k, found_ >> k & 1, expected); \
    }

template <class T, class D> static void check_cast() {
    const V<T> a = random_vector<T>();
    VALUES("cast", (cast<D>(a)), lane(a, k))
}
template <class T> static void check_shifts() {
    typedef typename Signed<T>::type S;
    const int width = 8 * sizeof(T);
    const V<T> a = random_vector<T>();
    V<T> n;
    for (int k = 0; k < PART; k++) ((T*)&n)[k] = k % 4 ? random_word() % (width + 2) : random_value<T>();
    VALUES("shiftl", shiftl(a, n), lane(n, k) < width ? (T)(lane(a, k) << lane(n, k)) : 0)
    VALUES("shiftr", shiftr(a, n), lane(n, k) < width ? lane(a, k) >> lane(n, k) : 0)
    VALUES("shifta", shifta(a, n), (S)lane(a, k) >> (lane(n, k) < width ? lane(n, k) : width - 1))
    VALUES("mul", mul(a, n), (T)((uint64_t)lane(a, k) * lane(n, k)))
}
template <> void check_shifts<uint8_t>() {}  // there are none on bytes

template <class T> static void check() {
    typedef typename Signed<T>::type S;
    const V<T> a = random_vector<T>(), b = random_vector<T>();
    const B m = random_word();
    const T value = random_value<T>();
    const int bit_ = random_word() % (8 * sizeof(T));
    VALUES("all", all<T>(value), value)
    VALUES("add", add(a, b), lane(a, k) + lane(b, k))
    VALUES("sub", sub(a, b), lane(a, k) - lane(b, k))
    VALUES("band", band(a, b), lane(a, k) & lane(b, k))
    VALUES("bor", bor(a, b), lane(a, k) | lane(b, k))
    VALUES("bxor", bxor(a, b), lane(a, k) ^ lane(b, k))
    VALUES("left", left<3>(a), (T)(lane(a, k) << 3))
    VALUES("right", right<3>(a), lane(a, k) >> 3)
    VALUES("extend", (extend<5>(band<T>(a, 31))), (T)((lane(a, k) & 15) - (lane(a, k) & 16)))
    VALUES("extend", (extend<8 * sizeof(T)>(a)), lane(a, k))
    VALUES("select", select(m, a, b), m >> k & 1 ? lane(a, k) : lane(b, k))
    const V<T> none = band<T>(a, (T)~((T)1 << bit_));
    VALUES("put", put<T>(m, none, (T)((T)1 << bit_)), lane(none, k) | (T)((m >> k & 1) << bit_))
    BITS("equal", equal(a, b), lane(a, k) == lane(b, k))
    BITS("below", below(a, b), lane(a, k) < lane(b, k))
    BITS("less", less(a, b), (S)lane(a, k) < (S)lane(b, k))
    BITS("test", test(a, b), (lane(a, k) & lane(b, k)) != 0)
    BITS("nonzero", nonzero(a), lane(a, k) != 0)
    BITS("bit", bit(a, bit_), lane(a, k) >> bit_ & 1)
    Z z = {};
    differ(z, a, a);
    report("any", sizeof(T), 0, any(z), 0);
    V<T> other = a;
    ((T*)&other)[random_word() % PART] ^= (T)1 << bit_;
    differ(z, a, other);
    report("any", sizeof(T), 0, any(z), 1);
    check_cast<T, uint8_t>();
    check_cast<T, uint16_t>();
    check_cast<T, uint32_t>();
    check_cast<T, uint64_t>();
    check_shifts<T>();
}
// Of a block's parts.
static void check_parts() {
    W x, to;
    for (int j = 0; j < G; j++) ((uint64_t*)&x)[j] = random_word() & 1 ? random_word() : 0, ((uint64_t*)&to)[j] = random_word();
    const Parts parts = told(random_word() % EVERY + 1);
    const uint64_t bits = random_word();
    W kept = to, marked = to;
    const W both = x & to, either = x | to, one = x ^ to, inverse = ~x, sum = x + bits;
    keep(kept, parts, x);
    mark((uint64_t*)&marked, parts, bits);
    for (int j = 0; j < G; j++) {
        const uint64_t before = ((uint64_t*)&to)[j], now = ((uint64_t*)&x)[j];
        const bool in = parts >> j & 1;
        report("&", 8, j, ((uint64_t*)&both)[j], now & before);
        report("|", 8, j, ((uint64_t*)&either)[j], now | before);
        report("^", 8, j, ((uint64_t*)&one)[j], now ^ before);
        report("~", 8, j, ((uint64_t*)&inverse)[j], ~now);
        report("+", 8, j, ((uint64_t*)&sum)[j], now + bits);
        report("some", 8, j, some(x) >> j & 1, now != 0);
        report("keep", 8, j, ((uint64_t*)&kept)[j], in ? now : before);
        report("mark", 8, j, ((uint64_t*)&marked)[j], in ? before | bits : before);
    }
}

extern "C" void check(uint64_t seed, long rounds, char* out, long size) {
    state = seed;
    lines = out;
    room = size;
    while (rounds--) {
        check_parts();
#if LANES == 64
        check<uint8_t>();
        check<uint16_t>();
        check<uint32_t>();
        check<uint64_t>();
#endif
    }
}
