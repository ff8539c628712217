// SPDX-License-Identifier: BSD-2-Clause
// Values of 64 instances at once: a bit of each in a word, or an element of each in vectors.
#pragma once
#include <stdint.h>
#include <string.h>

// Bytes of a vector.
#if defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#define VECTOR 64
#elif defined(__AVX2__)
#define VECTOR 32
#else
#define VECTOR 16
#endif

#define INLINE static inline __attribute__((always_inline))

#define EACH(N) _Pragma("GCC unroll 8") for (int i = 0; i < (N); i++)

// A block has LANES lanes, in parts of 64. B is a bit of each lane of a part, W of a block; Parts
// has a bit for each part.
typedef uint64_t B;
typedef unsigned Parts;
static const int PART = 64;
static const int G = LANES / 64;
static const Parts EVERY = (1u << G) - 1;
#if LANES == 64
typedef uint64_t W;
// Parts in which a bit is set.
INLINE Parts some(W x) { return x != 0; }
// Replaces what some parts have; there is one at least.
INLINE void keep(W& to, Parts, W x) { to = x; }
INLINE void keep_or(W& to, Parts, uint64_t bits) { to |= bits; }
#elif VECTOR == 64
typedef uint64_t W __attribute__((vector_size(LANES / 8)));
#else
struct W;
#endif
// A vector that is not zero where something has changed.
typedef uint64_t Z __attribute__((vector_size(VECTOR), may_alias));
#if LANES == 64
#define PARTS for (int j = 0; j < 1; j++)
#else
#define PARTS for (Parts rest_ = parts, j = 0; rest_ && (j = __builtin_ctz(rest_), true); rest_ &= rest_ - 1)
#endif
template <class T> struct Signed;
template <> struct Signed<uint8_t> { typedef int8_t type; };
template <> struct Signed<uint16_t> { typedef int16_t type; };
template <> struct Signed<uint32_t> { typedef int32_t type; };
template <> struct Signed<uint64_t> { typedef int64_t type; };

template <class T> struct V {
    typedef T vec __attribute__((vector_size(VECTOR), may_alias));
    typedef typename Signed<T>::type svec __attribute__((vector_size(VECTOR), may_alias));
    static const int N = PART * sizeof(T) / VECTOR;  // vectors
    static const int E = VECTOR / sizeof(T);  // elements of each
    vec v[N];
};

template <class T> INLINE V<T> all(T x) {
    V<T> r;
    EACH(V<T>::N) r.v[i] = x - (typename V<T>::vec){};
    return r;
}
#define BINARY(name, op) \
    template <class T> INLINE V<T> name(const V<T>& a, const V<T>& b) { \
        V<T> r; \
        EACH(V<T>::N) r.v[i] = a.v[i] op b.v[i]; \
        return r; \
    }
BINARY(add, +)
BINARY(sub, -)
BINARY(mul, *)
BINARY(band, &)
BINARY(bor, |)
BINARY(bxor, ^)
template <class T> INLINE V<T> band(const V<T>& a, T m) {
    V<T> r;
    EACH(V<T>::N) r.v[i] = a.v[i] & m;
    return r;
}
template <int S, class T> INLINE V<T> left(const V<T>& a) {
    V<T> r;
    EACH(V<T>::N) r.v[i] = a.v[i] << S;
    return r;
}
template <int S, class T> INLINE V<T> right(const V<T>& a) {
    V<T> r;
    EACH(V<T>::N) r.v[i] = a.v[i] >> S;
    return r;
}
// Sign-extends W bits, the only ones that are set, to all of T.
template <int W, class T> INLINE V<T> extend(const V<T>& a) {
    const T sign = (T)1 << (W - 1);
    V<T> r;
    EACH(V<T>::N) r.v[i] = (a.v[i] ^ sign) - sign;
    return r;
}

template <class T> INLINE void differ(Z& z, const V<T>& a, const V<T>& b) {
    EACH(V<T>::N) z |= (Z)(a.v[i] ^ b.v[i]);
}

// Converts elements of type S to those of type D; higher bits are dropped, or zero.
template <class D, class S> struct Cast;
template <class T> struct Cast<T, T> {
    INLINE const V<T>& to(const V<T>& a) { return a; }
};

// For a kind of vectors each of these has Cast and, of V<T> a, b and bits m of lanes: select(m, a, b); the
// bits of equal(), below() without sign, less() with sign, test(a & b), bit(a, n); shiftl, shiftr and shifta(a, by
// b), bytes excepted; put(m, a, value), which sets bits that a does not have where m; any(Z). Of a block with
// several parts: some(W), the parts that are not zero; keep(to, parts, W) and keep_or(to, parts, word).
#if VECTOR == 64
#include "avx512.h"
#elif VECTOR == 32
#include "avx2.h"
#else
#include "portable.h"
#endif
#if VECTOR < 64
#include "masks.h"
#endif

// What a cluster is told of parts: nothing new, if there is one.
INLINE Parts told(Parts parts) { return LANES == 64 ? EVERY : parts; }
// Marks clusters in a word of marks, which has all parts side by side.
INLINE void mark(uint64_t* word, Parts parts, uint64_t clusters) {
    keep_or(*(W*)word, parts, clusters);
}

template <class T> INLINE B nonzero(const V<T>& a) { return test(a, a); }
template <class D, class S> INLINE V<D> cast(const V<S>& a) { return Cast<D, S>::to(a); }

#define EACH_SET(m, k) for (B left_ = (m); left_ && ((k) = __builtin_ctzll(left_), true); left_ &= left_ - 1)

// Looks up a word for each lane in m of a part; memories keep the lanes of an address together.
template <class T, class A> INLINE void look_up(B m, const T* words, uint32_t depth, const V<A>& address, V<T>& out) {
    const A* at = (const A*)&address;
    T* to = (T*)&out;
    A first = at[__builtin_ctzll(m)];
    if (m & (m - 1) && (equal(address, all<A>(first)) & m) == m) {
        if (first < depth) out = select(m, *(const V<T>*)(words + (size_t)first * LANES), out);
        else out = select(m, all<T>(0), out);
        return;
    }
    int k;
    EACH_SET(m, k) to[k] = at[k] < depth ? words[(size_t)at[k] * LANES + k] : 0;
}
template <class T, class A> INLINE void look_up_shared(B m, const T* words, uint32_t depth, const V<A>& address, V<T>& out) {
    const A* at = (const A*)&address;
    T* to = (T*)&out;
    int k;
    EACH_SET(m, k) to[k] = at[k] < depth ? words[at[k]] : 0;
}
