// SPDX-License-Identifier: BSD-2-Clause
// A cycle of a block, given its clusters: what they use has changed, or they are not evaluated.
// Marks are rows of WORDS words, each word for all parts: clusters of this cycle, of the next, those
// that change registers at the clock edge, those that let counters grow in a block that only counts;
// then a word of outputs that have changed.
#pragma once

static W& word(uint64_t* d, long row, long w) { return *(W*)(d + (row * WORDS + w) * G); }

// Clusters that are marked in any part.
INLINE uint64_t any_part(const W& x) {
    uint64_t r = 0;
    for (int j = 0; j < G; j++) r |= ((const uint64_t*)&x)[j];
    return r;
}

// Gives registers of some parts their next values.
static void take_next(const Edge& e, char* s, const char* t, Parts parts) {
    if (parts == EVERY) {
        for (long at = e.low; at < e.high; at += VECTOR) *(Z*)(s + at) = *(const Z*)(t + SHADOW + at);
        return;
    }
    for (long at = e.low; at < e.bits; at += sizeof(W)) keep(*(W*)(s + at), parts, *(const W*)(t + SHADOW + at));
    for (long n = e.first; n < e.last; n++) {
        const long size = pieces[n].size * PART;
        PARTS {
            const long at = pieces[n].at + j * size;
            for (long k = 0; k < size; k += VECTOR) *(Z*)(s + at + k) = *(const Z*)(t + SHADOW + at + k);
        }
    }
}

// What a block does at the clock edge.
static void edge(char* s, char* t, uint64_t* d) {
    // Writes have the highest numbers: they use what registers hold before the edge.
    for (long w = WORDS; w--;) {
        const W marks = word(d, 2, w);
        word(d, 2, w) = W{};
        for (uint64_t left = any_part(marks); left;) {
            const long k = 63 - __builtin_clzll(left);
            left ^= 1ull << k;
            const Parts parts = some(marks & (W{} + (1ull << k)));
            const Edge& e = edges[64 * w + k];
            if (e.write) e.write(s, t, d, parts);
            else take_next(e, s, t, parts);
        }
        word(d, 0, w) = word(d, 1, w);
        word(d, 1, w) = W{};
    }
}

// Lets counters of some parts grow as in so many cycles.
template <class T> static void grow(char* s, const char* t, const Piece& p, Parts parts, long cycles) {
    typedef typename V<T>::vec vec;
    const T ones = (T)(p.bits == 8 * sizeof(T) ? ~0ull : (1ull << p.bits) - 1);
    PARTS {
        vec* to = (vec*)(s + p.at + j * p.size * PART);
        const vec* next = (const vec*)(t + SHADOW + p.at + j * p.size * PART);
        EACH(V<T>::N) to[i] = (to[i] + (next[i] - to[i]) * (T)cycles) & ones;
    }
}

// Ends the rest of a block that only counted: its counters are what they are in the cycle now.
static void wake(char* s, const char* t, uint64_t* d, long cycles) {
    for (long w = 0; w < WORDS; w++) {
        const W held = word(d, 3, w);
        word(d, 3, w) = W{};
        word(d, 0, w) |= held;
        for (uint64_t left = any_part(held); left; left &= left - 1) {
            const long k = __builtin_ctzll(left);
            const Parts parts = some(held & (W{} + (1ull << k)));
            const Edge& e = edges[64 * w + k];
            for (long n = e.first; n < e.last; n++) {
                const Piece& p = pieces[n];
                if (p.size == 1) grow<uint8_t>(s, t, p, parts, cycles);
                else if (p.size == 2) grow<uint16_t>(s, t, p, parts, cycles);
                else if (p.size == 4) grow<uint32_t>(s, t, p, parts, cycles);
                else grow<uint64_t>(s, t, p, parts, cycles);
            }
        }
    }
}

// Whether a block does nothing but count, from this cycle on; then it rests.
static bool rests(uint64_t* d) {
    W others = W{}, any = W{};
    for (long w = 0; w < WORDS; w++) {
        const W marks = word(d, 1, w) | word(d, 2, w);
        others |= marks & ~(W{} + counting[w]);
        any |= marks;
    }
    if (some(others) || !some(any)) return false;
    for (long w = 0; w < WORDS; w++) {
        word(d, 3, w) = word(d, 2, w);
        word(d, 1, w) = word(d, 2, w) = W{};
    }
    return true;
}

// Brings the code of a cluster, or most of it, near: processors see no further than a call.
static void fetch_ahead(long k) {
    const char* code = (const char*)clusters[k];
    for (long n = 0; n < 1024; n += 64) __builtin_prefetch(code + n);
}

// Evaluates the marked clusters of a block. A cluster marks others of the same word, but only later ones.
static void evaluate(Blocks* g, long b, Context* c) {
    char *s = g->state(b), *t = g->kept(b);
    uint64_t* d = g->marks(b);
    const B* live = (const B*)g->live(b);
    c->block = b;
    for (long w = 0; w < WORDS; w++) {
        W& marks = word(d, 0, w);
        while (const uint64_t marked = any_part(marks)) {
            const W bit = W{} + (marked & -marked);
            const Parts parts = some(marks & bit);
            marks &= ~bit;
            if (const uint64_t next = LANES > 64 ? marked & (marked - 1) : 0) fetch_ahead(64 * w + __builtin_ctzll(next));
            clusters[64 * w + __builtin_ctzll(marked)](s, t, d, live, c, parts);
        }
    }
}

// The same of several blocks, cluster by cluster, as all of the code is more than a cache has.
static void evaluate(Blocks* g, const long* blocks, long count, Context* c) {
    for (long w = 0; w < WORDS; w++) {
        for (uint64_t left = ~0ull; left;) {
            W all = W{};
            for (long n = 0; n < count; n++) all |= word(g->marks(blocks[n]), 0, w);
            const uint64_t marked = any_part(all) & left;
            if (!marked) break;
            const uint64_t bit = marked & -marked;
            left = ~(bit | (bit - 1));
            const long k = 64 * w + __builtin_ctzll(bit);
            if (const uint64_t next = LANES > 64 ? marked ^ bit : 0) fetch_ahead(64 * w + __builtin_ctzll(next));
            for (long n = 0; n < count; n++) {
                const long b = blocks[n];
                uint64_t* d = g->marks(b);
                W& marks = word(d, 0, w);
                const Parts parts = some(marks & (W{} + bit));
                if (!parts) continue;
                marks &= ~(W{} + bit);
                c->block = b;
                clusters[k](g->state(b), g->kept(b), d, (const B*)g->live(b), c, parts);
            }
        }
    }
}

extern "C" {
long mark_words() { return (4 * WORDS + 1) * G; }

// Marks all, after a change from outside.
void touch_block(uint64_t* d) {
    for (long k = 0; k < COUNT; k++) mark(d + k / 64 * G, EVERY, 1ull << (k % 64));
    mark(d + 4 * WORDS * G, EVERY, ~0ull);
}

// Gives the counters of a block the values of the cycle now.
void settle_block(Blocks* g, long b, long now) {
    if (g->since[b] >= 0) wake(g->state(b), g->kept(b), g->marks(b), now - g->since[b]);
    g->since[b] = -1;
}

// Marks what uses an input, after it has changed in a part.
void mark_input(uint64_t* d, long input, long part) {
    for (long w = 0; w < WORDS; w++) d[w * G + part] |= inputs[input][w];
}

// Computes a cycle of some blocks. Returns how many of them do not rest from now on.
long cycle(Blocks* g, long first, long last, Context* c) {
    long active[last - first + 1];
    long count = 0;
    for (long b = first; b < last; b++) {
        uint64_t* d = g->marks(b);
        word(d, 4, 0) = W{};
        W any = W{};
        for (long w = 0; w < 3 * WORDS; w++) any |= word(d, 0, w);  // rows follow each other
        if (!some(any)) continue;  // a block without a mark stays as it is
        settle_block(g, b, c->now);
        active[count++] = b;
    }
    if (count == 1) evaluate(g, active[0], c);
    else if (count) evaluate(g, active, count, c);
    long busy = 0;
    for (long n = 0; n < count; n++) {
        const long b = active[n];
        if (g->rests && rests(g->marks(b))) {
            g->since[b] = c->now;
            continue;
        }
        edge(g->state(b), g->kept(b), g->marks(b));
        busy++;
    }
    return busy;
}
}
