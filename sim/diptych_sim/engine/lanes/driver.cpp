// SPDX-License-Identifier: BSD-2-Clause
// Runs a mesh of tiles with a port at the west end of each row. Knows nothing of what a tile is:
// where its registers lie and which are wired to which comes from the caller.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>
#include <numeric>
#include <thread>
#include <vector>

#include "exchange.h"
#include "instances.h"

struct Word {
    long cycle;
    uint32_t row, color, data, control;
};

struct Feed {
    const uint32_t* words;
    long count, at;
};

// What another machine does with this one: how many have agreed with the bits (AGREE), or that
// the borders' messages are on their way (SEND) or here (RECEIVE).
enum { AGREE, SEND, RECEIVE };
typedef long (*Machine)(long what, long bits);

// A side of the mesh with tiles on another machine beyond.
struct Border {
    long down, right;            // where that machine is
    char *out, *in;              // messages
    std::vector<long> lanes;     // of the tiles along it
};

struct Mesh {
    long rows, columns;          // of this machine
    Tiling tiling;
    bool west, first;            // whether it has host ports, and row 0
    Group tiles, ports;
    std::vector<Wire> wires;     // from a neighbor's output to an input
    std::vector<Link> to_tile;   // from a port to the first tile of its row
    std::vector<Link> to_port;   // and back
    std::vector<Ways> ways;      // the same by direction
    std::vector<Feed> feeds;
    std::vector<Field> payload;
    Field valid;                 // of the ports' stream from the host
    long ready, valid_input, payload_input;
    long out_valid;              // of the tiles' output to the west
    std::vector<Field> out;      // data, color, control
    std::vector<Word> words;
    long cycle, wanted;          // cycles so far; words from row 0 that end a run
    bool waits;                  // whether words end it, here or on another machine
    long arrived;
    long until, watched;         // what else ends a run; a bit of the tiles
    int threads;
    bool skips;                  // what nothing has changed for
    Context failed;
    const char* part;
    Machine machine;             // 0 when there is only one
    std::vector<Border> borders;
};

// --- a cycle of some blocks ---

// Returns how many of them do not rest.
static long evaluate(Group& g, long first, long last, bool skips, Context* c) {
    if (!skips)
        for (long b = first; b < last; b++) g.code.touch_block(g.marks(b));
    c->numbers = g.numbers;
    return g.code.cycle(&g, first, last, c);
}

// Carries what has changed from neighbor to neighbor, into some blocks.
static void exchange_all(Mesh& m, long first, long last) {
    Group& g = m.tiles;
    uint64_t any = 0;
    for (long p = 0; p < g.parts; p++) any |= g.moved(p);
    if (!any) return;
    for (long part = first << g.split; part < last << g.split; part++)
        for (const Ways& way : m.ways) {
            const Source& from = way.sources[part];
            uint64_t moved = from.own ? g.moved(part) : 0;
            if (from.other >= 0) moved |= g.moved(from.other);
            for (moved &= way.outputs; moved; moved &= moved - 1)
                for (const Wire& w : way.wires[__builtin_ctzll(moved)])
                    if (exchange(g, w, way, from, part))
                        g.mark_part(part, w.input);
        }
}

// Size of a wire's part of a message.
static long carried(const Wire& w, const Border& b) {
    long n = (long)b.lanes.size();
    return w.size ? n * w.size : (n + 7) / 8;
}

// Writes what tiles at a border drive into its message, or takes what drives them from there.
static void pass(Mesh& m, const Border& b, bool out) {
    char* at = out ? b.out : b.in;
    long sign = out ? 1 : -1;
    for (const Wire& w : m.wires) {
        if (w.down != sign * b.down || w.right != sign * b.right) continue;
        const Field from = {w.from, w.size, 0, 0}, to = {w.to, w.size, 0, 0};
        for (size_t n = 0; n < b.lanes.size(); n++) {
            long lane = b.lanes[n];
            if (out) {
                uint64_t x = get(m.tiles, lane, from);
                if (w.size) memcpy(at + n * w.size, &x, w.size);
                else at[n / 8] = n % 8 ? at[n / 8] | x << n % 8 : x;
                continue;
            }
            uint64_t x = 0;
            if (w.size) memcpy(&x, at + n * w.size, w.size);
            else x = at[n / 8] >> n % 8 & 1;
            if (put(m.tiles, lane, to, x)) m.tiles.mark(lane, w.input);
        }
        at += carried(w, b);
    }
}

static void send_borders(Mesh& m) {
    if (m.borders.empty()) return;
    for (const Border& b : m.borders) pass(m, b, true);
    m.machine(SEND, 0);
}
static void take_borders(Mesh& m) {
    if (m.borders.empty()) return;
    m.machine(RECEIVE, 0);
    for (const Border& b : m.borders) pass(m, b, false);
}

static void feed(Mesh& m, long row) {
    Feed& f = m.feeds[row];
    bool more = f.at < f.count;
    if (put(m.ports, row, m.valid, more)) m.ports.mark(row, m.valid_input);
    if (!more) return;
    long n = f.count - f.at < 16 ? f.count - f.at : 16;
    bool changes = false;
    for (const Field& p : m.payload) {
        uint64_t x = 0;
        if (p.low >= 512) x = (uint64_t)n >> (p.low - 512);
        else
            for (long k = 0; k < p.width / 32; k++) {
                long word = p.low / 32 + k;
                if (word < n) x |= (uint64_t)f.words[f.at + word] << (32 * k);
            }
        changes |= put(m.ports, row, p, x);
    }
    if (changes) m.ports.mark(row, m.payload_input);
}

// Carries what has changed from one side of the west edge to the other.
static void cross(Mesh& m, const Link& w, bool to_port) {
    Group &from = to_port ? m.tiles : m.ports, &to = to_port ? m.ports : m.tiles;
    uint64_t moved = 0;
    for (long p = 0; p < from.parts; p++) moved |= from.moved(p);
    if (!(moved >> w.output & 1)) return;
    for (long r = 0; r < m.rows; r++) {
        const long lane = m.tiling.lane(r, 0), source = to_port ? lane : r, target = to_port ? r : lane;
        if (!(from.moved(source / PART) >> w.output & 1)) continue;
        if (carry(from, source, to, target, w)) to.mark(target, w.input);
    }
}

// What happens at the mesh's west edge after a cycle.
static void edge(Mesh& m) {
    if (!m.west) return;
    for (const Link& w : m.to_tile) cross(m, w, false);
    for (const Link& w : m.to_port) cross(m, w, true);
    for (long r = 0; r < m.rows; r++) {
        Feed& f = m.feeds[r];
        if (get_bit(m.ports, r, m.valid.offset) && get_bit(m.ports, r, m.ready)) {
            f.at = f.at + 16 < f.count ? f.at + 16 : f.count;
            feed(m, r);
        }
        long lane = m.tiling.lane(r, 0);
        if (get_bit(m.tiles, lane, m.out_valid)) {
            Word w = {m.cycle, (uint32_t)r, 0, 0, 0};
            uint32_t* parts[3] = {&w.data, &w.color, &w.control};
            for (const Field& p : m.out) *parts[p.low >> 8] |= get(m.tiles, lane, p) << (p.low & 255);
            m.words.push_back(w);
            m.arrived += m.first && r == 0;
        }
    }
}

enum { NEVER, SENT, ANY, NONE };
enum { FAILED = 1, ARRIVED = 2, UNSENT = 4, SET = 8 };
static const long PATIENCE = 64;  // cycles after which machines know of a failed one

// Returns whether a run ends here, on every machine.
static bool reached(const Mesh& m) {
    long bits = m.failed.failed >= 0 ? FAILED : 0;
    if (m.wanted && m.arrived >= m.wanted) bits |= ARRIVED;
    if (m.until == SENT)
        for (const Feed& f : m.feeds)
            if (f.at < f.count) bits |= UNSENT;
    if (m.until == ANY || m.until == NONE)
        for (long p = 0; p < m.tiles.parts && !(bits & SET); p++)
            if (*(const B*)m.tiles.part(p, m.watched, 0) & m.tiles.lanes_of(p)) bits |= SET;
    bool ask = m.until != NEVER || m.waits || m.cycle % PATIENCE == 0;
    if (m.machine && ask) bits = m.machine(AGREE, bits);
    else if (m.machine) return false;
    if (bits & (FAILED | ARRIVED)) return true;
    switch (m.until) {
    case SENT: return !(bits & UNSENT);
    case ANY: return bits & SET;
    case NONE: return !(bits & SET);
    }
    return false;
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
    std::mutex lock;

    // The first failure counts: the one of the lowest instance, whichever thread finds it.
    void fail(const Context& c, const char* part) {
        std::lock_guard<std::mutex> guard(lock);
        Context& f = m->failed;
        bool later = f.failed >= 0 && (f.cycle < m->cycle || f.instance <= c.instance);
        if (later) return;
        f = c;
        f.cycle = m->cycle;
        m->part = part;
    }
};

static void work(Team* t, int me) {
    Mesh& m = *t->m;
    long n = m.tiles.blocks, first = n * me / m.threads, last = n * (me + 1) / m.threads;
    Context c = {0, -1, 0, 0, 0, 0};
    while (true) {
        c.now = m.cycle;
        evaluate(m.tiles, first, last, m.skips, &c);
        if (c.failed >= 0) t->fail(c, "tile");
        if (me == 0 && m.west) {
            Context p = {0, -1, 0, 0, 0, m.cycle};
            evaluate(m.ports, 0, m.ports.blocks, m.skips, &p);
            if (p.failed >= 0) t->fail(p, "port");
        }
        t->barrier.wait();
        if (me == 0) send_borders(m);
        exchange_all(m, first, last);
        t->barrier.wait();
        if (me == 0) {
            take_borders(m);
            m.cycle++;
            edge(m);
            if (reached(m) || m.cycle >= t->last) t->stop = true;
        }
        t->barrier.wait();
        if (t->stop) break;
    }
}

extern "C" {

// Must be called before counters are looked at: those of blocks that only count are behind.
void mesh_settle(Mesh* m) {
    m->tiles.settle(m->cycle);
    m->ports.settle(m->cycle);
}
// Must be called if counters are looked at in any cycle, without mesh_settle.
void mesh_stir(Mesh* m) {
    mesh_settle(m);
    m->tiles.rests = m->ports.rests = false;
}
// Whether to skip what nothing has changed for; the results are the same.
void mesh_skip(Mesh* m, int skips) { m->skips = m->tiles.rests = m->ports.rests = skips; }

void mesh_destroy(Mesh* m) {
    release(m->tiles);
    release(m->ports);
    delete m;
}

// Tiles are in parts of height x width; a block has several of those.
Mesh* mesh_create(long rows, long columns, long height, long width, const Code* tile, const Code* port) {
    Mesh* m = new Mesh();
    m->rows = rows;
    m->columns = columns;
    m->tiling = {rows, columns, height, width, (columns + width - 1) / width};
    m->tiles.code = *tile;
    m->tiles.count = rows * columns;
    m->ports.code = *port;
    m->ports.count = rows;
    m->threads = 1;
    m->failed.failed = -1;
    m->west = m->first = true;
    m->feeds.resize(rows);
    mesh_skip(m, true);
    const Tiling& t = m->tiling;
    const long lanes = (t.part(rows - 1, columns - 1) + 1) * PART;
    const bool tiles = allocate(m->tiles, lanes, [&](long n) { return t.lane(n / columns, n % columns); });
    if (!tiles || !allocate(m->ports, rows, [](long n) { return n; })) {
        mesh_destroy(m);
        return 0;
    }
    return m;
}

char* mesh_tiles(Mesh* m) { return m->tiles.states; }
char* mesh_ports(Mesh* m) { return m->ports.states; }
long mesh_cycle(Mesh* m) { return m->cycle; }
long mesh_arrived(Mesh* m) { return (long)m->words.size(); }
const Word* mesh_words(Mesh* m) { return m->words.data(); }
void mesh_forget(Mesh* m) {
    m->words.clear();
    m->arrived = 0;
}
long mesh_failed(Mesh* m, long* cycle, long* instance, long* port) {
    *cycle = m->failed.cycle;
    *instance = m->failed.instance;
    *port = m->part && m->part[0] == 'p';
    return m->failed.failed;
}

void mesh_wire(Mesh* m, long from, long to, long size, long down, long right, long output, long input) {
    const Wire wire = {from, to, size, down, right, output, input};
    m->wires.push_back(wire);
    size_t n = 0;
    while (n < m->ways.size() && (m->ways[n].down != down || m->ways[n].right != right)) n++;
    if (n == m->ways.size()) m->ways.push_back(toward(m->tiling, m->tiles.parts, down, right));
    m->ways[n].outputs |= 1ull << output;
    m->ways[n].wires[output].push_back(wire);
}
void mesh_link(Mesh* m, int to_port, const Link* link) {
    (to_port ? m->to_port : m->to_tile).push_back(*link);
}
void mesh_host(Mesh* m, long valid, long ready, long valid_input, long payload_input, const Field* payload, long count, long out_valid, const Field* out, long outs) {
    m->valid = {valid, 0, 0, 0};
    m->ready = ready;
    m->valid_input = valid_input;
    m->payload_input = payload_input;
    m->payload.assign(payload, payload + count);
    m->out_valid = out_valid;
    m->out.assign(out, out + outs);
}
// Says where this machine's part of the mesh is, and how to reach the others.
void mesh_place(Mesh* m, long row, long column, Machine machine) {
    m->west = column == 0;
    m->first = m->west && row == 0;
    m->machine = machine;
    if (!m->west) m->feeds.clear();
}
long mesh_border(Mesh* m, long down, long right, char* out, char* in) {
    Border b = {down, right, out, in, {}};
    for (long n = 0; n < (down ? m->columns : m->rows); n++) {
        long row = down > 0 ? m->rows - 1 : down < 0 ? 0 : n;
        long column = right > 0 ? m->columns - 1 : right < 0 ? 0 : n;
        b.lanes.push_back(m->tiling.lane(row, column));
    }
    long bytes[2] = {0, 0};
    for (const Wire& w : m->wires)
        for (int back = 0; back < 2; back++) {
            long sign = back ? -1 : 1;
            if (w.down == sign * down && w.right == sign * right) bytes[back] += carried(w, b);
        }
    if (out) m->borders.push_back(b);
    return bytes[0] > bytes[1] ? bytes[0] : bytes[1];
}
// Words must stay where they are while the mesh runs.
void mesh_feed(Mesh* m, long row, const uint32_t* words, long count) {
    m->feeds[row] = {words, count, 0};
    feed(*m, row);
}
long mesh_fed(const Mesh* m, long row) { return m->feeds[row].at; }
// Must be called after a change of state that the mesh has not made.
void mesh_touch(Mesh* m) {
    m->tiles.touch();
    m->ports.touch();
}
// Goes on in a cycle, with the state that the caller has put there.
void mesh_resume(Mesh* m, long cycle) {
    m->cycle = cycle;
    mesh_touch(m);
}
void mesh_edge(Mesh* m, long row, long column, long value, const Field* bits) {
    for (long n = 0; n < 4; n++) put(m->tiles, m->tiling.lane(row, column), bits[n], value >> n & 1);
    m->tiles.touch();
}

// Runs cycles with reset: registers return to their initial values after each.
void mesh_reset(Mesh* m, long cycles) {
    long wanted = m->wanted;
    m->wanted = 0;
    m->until = NEVER;
    m->waits = false;
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
        mesh_settle(m);
        for (long b = 0; b < m->tiles.blocks; b++) m->tiles.code.reset_block(m->tiles.state(b));
        for (long b = 0; b < m->ports.blocks; b++) m->ports.code.reset_block(m->ports.state(b));
        mesh_touch(m);
        send_borders(*m);
        exchange_all(*m, 0, m->tiles.blocks);
        take_borders(*m);
        edge(*m);
        m->feeds = feeds;
        for (size_t r = 0; r < m->feeds.size(); r++) feed(*m, (long)r);
    }
    m->wanted = wanted;
}

// Runs for some cycles, until so many words have left row 0, until all that was fed is in the
// ports (SENT), or the watched bit is set in any or in no tile; returns the cycle.
long mesh_run(Mesh* m, long cycles, long wanted, long until, long watched, int threads) {
    m->until = until;
    m->watched = watched;
    m->waits = wanted > 0;
    m->wanted = wanted && m->first ? m->arrived + wanted : 0;
    if (cycles <= 0 || reached(*m)) return m->cycle;
    Team t;
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

#include "digest.h"
#include "cosim_ports.h"
