// SPDX-License-Identifier: BSD-2-Clause
// Values of 64 instances at once: a bit of each in a word, or an element of each in vectors.
#pragma once
#include <stdint.h>
#include <string.h>
#if defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#define LANES_AVX512 1
#include <immintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline))

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
#else
typedef uint64_t W __attribute__((vector_size(LANES / 8)));
#if defined(LANES_AVX512)
#if LANES == 512
#define OF(f) _mm512_##f
typedef __m512i Bits;
#elif LANES == 256
#define OF(f) _mm256_##f
typedef __m256i Bits;
#else
#define OF(f) _mm_##f
typedef __m128i Bits;
#endif
INLINE Parts some(const W& x) { return OF(test_epi64_mask)((Bits)x, (Bits)x); }
INLINE void keep(W& to, Parts parts, const W& x) { OF(mask_store_epi64)(&to, parts, (Bits)x); }
INLINE void keep_or(W& to, Parts parts, uint64_t bits) {
    to = (W)OF(mask_or_epi64)((Bits)to, parts, (Bits)to, (Bits)(W{} + bits));
}
#else
INLINE Parts some(const W& x) {
    Parts r = 0;
    for (int j = 0; j < G; j++) r |= (Parts)(x[j] != 0) << j;
    return r;
}
INLINE void keep(W& to, Parts parts, const W& x) {
    for (int j = 0; j < G; j++) to[j] = parts >> j & 1 ? x[j] : to[j];
}
INLINE void keep_or(W& to, Parts parts, uint64_t bits) {
    for (int j = 0; j < G; j++) to[j] |= parts >> j & 1 ? bits : 0;
}
#endif
#endif
// What a cluster is told of parts: nothing new, if there is one.
INLINE Parts told(Parts parts) { return LANES == 64 ? EVERY : parts; }
// Marks clusters in a word of marks, which has all parts side by side.
INLINE void mark(uint64_t* word, Parts parts, uint64_t clusters) {
    keep_or(*(W*)word, parts, clusters);
}
// A vector that is not zero where something has changed.
typedef uint64_t Z __attribute__((vector_size(64), may_alias));
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
    typedef T vec __attribute__((vector_size(64), may_alias));
    typedef typename Signed<T>::type svec __attribute__((vector_size(64), may_alias));
    static const int N = sizeof(T);  // vectors
    static const int E = 64 / sizeof(T);  // elements of each
    vec v[N];
};

#define EACH(N) _Pragma("GCC unroll 8") for (int i = 0; i < (N); i++)

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
// Sign-extends W bits to all of T.
template <int W, class T> INLINE V<T> extend(const V<T>& a) {
    const int S = 8 * sizeof(T) - W;
    if (S == 0) return a;
    V<T> r;
    EACH(V<T>::N) r.v[i] = (typename V<T>::vec)((typename V<T>::svec)(a.v[i] << S) >> S);
    return r;
}

#ifdef LANES_AVX512
template <int S> INLINE __m512i blend_(B m, int i, __m512i b, __m512i a) {
    if (S == 1) return _mm512_mask_blend_epi8(m, b, a);
    if (S == 2) return _mm512_mask_blend_epi16((__mmask32)(m >> (32 * i)), b, a);
    if (S == 4) return _mm512_mask_blend_epi32((__mmask16)(m >> (16 * i)), b, a);
    return _mm512_mask_blend_epi64((__mmask8)(m >> (8 * i)), b, a);
}
template <class T> INLINE V<T> select(B m, const V<T>& a, const V<T>& b) {
    V<T> r;
    EACH(V<T>::N) r.v[i] = (typename V<T>::vec)blend_<sizeof(T)>(m, i, (__m512i)b.v[i], (__m512i)a.v[i]);
    return r;
}
#define COMPARE(name, f) \
    template <class T> INLINE B name(const V<T>& a, const V<T>& b) { \
        B r = 0; \
        EACH(V<T>::N) { \
            __m512i x = (__m512i)a.v[i], y = (__m512i)b.v[i]; \
            if (sizeof(T) == 1) r = _mm512_##f##8_mask(x, y); \
            else if (sizeof(T) == 2) r |= (B)_mm512_##f##16_mask(x, y) << (32 * i); \
            else if (sizeof(T) == 4) r |= (B)_mm512_##f##32_mask(x, y) << (16 * i); \
            else r |= (B)_mm512_##f##64_mask(x, y) << (8 * i); \
        } \
        return r; \
    }
COMPARE(equal, cmpeq_epu)
COMPARE(below, cmplt_epu)
COMPARE(less, cmplt_epi)
COMPARE(test, test_epi)
#define SHIFT(name, f, U) \
    template <class T> INLINE V<T> name(const V<T>& a, const V<T>& n) { \
        V<T> r; \
        EACH(V<T>::N) { \
            __m512i x = (__m512i)a.v[i], y = (__m512i)n.v[i]; \
            if (sizeof(T) == 2) r.v[i] = (typename V<T>::vec)_mm512_##f##_epi16(x, y); \
            else if (sizeof(T) == 4) r.v[i] = (typename V<T>::vec)_mm512_##f##_epi32(x, y); \
            else r.v[i] = (typename V<T>::vec)_mm512_##f##_epi64(x, y); \
        } \
        return r; \
    }
SHIFT(shiftl, sllv, )
SHIFT(shiftr, srlv, )
SHIFT(shifta, srav, )
#else
template <class T> INLINE V<T> mask_(B m) {
    V<T> r;
    T* p = (T*)&r;
    for (int k = 0; k < PART; k++) p[k] = (T)-(T)(m >> k & 1);
    return r;
}
template <class T> INLINE V<T> select(B m, const V<T>& a, const V<T>& b) {
    V<T> k = mask_<T>(m), r;
    EACH(V<T>::N) r.v[i] = (a.v[i] & k.v[i]) | (b.v[i] & ~k.v[i]);
    return r;
}
template <class T, class X> INLINE B bits_(const X* c) {
    B r = 0;
    const T* p = (const T*)c;
    for (int k = 0; k < PART; k++) r |= (B)(p[k] & 1) << k;
    return r;
}
#define COMPARE(name, type, expression) \
    template <class T> INLINE B name(const V<T>& a, const V<T>& b) { \
        V<T> r; \
        EACH(V<T>::N) { \
            typename V<T>::type x = (typename V<T>::type)a.v[i], y = (typename V<T>::type)b.v[i]; \
            r.v[i] = (typename V<T>::vec)(expression); \
        } \
        return bits_<T>(&r); \
    }
COMPARE(equal, vec, x == y)
COMPARE(below, vec, x < y)
COMPARE(less, svec, x < y)
COMPARE(test, vec, (x & y) != 0)
#define SHIFT(name, type, beyond, op) \
    template <class T> INLINE V<T> name(const V<T>& a, const V<T>& n) { \
        V<T> r; \
        const T *x = (const T*)&a, *y = (const T*)&n; \
        const T W = 8 * sizeof(T); \
        for (int k = 0; k < PART; k++) { \
            type s = (type)x[k]; \
            ((T*)&r)[k] = y[k] < W ? (T)(s op y[k]) : (T)(beyond); \
        } \
        return r; \
    }
SHIFT(shiftl, T, 0, <<)
SHIFT(shiftr, T, 0, >>)
SHIFT(shifta, typename Signed<T>::type, s < 0 ? -1 : 0, >>)
#endif

template <class T> INLINE void differ(Z& z, const V<T>& a, const V<T>& b) {
    EACH(V<T>::N) z |= (Z)(a.v[i] ^ b.v[i]);
}
#ifdef LANES_AVX512
static inline bool any(const Z& z) { return _mm512_test_epi64_mask((__m512i)z, (__m512i)z); }
#else
static inline bool any(const Z& z) {
    uint64_t r = 0;
    for (int i = 0; i < 8; i++) r |= z[i];
    return r != 0;
}
#endif
template <class T> INLINE B nonzero(const V<T>& a) { return test(a, a); }
template <class T> INLINE B bit(const V<T>& a, int n) { return test(a, all<T>((T)((T)1 << n))); }
// Sets bits that a does not have, where m.
#ifdef LANES_AVX512
template <int S> INLINE __m512i put_(__m512i a, B m, int i, __m512i b) {
    if (S == 1) return _mm512_mask_add_epi8(a, m, a, b);
    if (S == 2) return _mm512_mask_add_epi16(a, (__mmask32)(m >> (32 * i)), a, b);
    if (S == 4) return _mm512_mask_or_epi32(a, (__mmask16)(m >> (16 * i)), a, b);
    return _mm512_mask_or_epi64(a, (__mmask8)(m >> (8 * i)), a, b);
}
template <class T> INLINE V<T> put(B m, const V<T>& a, T bits) {
    const V<T> b = all<T>(bits);
    V<T> r;
    EACH(V<T>::N) r.v[i] = (typename V<T>::vec)put_<sizeof(T)>((__m512i)a.v[i], m, i, (__m512i)b.v[i]);
    return r;
}
#else
template <class T> INLINE V<T> put(B m, const V<T>& a, T bits) {
    return select(m, bor(a, all<T>(bits)), a);
}
#endif

#ifdef LANES_AVX512
// Compilers convert short vectors element by element, so these are spelled out. A chunk has the
// elements of one wide vector.
#define WIDEN(D, S, load, f) \
    template <> struct Cast<D, S> { \
        INLINE V<D> to(const V<S>& a) { \
            V<D> r; \
            const char* x = (const char*)&a; \
            EACH(V<D>::N) r.v[i] = (V<D>::vec)_mm512_cvt##f(load(x + i * V<D>::E * sizeof(S))); \
            return r; \
        } \
    };
#define NARROW(D, S, store, f) \
    template <> struct Cast<D, S> { \
        INLINE V<D> to(const V<S>& a) { \
            V<D> r; \
            char* x = (char*)&r; \
            EACH(V<S>::N) store(x + i * V<S>::E * sizeof(D), _mm512_cvt##f((__m512i)a.v[i])); \
            return r; \
        } \
    };
#define LOAD32(p) _mm256_loadu_si256((const __m256i*)(p))
#define LOAD16(p) _mm_loadu_si128((const __m128i*)(p))
#define LOAD8(p) _mm_loadl_epi64((const __m128i*)(p))
#define STORE32(p, x) _mm256_storeu_si256((__m256i*)(p), x)
#define STORE16(p, x) _mm_storeu_si128((__m128i*)(p), x)
#define STORE8(p, x) _mm_storel_epi64((__m128i*)(p), x)
template <class D, class S> struct Cast;
WIDEN(uint16_t, uint8_t, LOAD32, epu8_epi16)
WIDEN(uint32_t, uint8_t, LOAD16, epu8_epi32)
WIDEN(uint64_t, uint8_t, LOAD8, epu8_epi64)
WIDEN(uint32_t, uint16_t, LOAD32, epu16_epi32)
WIDEN(uint64_t, uint16_t, LOAD16, epu16_epi64)
WIDEN(uint64_t, uint32_t, LOAD32, epu32_epi64)
NARROW(uint8_t, uint16_t, STORE32, epi16_epi8)
NARROW(uint8_t, uint32_t, STORE16, epi32_epi8)
NARROW(uint8_t, uint64_t, STORE8, epi64_epi8)
NARROW(uint16_t, uint32_t, STORE32, epi32_epi16)
NARROW(uint16_t, uint64_t, STORE16, epi64_epi16)
NARROW(uint32_t, uint64_t, STORE32, epi64_epi32)
#else
template <class D, class S> struct Cast {
    INLINE V<D> to(const V<S>& a) {
        V<D> r;
        typedef S part __attribute__((vector_size(sizeof(D) > sizeof(S) ? 64 * sizeof(S) / sizeof(D) : 64), may_alias));
        typedef D out __attribute__((vector_size(sizeof(D) > sizeof(S) ? 64 : 64 * sizeof(D) / sizeof(S)), may_alias));
        const part* x = (const part*)&a;
        out* y = (out*)&r;
        EACH((int)(sizeof(V<D>) / sizeof(out))) y[i] = __builtin_convertvector(x[i], out);
        return r;
    }
};
#endif
template <class T> struct Cast<T, T> {
    INLINE const V<T>& to(const V<T>& a) { return a; }
};
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
