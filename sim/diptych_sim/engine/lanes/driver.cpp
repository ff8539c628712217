// SPDX-License-Identifier: BSD-2-Clause
// Runs a mesh of tiles with a port at the west end of each row. Knows nothing of what a tile is:
// where its registers lie and which are wired to which comes from the caller.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <atomic>
#include <thread>
#include <vector>

#include "engine.h"

typedef uint64_t B;
static const long PART = 64;

struct Code {
    void (*cycle)(char*, char*, const B*, Context*);
    void (*reset_block)(char*);
    void (*start_block)(char*);
    long scratch, bytes, state, lanes;
};

// Instances of one design.
struct Group {
    Code code;
    long count, blocks;
    char* data;

    long parts;  // of 64 lanes, in all blocks
    char* at(long block) const { return data + block * code.bytes; }
    // Part p of something of a block: size bytes a lane, or a bit.
    char* part(long p, long offset, long size) const {
        long g = code.lanes / PART;
        return at(p / g) + offset + p % g * (size ? size * PART : PART / 8);
    }
    B live(long p) const {
        long left = count - p * PART;
        return left >= PART ? ~(B)0 : left <= 0 ? 0 : ((B)1 << left) - 1;
    }
};

// size: bytes of an element, or 0 for a bit.
struct Wire {
    long from, to, size, down, right;
};

// width bits, from bit from_low of an element to bit to_low of another.
struct Link {
    long from, from_size, from_low, to, to_size, to_low, width;
};

struct Word {
    long cycle;
    uint32_t row, color, data, control;
};

struct Feed {
    const uint32_t* words;
    long count, at;
};

// A port's field: where it is and which bits of the whole it holds.
struct Field {
    long offset, size, low, width;
};

struct Ways {
    std::vector<B> inside;  // lanes of each part whose neighbor exists
    long shift;
};

struct Mesh {
    long rows, columns;
    Group tiles, ports;
    std::vector<Wire> wires;     // from a neighbor's output to an input
    std::vector<Link> to_tile;   // from a port to the first tile of its row
    std::vector<Link> to_port;   // and back
    std::vector<Ways> ways;      // of each wire
    std::vector<Feed> feeds;
    std::vector<Field> payload;
    long valid, ready;           // of the ports' stream from the host
    long out_valid;              // of the tiles' output to the west
    std::vector<Field> out;      // data, color, control
    std::vector<Word> words;
    long cycle, wanted;          // cycles so far; words from row 0 that end a run
    long arrived;
    long until, watched;         // what else ends a run; a bit of the tiles
    int threads;
    Context failed;
    const char* part;
};

static inline B get_bit(const Group& g, long lane, long offset) {
    return *(const B*)g.part(lane / PART, offset, 0) >> (lane % PART) & 1;
}
static inline void set_bit(const Group& g, long lane, long offset, B value) {
    B* to = (B*)g.part(lane / PART, offset, 0);
    *to = (*to & ~((B)1 << (lane % PART))) | value << (lane % PART);
}
static inline char* element(const Group& g, long lane, long offset, long size) {
    return g.part(lane / PART, offset, size) + lane % PART * size;
}
static uint64_t get(const Group& g, long lane, const Field& f) {
    if (f.size == 0) return get_bit(g, lane, f.offset);
    uint64_t x = 0;
    memcpy(&x, element(g, lane, f.offset, f.size), f.size);
    return x;
}
static void put(const Group& g, long lane, const Field& f, uint64_t x) {
    if (f.size == 0) set_bit(g, lane, f.offset, x & 1);
    else memcpy(element(g, lane, f.offset, f.size), &x, f.size);
}

static void carry(const Group& from, long source, const Group& to, long target, const Link& w) {
    Field f = {w.from, w.from_size, 0, 0}, t = {w.to, w.to_size, 0, 0};
    uint64_t mask = w.width == 64 ? ~0ull : (1ull << w.width) - 1;
    uint64_t x = get(from, source, f) >> w.from_low & mask;
    put(to, target, t, (get(to, target, t) & ~(mask << w.to_low)) | x << w.to_low);
}

static bool allocate(Group& g) {
    g.blocks = (g.count + g.code.lanes - 1) / g.code.lanes;
    g.parts = g.blocks * (g.code.lanes / PART);
    size_t bytes = (size_t)g.blocks * g.code.bytes;
    void* p = mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return false;
    madvise(p, bytes, MADV_HUGEPAGE);
    g.data = (char*)p;
    for (long b = 0; b < g.blocks; b++) g.code.start_block(g.at(b));
    return true;
}

// --- a cycle of some blocks ---

static void evaluate(Group& g, long first, long last, char* scratch, Context* c) {
    alignas(64) B live[8];
    for (long b = first; b < last; b++) {
        long n = g.code.lanes / PART;
        for (long p = 0; p < n; p++) live[p] = g.live(b * n + p);
        c->block = b;
        g.code.cycle(g.at(b), scratch, live, c);
    }
}

// Brings part b of a wire's target up to date.
static void exchange(Mesh& m, const Wire& w, const Ways& way, long b) {
    const Group& g = m.tiles;
    long start = b * PART - way.shift;  // lane that lane 0 is fed from
    long low = start >= 0 ? start / PART : -((-start + PART - 1) / PART);
    long offset = start - low * PART;
    const char* first = low >= 0 && low < g.parts ? g.part(low, w.from, w.size) : 0;
    bool more = offset && low + 1 >= 0 && low + 1 < g.parts;
    const char* second = more ? g.part(low + 1, w.from, w.size) : 0;
    char* to = g.part(b, w.to, w.size);
    B inside = way.inside[b];
    if (w.size == 0) {
        B x = first ? *(const B*)first >> offset : 0;
        if (second) x |= *(const B*)second << (PART - offset);
        *(B*)to = x & inside;
        return;
    }
    if (first) memcpy(to, first + offset * w.size, (PART - offset) * w.size);
    if (second) memcpy(to + (PART - offset) * w.size, second, offset * w.size);
    for (B out = ~inside; out; out &= out - 1)
        memset(to + __builtin_ctzll(out) * w.size, 0, w.size);
}

static void exchange_all(Mesh& m, long first, long last) {
    long n = m.tiles.code.lanes / PART;
    for (long b = first * n; b < last * n; b++)
        for (size_t n = 0; n < m.wires.size(); n++) exchange(m, m.wires[n], m.ways[n], b);
}

static void feed(Mesh& m, long row) {
    Feed& f = m.feeds[row];
    bool more = f.at < f.count;
    set_bit(m.ports, row, m.valid, more);
    if (!more) return;
    long n = f.count - f.at < 16 ? f.count - f.at : 16;
    for (const Field& p : m.payload) {
        uint64_t x = 0;
        if (p.low >= 512) x = (uint64_t)n >> (p.low - 512);
        else
            for (long k = 0; k < p.width / 32; k++) {
                long word = p.low / 32 + k;
                if (word < n) x |= (uint64_t)f.words[f.at + word] << (32 * k);
            }
        put(m.ports, row, p, x);
    }
}

// What happens at the mesh's west edge after a cycle.
static void edge(Mesh& m) {
    for (const Link& w : m.to_tile)
        for (long r = 0; r < m.rows; r++) carry(m.ports, r, m.tiles, r * m.columns, w);
    for (const Link& w : m.to_port)
        for (long r = 0; r < m.rows; r++) carry(m.tiles, r * m.columns, m.ports, r, w);
    for (long r = 0; r < m.rows; r++) {
        Feed& f = m.feeds[r];
        if (get_bit(m.ports, r, m.valid) && get_bit(m.ports, r, m.ready)) {
            f.at = f.at + 16 < f.count ? f.at + 16 : f.count;
            feed(m, r);
        }
        long lane = r * m.columns;
        if (get_bit(m.tiles, lane, m.out_valid)) {
            Word w = {m.cycle, (uint32_t)r, 0, 0, 0};
            uint32_t* parts[3] = {&w.data, &w.color, &w.control};
            for (const Field& p : m.out) *parts[p.low >> 8] |= get(m.tiles, lane, p) << (p.low & 255);
            m.words.push_back(w);
            m.arrived += r == 0;
        }
    }
}

enum { NEVER, SENT, ANY, NONE };

static bool reached(const Mesh& m) {
    if (m.until == NEVER) return false;
    if (m.until == SENT) {
        for (const Feed& f : m.feeds)
            if (f.at < f.count) return false;
        return true;
    }
    for (long p = 0; p < m.tiles.parts; p++)
        if (*(const B*)m.tiles.part(p, m.watched, 0) & m.tiles.live(p)) return m.until == ANY;
    return m.until == NONE;
}

// --- threads ---

struct Barrier {
    std::atomic<int> waiting, round;
    int threads;
    void wait() {
        int now = round.load();
        if (waiting.fetch_add(1) + 1 == threads) {
            waiting.store(0);
            round.store(now + 1);
        } else {
            int spins = 0;
            while (round.load() == now)
                if (++spins > 2000) std::this_thread::yield(), spins = 0;
        }
    }
};

struct Team {
    Mesh* m;
    Barrier barrier;
    long last;
    std::atomic<bool> stop;
};

static void work(Team* t, int me) {
    Mesh& m = *t->m;
    long n = m.tiles.blocks, first = n * me / m.threads, last = n * (me + 1) / m.threads;
    long size = m.tiles.code.scratch > m.ports.code.scratch ? m.tiles.code.scratch : m.ports.code.scratch;
    char* scratch = (char*)aligned_alloc(4096, size);
    memset(scratch, 0, size);
    Context c = {0, -1, 0};
    while (true) {
        evaluate(m.tiles, first, last, scratch, &c);
        if (c.failed >= 0) {
            m.failed = c;
            m.part = "tile";
            t->stop = true;
        }
        if (me == 0) {
            Context p = {0, -1, 0};
            evaluate(m.ports, 0, m.ports.blocks, scratch, &p);
            if (p.failed >= 0) {
                m.failed = p;
                m.part = "port";
                t->stop = true;
            }
        }
        t->barrier.wait();
        exchange_all(m, first, last);
        t->barrier.wait();
        if (me == 0) {
            m.cycle++;
            edge(m);
            if (m.cycle >= t->last || (m.wanted && m.arrived >= m.wanted) || reached(m)) t->stop = true;
        }
        t->barrier.wait();
        if (t->stop) break;
    }
    free(scratch);
}

extern "C" {

Mesh* mesh_create(long rows, long columns, const Code* tile, const Code* port) {
    Mesh* m = new Mesh();
    m->rows = rows;
    m->columns = columns;
    m->tiles.code = *tile;
    m->tiles.count = rows * columns;
    m->ports.code = *port;
    m->ports.count = rows;
    m->threads = 1;
    m->failed.failed = -1;
    m->feeds.resize(rows);
    if (!allocate(m->tiles) || !allocate(m->ports)) {
        delete m;
        return 0;
    }
    return m;
}

void mesh_destroy(Mesh* m) {
    munmap(m->tiles.data, (size_t)m->tiles.blocks * m->tiles.code.bytes);
    munmap(m->ports.data, (size_t)m->ports.blocks * m->ports.code.bytes);
    delete m;
}

char* mesh_tiles(Mesh* m) { return m->tiles.data; }
char* mesh_ports(Mesh* m) { return m->ports.data; }
long mesh_cycle(Mesh* m) { return m->cycle; }
long mesh_arrived(Mesh* m) { return (long)m->words.size(); }
const Word* mesh_words(Mesh* m) { return m->words.data(); }
void mesh_forget(Mesh* m) {
    m->words.clear();
    m->arrived = 0;
}
long mesh_failed(Mesh* m, long* instance, long* port) {
    *instance = m->failed.instance;
    *port = m->part && m->part[0] == 'p';
    return m->failed.failed;
}

void mesh_wire(Mesh* m, long from, long to, long size, long down, long right) {
    m->wires.push_back({from, to, size, down, right});
    Ways way;
    way.shift = down * m->columns + right;
    way.inside.assign(m->tiles.parts, 0);
    for (long r = 0; r < m->rows; r++)
        for (long c = 0; c < m->columns; c++) {
            long sr = r - down, sc = c - right;
            if (sr < 0 || sr >= m->rows || sc < 0 || sc >= m->columns) continue;
            long lane = r * m->columns + c;
            way.inside[lane / PART] |= (B)1 << (lane % PART);
        }
    m->ways.push_back(way);
}
void mesh_link(Mesh* m, int to_port, const Link* link) {
    (to_port ? m->to_port : m->to_tile).push_back(*link);
}
void mesh_host(Mesh* m, long valid, long ready, const Field* payload, long count, long out_valid, const Field* out, long outs) {
    m->valid = valid;
    m->ready = ready;
    m->payload.assign(payload, payload + count);
    m->out_valid = out_valid;
    m->out.assign(out, out + outs);
}
// Words must stay where they are while the mesh runs.
void mesh_feed(Mesh* m, long row, const uint32_t* words, long count) {
    m->feeds[row] = {words, count, 0};
    feed(*m, row);
}
void mesh_edge(Mesh* m, long tile, long value, const Field* bits) {
    for (long n = 0; n < 4; n++) put(m->tiles, tile, bits[n], value >> n & 1);
}

// Runs cycles with reset: registers return to their initial values after each.
void mesh_reset(Mesh* m, long cycles) {
    long wanted = m->wanted;
    m->wanted = 0;
    m->until = NEVER;
    for (long n = 0; n < cycles; n++) {
        Team t;
        t.m = m;
        t.barrier.waiting = 0;
        t.barrier.round = 0;
        t.barrier.threads = 1;
        t.last = m->cycle + 1;
        t.stop = false;
        int threads = m->threads;
        m->threads = 1;
        std::vector<Feed> feeds = m->feeds;
        work(&t, 0);
        m->feeds = feeds;
        m->words.clear();
        m->arrived = 0;
        m->failed.failed = -1;
        m->threads = threads;
        for (long b = 0; b < m->tiles.blocks; b++) m->tiles.code.reset_block(m->tiles.at(b));
        for (long b = 0; b < m->ports.blocks; b++) m->ports.code.reset_block(m->ports.at(b));
        exchange_all(*m, 0, m->tiles.blocks);
        long cycle = m->cycle;
        edge(*m);
        m->cycle = cycle;
        m->feeds = feeds;
        for (long r = 0; r < m->rows; r++) feed(*m, r);
    }
    m->wanted = wanted;
}

// Runs for some cycles, until so many words have left row 0, until all that was fed is in the
// ports (SENT), or the watched bit is set in any or in no tile; returns the cycle.
long mesh_run(Mesh* m, long cycles, long wanted, long until, long watched, int threads) {
    m->until = until;
    m->watched = watched;
    if (cycles <= 0 || reached(*m)) return m->cycle;
    Team t;
    m->wanted = wanted ? m->arrived + wanted : 0;
    m->threads = threads < 1 ? 1 : threads > m->tiles.blocks ? (int)m->tiles.blocks : threads;
    t.m = m;
    t.barrier.waiting = 0;
    t.barrier.round = 0;
    t.barrier.threads = m->threads;
    t.last = m->cycle + cycles;
    t.stop = false;
    std::vector<std::thread> others;
    for (int n = 1; n < m->threads; n++) others.emplace_back(work, &t, n);
    work(&t, 0);
    for (std::thread& other : others) other.join();
    return m->cycle;
}
}
