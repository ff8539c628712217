// SPDX-License-Identifier: BSD-2-Clause
// Vectors of 64 bytes, and masks of their elements: AVX-512.
#pragma once
#include <immintrin.h>

#if LANES > 64
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
#endif

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
template <class T> INLINE B bit(const V<T>& a, int n) { return test(a, all<T>((T)((T)1 << n))); }
#define SHIFT(name, f) \
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
SHIFT(shiftl, sllv)
SHIFT(shiftr, srlv)
SHIFT(shifta, srav)

INLINE bool any(const Z& z) { return _mm512_test_epi64_mask((__m512i)z, (__m512i)z); }

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
