// SPDX-License-Identifier: BSD-2-Clause
// A cycle of a block, given its clusters: what they use has changed, or they are not evaluated.
// Marks are rows of WORDS words: clusters of this cycle, of the next, those that change registers
// at the clock edge; then a word of outputs that have changed.
#pragma once

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

void cycle(char* s, char* t, uint64_t* d, const W* live, Context* c) {
    d[3 * WORDS] = 0;
    for (long w = 0; w < WORDS; w++)
        while (uint64_t left = d[w]) {
            d[w] = left & (left - 1);  // a cluster may mark later ones of the same word
            clusters[64 * w + __builtin_ctzll(left)](s, t, d, live, c);
        }
    // Writes have the highest numbers: they use what registers hold before the edge.
    for (long w = WORDS; w--;) {
        uint64_t left = d[2 * WORDS + w];
        d[2 * WORDS + w] = 0;
        while (left) {
            const long bit = 63 - __builtin_clzll(left);
            left ^= 1ull << bit;
            const Edge& e = edges[64 * w + bit];
            if (e.write) e.write(s, t, d);
            else memcpy(s + e.low, t + SHADOW + e.low, e.high - e.low);
        }
        d[w] = d[WORDS + w];
        d[WORDS + w] = 0;
    }
}
}
