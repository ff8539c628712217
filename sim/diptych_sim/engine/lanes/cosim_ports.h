// SPDX-License-Identifier: BSD-2-Clause
// Part of the driver: a mesh whose west links something else drives, cycle by cycle.

// width bits of a lane's element, from bit low on, which are bits of a vector from bit on.
struct Pin {
    long bit, lane, offset, size, low, width;
    long port;  // number of the tile's input or output, if it is one
};

struct Pins {
    std::vector<Pin> in, out, watched;
    std::vector<uint32_t> before;  // of the vector, in the last cycle
    uint64_t leaves;               // outputs that are pins
    long reset;                    // bit of the vector
    long words;                    // of the vector
    Mesh* m;
    int threads;
    std::vector<Context> found;
    std::vector<long> busy;  // blocks that do not rest, of each thread
    std::atomic<long> cycles;  // that other threads may help with
    std::atomic<bool> ended;
    std::vector<std::thread> helpers;
    Barrier barrier;
};

static const int MANY_SPINS = 1 << 20;  // some ms: then the mesh has nothing to do
static const long FEW_BLOCKS = 2;       // which one thread computes sooner than several do

// Computes a thread's share of a cycle.
static void share(Pins* p, int me, int threads) {
    Mesh& m = *p->m;
    long n = m.tiles.blocks, first = n * me / threads, last = n * (me + 1) / threads;
    Context& c = p->found[me] = {0, -1, 0, 0, 0, m.cycle};
    p->busy[me] = evaluate(m.tiles, first, last, m.skips, &c);
    if (threads > 1) p->barrier.wait();
    exchange_all(m, first, last);
    if (threads > 1) p->barrier.wait();
}

static void help(Pins* p, int me) {
    for (long done = 0;; done++) {
        for (int spins = 0; p->cycles.load() == done; spins++)
            if (p->ended)
                return;
            else if (spins > MANY_SPINS)
                std::this_thread::sleep_for(std::chrono::microseconds(50));
            else if (spins % 2000 == 1999)
                std::this_thread::yield();
        share(p, me, p->threads);
    }
}

// Puts what a pin shows into the vector.
static void show(const Mesh& m, const Pin& pin, uint32_t* out) {
    Field f = {pin.offset, pin.size, 0, 0};
    uint64_t x = get(m.tiles, pin.lane, f) >> pin.low;
    for (long n = 0; n < pin.width; n++) {
        uint32_t& word = out[(pin.bit + n) / 32];
        uint32_t mask = 1u << ((pin.bit + n) % 32);
        word = x >> n & 1 ? word | mask : word & ~mask;
    }
}

static uint64_t vector_bits(const uint32_t* from, long at, long width) {
    uint64_t x = 0;
    for (long n = 0; n < width; n++) x |= (uint64_t)(from[(at + n) / 32] >> ((at + n) % 32) & 1) << n;
    return x;
}

// Whether a pin is in a word that is not as before.
static bool differs(const Pin& pin, const uint32_t* in, const uint32_t* before) {
    for (long n = pin.bit / 32; n <= (pin.bit + pin.width - 1) / 32; n++)
        if (in[n] != before[n]) return true;
    return false;
}

// Puts what the vector has into the state.
static void drive(Mesh& m, const Pin& pin, const uint32_t* in) {
    Field f = {pin.offset, pin.size, 0, 0};
    uint64_t mask = pin.width == 64 ? ~0ull : (1ull << pin.width) - 1;
    uint64_t x = get(m.tiles, pin.lane, f) & ~(mask << pin.low);
    x |= vector_bits(in, pin.bit, pin.width) << pin.low;
    if (put(m.tiles, pin.lane, f, x)) m.tiles.mark(pin.lane, pin.port);
}

extern "C" {

// Their threads wait for the next cycle.
Pins* pins_create(Mesh* m, const Pin* in, long ins, const Pin* out, long outs, long reset, int threads) {
    Pins* p = new Pins();
    p->in.assign(in, in + ins);
    p->out.assign(out, out + outs);
    p->reset = reset;
    p->words = reset / 32 + 1;
    for (const Pin& pin : p->in) p->words = std::max(p->words, (pin.bit + pin.width + 31) / 32);
    for (const Pin& pin : p->out) p->leaves |= 1ull << pin.port;
    p->m = m;
    p->threads = threads < 1 ? 1 : threads > m->tiles.blocks ? (int)m->tiles.blocks : threads;
    p->barrier.threads = p->threads;
    p->found.resize(p->threads);
    p->busy.resize(p->threads);
    for (int n = 1; n < p->threads; n++) p->helpers.emplace_back(help, p, n);
    return p;
}
void pins_destroy(Pins* p) {
    p->ended = true;
    for (std::thread& helper : p->helpers) helper.join();
    delete p;
}
void pins_watch(Pins* p, const Pin* pin) { p->watched.push_back(*pin); }

// Runs a cycle, but none in reset. Returns the number of the assertion that failed, or -1.
long pins_step(Mesh* m, Pins* p, const uint32_t* in, uint32_t* out) {
    if (vector_bits(in, p->reset, 1)) {
        for (const Pin& pin : p->out) show(*m, pin, out);
        for (const Pin& pin : p->watched) show(*m, pin, out);
        return -1;
    }
    const bool same = !p->before.empty() && !memcmp(in, p->before.data(), p->before.size() * sizeof(uint32_t));
    if (m->tiles.quiet && same) {
        m->cycle++;
        return -1;
    }
    m->tiles.quiet = false;
    // After a touch from outside all may differ from what was here.
    const bool fresh = p->before.empty() || m->tiles.touched;
    m->tiles.touched = false;
    if (fresh || !same) {
        for (const Pin& pin : p->in)
            if (fresh || differs(pin, in, p->before.data())) drive(*m, pin, in);
        p->before.assign(in, in + p->words);
    }
    const long busy = std::accumulate(p->busy.begin(), p->busy.end(), 0l);
    if (fresh || busy > FEW_BLOCKS) {
        p->cycles++;
        share(p, 0, p->threads);
    } else {
        for (int n = 1; n < p->threads; n++) p->found[n].failed = -1, p->busy[n] = 0;
        share(p, 0, 1);
    }
    m->cycle++;
    // Threads have blocks in order, so this is the failure of the lowest instance.
    m->failed = p->found[0];
    for (const Context& c : p->found)
        if (m->failed.failed < 0) m->failed = c;
    for (const Pin& pin : p->out)
        if (fresh || m->tiles.moved(pin.lane / PART) & p->leaves) show(*m, pin, out);
    for (const Pin& pin : p->watched) show(*m, pin, out);
    m->tiles.quiet = !std::accumulate(p->busy.begin(), p->busy.end(), 0l);
    return m->failed.failed;
}
}
