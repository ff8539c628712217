// SPDX-License-Identifier: BSD-2-Clause
// What takes or gives a bit of each lane, where the processor has no masks: spread() makes vectors of
// bits, and signs() bits of vectors.
#pragma once

#if LANES > 64
// A compiler keeps vectors that the processor does not have in memory, so a long one is several.
struct W {
    static const int BYTES = LANES / 8 < VECTOR ? LANES / 8 : VECTOR;
    static const int E = BYTES / 8;  // parts in a vector
    static const int N = G / E;      // vectors
    typedef uint64_t vec __attribute__((vector_size(BYTES), may_alias));
    vec v[N];
};
#define WIDE(op) \
    INLINE W operator op(const W& a, const W& b) { \
        W r; \
        EACH(W::N) r.v[i] = a.v[i] op b.v[i]; \
        return r; \
    }
WIDE(&)
WIDE(|)
WIDE(^)
#undef WIDE
INLINE W operator~(const W& a) {
    W r;
    EACH(W::N) r.v[i] = ~a.v[i];
    return r;
}
INLINE W operator+(const W& a, uint64_t x) {
    W r;
    EACH(W::N) r.v[i] = a.v[i] + x;
    return r;
}
INLINE W& operator|=(W& a, const W& b) { return a = a | b; }
INLINE W& operator&=(W& a, const W& b) { return a = a & b; }

INLINE Parts some(const W& x) {
    Parts r = 0;
    EACH(W::N) r |= nonzero_(x.v[i]) << (i * W::E);
    return r;
}
// All ones in some parts.
INLINE W those(Parts parts) {
    static const uint64_t bits[] = {1, 2, 4, 8, 16, 32, 64, 128};
    W r;
    EACH(W::N) {
        const W::vec mine = ((const W::vec*)bits)[i];
        r.v[i] = (W::vec)((((W::vec){} + (uint64_t)parts) & mine) == mine);
    }
    return r;
}
INLINE void keep(W& to, Parts parts, const W& x) {
    const W these = those(parts);
    to = (to & ~these) | (x & these);
}
INLINE void keep_or(W& to, Parts parts, uint64_t bits) { to |= those(parts) & (W{} + bits); }
#endif

template <class T> INLINE V<T> select(B m, const V<T>& a, const V<T>& b) {
    const V<T> k = spread<T>(m);
    V<T> r;
    EACH(V<T>::N) r.v[i] = (a.v[i] & k.v[i]) | (b.v[i] & ~k.v[i]);
    return r;
}
#define COMPARE(name, type, expression) \
    template <class T> INLINE B name(const V<T>& a, const V<T>& b) { \
        V<T> r; \
        EACH(V<T>::N) { \
            typename V<T>::type x = (typename V<T>::type)a.v[i], y = (typename V<T>::type)b.v[i]; \
            r.v[i] = (typename V<T>::vec)(expression); \
        } \
        return signs(r); \
    }
COMPARE(equal, vec, x == y)
COMPARE(below, vec, x < y)
COMPARE(less, svec, x < y)
COMPARE(test, vec, (x & y) != 0)
template <class T> struct Shifted { typedef T type; };
template <> struct Shifted<uint8_t> { typedef uint16_t type; };
template <class T> INLINE B bit(const V<T>& a, int n) {
    // Of bytes only the signs are right: processors do not shift bytes.
    typedef typename V<typename Shifted<T>::type>::vec vec;
    V<T> r;
    EACH(V<T>::N) r.v[i] = (typename V<T>::vec)((vec)a.v[i] << (int)(8 * sizeof(T) - 1 - n));
    return signs(r);
}
template <class T> INLINE V<T> put(B m, const V<T>& a, T bits) {
    const V<T> k = spread<T>(m);
    V<T> r;
    EACH(V<T>::N) r.v[i] = a.v[i] | (k.v[i] & bits);
    return r;
}
INLINE bool any(const Z& z) {
    uint64_t r = 0;
    for (int i = 0; i < VECTOR / 8; i++) r |= z[i];
    return r != 0;
}
