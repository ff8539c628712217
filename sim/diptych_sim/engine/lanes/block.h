// SPDX-License-Identifier: BSD-2-Clause
// A cycle of a block, given its clusters: what they use has changed, or they are not evaluated.
// Marks are rows of WORDS words: clusters of this cycle, of the next, those that change registers
// at the clock edge; then a word of outputs that have changed.
#pragma once

// What a block does at the clock edge.
static void edge(char* s, char* t, uint64_t* d) {
    // Writes have the highest numbers: they use what registers hold before the edge.
    for (long w = WORDS; w--;) {
        uint64_t left = d[2 * WORDS + w];
        d[2 * WORDS + w] = 0;
        while (left) {
            const long bit = 63 - __builtin_clzll(left);
            left ^= 1ull << bit;
            const Edge& e = edges[64 * w + bit];
            if (e.write) e.write(s, t, d);
            else
                for (long at = e.low; at < e.high; at += 64) *(Z*)(s + at) = *(const Z*)(t + SHADOW + at);
        }
        d[w] = d[WORDS + w];
        d[WORDS + w] = 0;
    }
}

extern "C" {
long mark_words() { return 3 * WORDS + 1; }

// Marks all, after a change from outside.
void touch_block(uint64_t* d) {
    for (long k = 0; k < COUNT; k++) d[k / 64] |= 1ull << (k % 64);
    d[3 * WORDS] = ~0ull;
}

// Marks what uses an input, after it has changed.
void mark_input(uint64_t* d, long input) {
    for (long w = 0; w < WORDS; w++) d[w] |= inputs[input][w];
}

// Computes a cycle of some blocks: cluster by cluster, as all of the code is more than a cache has.
void cycle(Blocks* g, long first, long last, Context* c) {
    long active[last - first + 1];
    long count = 0;
    for (long b = first; b < last; b++) {
        uint64_t* d = g->marks(b);
        d[3 * WORDS] = 0;
        uint64_t any = 0;
        for (long w = 0; w < 3 * WORDS; w++) any |= d[w];
        active[count] = b;
        count += any != 0;  // a block without a mark stays as it is
    }
    for (long w = 0; w < WORDS && count; w++) {
        // A cluster marks others of the same word, but only later ones.
        for (uint64_t left = ~0ull; left;) {
            uint64_t some = 0;
            for (long n = 0; n < count; n++) some |= g->marks(active[n])[w];
            some &= left;
            if (!some) break;
            const uint64_t bit = some & -some;
            left = ~(bit | (bit - 1));
            const long k = 64 * w + __builtin_ctzll(bit);
            for (long n = 0; n < count; n++) {
                const long b = active[n];
                uint64_t* d = g->marks(b);
                if (!(d[w] & bit)) continue;
                d[w] &= ~bit;
                c->block = b;
                clusters[k](g->state(b), g->kept(b), d, (const W*)g->live(b), c);
            }
        }
    }
    for (long n = 0; n < count; n++) {
        const long b = active[n];
        edge(g->state(b), g->kept(b), g->marks(b));
    }
}
}
