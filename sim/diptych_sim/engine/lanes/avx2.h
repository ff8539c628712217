// SPDX-License-Identifier: BSD-2-Clause
// Vectors of 32 bytes: AVX2.
#pragma once
#include <immintrin.h>

// Which of the words of a vector are not zero.
template <class X> INLINE unsigned nonzero_(const X& x) {
    if constexpr (sizeof(X) == 32) return ~_mm256_movemask_pd((__m256d)(X)(x == X{})) & 15;
    else return ~_mm_movemask_pd((__m128d)(X)(x == X{})) & 3;
}

// All ones in the elements of vector i that have their bit in m.
template <int S> INLINE __m256i spread_(B m, int i) {
    if (S == 1) {
        const __m256i bits = _mm256_set1_epi64x(0x8040201008040201);
        const __m256i place = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
        const __m256i x = _mm256_shuffle_epi8(_mm256_set1_epi32((int)(m >> (32 * i))), place);
        return _mm256_cmpeq_epi8(_mm256_and_si256(x, bits), bits);
    }
    if (S == 2) {
        const __m256i bits = _mm256_setr_epi16(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, -32768);
        return _mm256_cmpeq_epi16(_mm256_and_si256(_mm256_set1_epi16((short)(m >> (16 * i))), bits), bits);
    }
    if (S == 4) {
        const __m256i bits = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
        return _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32((int)(m >> (8 * i))), bits), bits);
    }
    const __m256i bits = _mm256_setr_epi64x(1, 2, 4, 8);
    return _mm256_cmpeq_epi64(_mm256_and_si256(_mm256_set1_epi64x((long long)(m >> (4 * i))), bits), bits);
}
template <class T> INLINE V<T> spread(B m) {
    V<T> r;
    EACH(V<T>::N) r.v[i] = (typename V<T>::vec)spread_<sizeof(T)>(m, i);
    return r;
}

// The highest bits of 32 elements, which are S vectors.
template <int S> INLINE uint32_t signs_(const __m256i* x) {
    if (S == 1) return (uint32_t)_mm256_movemask_epi8(x[0]);
    if (S == 2) return (uint32_t)_mm256_movemask_epi8(_mm256_permute4x64_epi64(_mm256_packs_epi16(x[0], x[1]), 0xd8));
    if (S == 4) {
        const __m256i y = _mm256_packs_epi16(_mm256_packs_epi32(x[0], x[1]), _mm256_packs_epi32(x[2], x[3]));
        return (uint32_t)_mm256_movemask_epi8(_mm256_permutevar8x32_epi32(y, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)));
    }
#define HIGHER(k) _mm256_permute4x64_epi64(_mm256_castps_si256(_mm256_shuffle_ps(_mm256_castsi256_ps(x[k]), _mm256_castsi256_ps(x[k + 1]), 0xdd)), 0xd8)
    const __m256i y[4] = {HIGHER(0), HIGHER(2), HIGHER(4), HIGHER(6)};
#undef HIGHER
    return signs_<4>(y);
}
template <class T> INLINE B signs(const V<T>& a) {
    const __m256i* x = (const __m256i*)&a;
    return signs_<sizeof(T)>(x) | (B)signs_<sizeof(T)>(x + sizeof(T)) << 32;
}

// 16-bit elements are shifted as those of 32 bits, one half after the other, by the counts low and high.
#define SHIFT(name, in16, in32, in64) \
    template <class T> INLINE V<T> name(const V<T>& a, const V<T>& b) { \
        V<T> r; \
        EACH(V<T>::N) { \
            const __m256i x = (__m256i)a.v[i], n = (__m256i)b.v[i]; \
            const __m256i low = _mm256_and_si256(n, _mm256_set1_epi32(0xffff)), high = _mm256_srli_epi32(n, 16); \
            r.v[i] = (typename V<T>::vec)(sizeof(T) == 2 ? in16 : sizeof(T) == 4 ? in32 : in64); \
        } \
        return r; \
    }
#define HALVES(low, high) _mm256_blend_epi16(low, high, 0xaa)
SHIFT(shiftl, HALVES(_mm256_sllv_epi32(x, low), _mm256_sllv_epi32(_mm256_and_si256(x, _mm256_set1_epi32((int)0xffff0000)), high)), _mm256_sllv_epi32(x, n), _mm256_sllv_epi64(x, n))
SHIFT(shiftr, HALVES(_mm256_srlv_epi32(_mm256_and_si256(x, _mm256_set1_epi32(0xffff)), low), _mm256_srlv_epi32(x, high)), _mm256_srlv_epi32(x, n), _mm256_srlv_epi64(x, n))
INLINE __m256i srav_epi64_(__m256i x, __m256i n) {
    const __m256i sign = _mm256_cmpgt_epi64(_mm256_setzero_si256(), x);
    return _mm256_xor_si256(_mm256_srlv_epi64(_mm256_xor_si256(x, sign), n), sign);
}
SHIFT(shifta, HALVES(_mm256_srli_epi32(_mm256_srav_epi32(_mm256_slli_epi32(x, 16), low), 16), _mm256_srav_epi32(x, high)), _mm256_srav_epi32(x, n), srav_epi64_(x, n))
#undef HALVES

#define WIDEN(D, S, load, f) \
    template <> struct Cast<D, S> { \
        INLINE V<D> to(const V<S>& a) { \
            V<D> r; \
            const char* x = (const char*)&a; \
            EACH(V<D>::N) r.v[i] = (V<D>::vec)_mm256_cvt##f(load(x + i * V<D>::E * sizeof(S))); \
            return r; \
        } \
    };
#define LOAD16(p) _mm_loadu_si128((const __m128i*)(p))
#define LOAD8(p) _mm_loadl_epi64((const __m128i*)(p))
#define LOAD4(p) _mm_cvtsi32_si128(*(const int*)(p))
WIDEN(uint16_t, uint8_t, LOAD16, epu8_epi16)
WIDEN(uint32_t, uint8_t, LOAD8, epu8_epi32)
WIDEN(uint64_t, uint8_t, LOAD4, epu8_epi64)
WIDEN(uint32_t, uint16_t, LOAD16, epu16_epi32)
WIDEN(uint64_t, uint16_t, LOAD8, epu16_epi64)
WIDEN(uint64_t, uint32_t, LOAD16, epu32_epi64)
// Two vectors become one; packing works in halves of vectors, so these are put in order.
#define NARROW(D, S, pack) \
    template <> struct Cast<D, S> { \
        INLINE V<D> to(const V<S>& a) { \
            V<D> r; \
            EACH(V<D>::N) { \
                const __m256i x = (__m256i)a.v[2 * i], y = (__m256i)a.v[2 * i + 1]; \
                r.v[i] = (V<D>::vec)_mm256_permute4x64_epi64(pack, 0xd8); \
            } \
            return r; \
        } \
    };
#define LOW(x, f, ones) _mm256_and_si256(x, _mm256_set1_##f(ones))
NARROW(uint8_t, uint16_t, _mm256_packus_epi16(LOW(x, epi16, 0xff), LOW(y, epi16, 0xff)))
NARROW(uint16_t, uint32_t, _mm256_packus_epi32(LOW(x, epi32, 0xffff), LOW(y, epi32, 0xffff)))
NARROW(uint32_t, uint64_t, _mm256_castps_si256(_mm256_shuffle_ps(_mm256_castsi256_ps(x), _mm256_castsi256_ps(y), 0x88)))
#define NARROW_BY(D, M, S) \
    template <> struct Cast<D, S> { \
        INLINE V<D> to(const V<S>& a) { return Cast<D, M>::to(Cast<M, S>::to(a)); } \
    };
NARROW_BY(uint8_t, uint16_t, uint32_t)
NARROW_BY(uint16_t, uint32_t, uint64_t)
NARROW_BY(uint8_t, uint32_t, uint64_t)
