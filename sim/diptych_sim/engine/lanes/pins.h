// SPDX-License-Identifier: BSD-2-Clause
// Part of the driver: a mesh whose west links something else drives, cycle by cycle.

// width bits of a lane's element, from bit low on, which are bits of a vector from bit on.
struct Pin {
    long bit, lane, offset, size, low, width;
};

struct Pins {
    std::vector<Pin> in, out;
    long reset;  // bit of the vector
    char* scratch;
};

static uint64_t vector_bits(const uint32_t* from, long at, long width) {
    uint64_t x = 0;
    for (long n = 0; n < width; n++) x |= (uint64_t)(from[(at + n) / 32] >> ((at + n) % 32) & 1) << n;
    return x;
}

extern "C" {

Pins* pins_create(const Mesh* m, const Pin* in, long ins, const Pin* out, long outs, long reset) {
    Pins* p = new Pins();
    p->in.assign(in, in + ins);
    p->out.assign(out, out + outs);
    p->reset = reset;
    p->scratch = (char*)aligned_alloc(4096, m->tiles.code.scratch);
    memset(p->scratch, 0, m->tiles.code.scratch);
    return p;
}
void pins_destroy(Pins* p) {
    free(p->scratch);
    delete p;
}
void pins_watch(Pins* p, const Pin* pin) { p->out.push_back(*pin); }

// Runs a cycle, but none in reset. Returns the number of the assertion that failed, or -1.
long pins_step(Mesh* m, Pins* p, const uint32_t* in, uint32_t* out) {
    long failed = -1;
    if (!vector_bits(in, p->reset, 1)) {
        for (const Pin& pin : p->in) {
            Field f = {pin.offset, pin.size, 0, 0};
            uint64_t mask = pin.width == 64 ? ~0ull : (1ull << pin.width) - 1;
            uint64_t x = get(m->tiles, pin.lane, f) & ~(mask << pin.low);
            put(m->tiles, pin.lane, f, x | vector_bits(in, pin.bit, pin.width) << pin.low);
        }
        Context c = {0, -1, 0};
        evaluate(m->tiles, 0, m->tiles.blocks, p->scratch, &c);
        exchange_all(*m, 0, m->tiles.blocks);
        m->cycle++;
        m->failed = c;
        failed = c.failed;
    }
    for (const Pin& pin : p->out) {
        Field f = {pin.offset, pin.size, 0, 0};
        uint64_t x = get(m->tiles, pin.lane, f) >> pin.low;
        for (long n = 0; n < pin.width; n++) {
            uint32_t& word = out[(pin.bit + n) / 32];
            uint32_t mask = 1u << ((pin.bit + n) % 32);
            word = x >> n & 1 ? word | mask : word & ~mask;
        }
    }
    return failed;
}
}
