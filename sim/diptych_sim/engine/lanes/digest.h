// SPDX-License-Identifier: BSD-2-Clause
// Part of the driver: a number for the registers of each tile, to be compared with another engine's.

// An element of each tile, without its lowest bits, and what it is multiplied with.
struct Term {
    long offset, size, right;
    uint64_t key;
};

extern "C" void mesh_digest(Mesh* m, const Term* terms, long count, uint64_t* out) {
    mesh_settle(m);
    memset(out, 0, m->tiles.count * sizeof *out);
    for (long n = 0; n < count; n++) {
        Field f = {terms[n].offset, terms[n].size, 0, 0};
        for (long r = 0; r < m->rows; r++)
            for (long c = 0; c < m->columns; c++)
                out[r * m->columns + c] += terms[n].key * (get(m->tiles, m->tiling.lane(r, c), f) >> terms[n].right);
    }
}
