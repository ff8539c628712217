// SPDX-License-Identifier: BSD-2-Clause
// Vectors of 16 bytes as GCC's extensions of C++ give them, for any processor.
#pragma once

// Which of the words of a vector are not zero.
template <class X> INLINE unsigned nonzero_(const X& x) { return (x[0] != 0) | (x[1] != 0) << 1; }

// All ones in the elements of lanes that have their bit in m.
template <class T> INLINE V<T> spread(B m) {
    V<T> r;
    if (sizeof(T) == 1) {
        uint64_t* to = (uint64_t*)&r;
        for (int k = 0; k < 8; k++) to[k] = (m >> (8 * k) & 0xff) * 0x0101010101010101ull;
    } else {
        EACH(V<T>::N) r.v[i] = (T)(m >> (V<T>::E * i)) - (typename V<T>::vec){};
    }
    typename V<T>::vec bits;
    EACH(V<T>::E) bits[i] = (T)1 << (i % 8);
    EACH(V<T>::N) r.v[i] = (typename V<T>::vec)((r.v[i] & bits) == bits);
    return r;
}

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

template <class D, class S> struct Cast {
    INLINE V<D> to(const V<S>& a) {
        static const int E = VECTOR / (sizeof(D) > sizeof(S) ? sizeof(D) : sizeof(S));
        typedef S part __attribute__((vector_size(E * sizeof(S)), may_alias));
        typedef D out __attribute__((vector_size(E * sizeof(D)), may_alias));
        V<D> r;
        const part* x = (const part*)&a;
        out* y = (out*)&r;
        EACH(PART / E) y[i] = __builtin_convertvector(x[i], out);
        return r;
    }
};

// The highest bits of elements.
template <class T> INLINE B signs(const V<T>& a) {
    const V<uint8_t> bytes = Cast<uint8_t, T>::to(right<8 * sizeof(T) - 8>(a));
    const uint64_t* x = (const uint64_t*)&bytes;
    B r = 0;
    for (int k = 0; k < 8; k++) r |= ((x[k] >> 7 & 0x0101010101010101ull) * 0x0102040810204080ull >> 56) << (8 * k);
    return r;
}
