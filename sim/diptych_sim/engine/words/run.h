// SPDX-License-Identifier: BSD-2-Clause
// The functions of a library: it is included after all that a netlist consists of.

static void touch(S& s) {
    for (int n = 0; n < CLUSTERS; n++) s.d[n / 64] |= u64{1} << n % 64;
}

// The edge that ends a cycle.
static void edge(S& s) {
    if (!s.waits) return;
    for (u32 n = 0; n < s.count; n++) edges[s.commits[n]](s);
    s.count = 0;
    for (int word = 0; word < MARKS; word++) {
        s.d[word] |= s.e[word];
        s.e[word] = 0;
    }
    if (s.step) {
        s.to_outside[RESET_WORD] = s.resets;
        u32 before[OUTSIDE + 1];
        std::memcpy(before, s.from_outside, sizeof before);
        const long failed = s.step(s.mesh, s.pins, s.to_outside, s.from_outside);
        if (failed >= 0) {
            s.refused = failed;
            s.stop = 1;
        }
        if (std::memcmp(before, s.from_outside, sizeof before)) take_from_outside(s);
    }
    if (s.resets) {
        reset_registers(s);
        touch(s);
    }
    s.waits = false;
}

static void cycle(S& s) {
    edge(s);
    for (int word = 0; word < MARKS; word++)
        while (s.d[word]) {
            const int bit = __builtin_ctzll(s.d[word]);
            s.d[word] &= s.d[word] - 1;
            functions[64 * word + bit](s);
        }
    s.waits = true;
    s.cycle++;
}

static uint8_t* map_cells(const char* path) {
    // Pages take memory once they are written, or read from the file.
    void* base = mmap(nullptr, HBM_BYTES, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) return nullptr;
    if (!path) return static_cast<uint8_t*>(base);
    const int file = open(path, O_RDONLY);
    struct stat about;
    const bool found = file >= 0 && fstat(file, &about) == 0 &&
                       static_cast<u64>(about.st_size) <= HBM_BYTES;
    const bool mapped =
        found && (!about.st_size || mmap(base, about.st_size, PROT_READ | PROT_WRITE,
                                         MAP_PRIVATE | MAP_FIXED, file, 0) != MAP_FAILED);
    if (file >= 0) close(file);
    if (!mapped) munmap(base, HBM_BYTES);
    return mapped ? static_cast<uint8_t*>(base) : nullptr;
}

extern "C" {

// The cells of the HBM are those of a file, if there is a path; it is not changed. Null: no memory.
S* words_create(const char* path) {
    uint8_t* hbm = map_cells(path);
    if (!hbm) return nullptr;
    S* s = new S();
    s->hbm = hbm;
    s->refused = -1;
    set_initial(*s);
    touch(*s);
    return s;
}

void words_destroy(S* s) {
    for (Log& log : s->logs) std::free(log.at);
    munmap(s->hbm, HBM_BYTES);
    delete s;
}

// From the next cycle on the reset is there, or is not.
void words_reset(S* s, int on) {
    edge(*s);
    s->resets = on;
}

// What computes the module that is left out; if step returns a number, it is that of a message.
void words_attach(S* s, void* mesh, void* pins,
                             long (*step)(void*, void*, const u32*, u32*)) {
    s->mesh = mesh;
    s->pins = pins;
    s->step = step;
}
const char* words_outside() { return PORTS; }
long words_refused(S* s) { return s->refused; }

// Returns how many cycles have run, the last but for its edge: fewer, if what stops it has changed.
long words_run(S* s, long cycles) {
    long done = 0;
    s->stop = 0;
    while (done < cycles && !s->stop) {
        cycle(*s);
        done++;
    }
    return done;
}

void words_set(S* s, long cell, const u64* words) { set_input(*s, cell, words); }
void words_stop(S* s, long watch, int on) {
    const u64 bit = u64{1} << watch % 64;
    if (on)
        s->stops[watch / 64] |= bit;
    else
        s->stops[watch / 64] &= ~bit;
}
u64 words_log(S* s, long watch, u64** at) {
    *at = s->logs[watch].at;
    return s->logs[watch].count;
}
long words_place(long n) { return places[n]; }
u64 words_cycle(S* s) { return s->cycle; }
struct Term {
    long place, bytes, keys;
};

// Has the edge of the last cycle come, if it has not.
void words_edge(S* s) { edge(*s); }

// Returns the sum of registers, 64 bits at a time, times their keys, from ``keys`` on.
u64 words_digest(S* s, const Term* terms, long count, const u64* keys) {
    edge(*s);
    u64 out = 0;
    for (long n = 0; n < count; n++) {
        const char* at = reinterpret_cast<const char*>(s) + terms[n].place;
        const u64* key = keys + terms[n].keys;
        for (long byte = 0; byte < terms[n].bytes; byte += 8) {
            u64 v = 0;
            std::memcpy(&v, at + byte, terms[n].bytes == 4 ? 4 : 8);
            out += *key++ * v;
        }
    }
    return out;
}

void* words_hbm(S* s) { return s->hbm; }
long words_failed(S* s) { return s->failed; }
}
