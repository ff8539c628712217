// SPDX-License-Identifier: BSD-2-Clause
// Verilator's class of a tile, an object for each tile, in a loop of two phases: all tiles and
// host ports are evaluated, then what they drive is copied to what it drives.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include <unistd.h>

#include "Vhost_port.h"
#include "Vhost_port___024root.h"
#include "Vtile.h"
#include "Vtile___024root.h"
#include "fall.h"
#include "verilated.h"

// A link: a wavelet and its announcement go on, and a credit comes back.
#define LINK(from, to)                                                                          \
    to##__valid = from##__valid, to##__wavelet = from##__wavelet,                               \
    to##__announced = from##__announced, to##__announced_control = from##__announced_control,   \
    from##__credit = to##__credit

static std::vector<uint32_t> words_of(FILE* file) {
    uint32_t count = 0;
    if (fread(&count, 4, 1, file) != 1) exit(2);
    std::vector<uint32_t> words(count);
    if (count && fread(words.data(), 4, count, file) != count) exit(2);
    return words;
}

// Arguments: file with the words of each row, rows, columns, words from row 0 that end the run, and
// the cycles that end it otherwise. Prints cycles, the last word, and bytes of memory.
int main(int argc, char** argv) {
    FILE* file = fopen(argv[1], "rb");
    if (argc != 6 || !file) return 2;
    const int rows = atoi(argv[2]), columns = atoi(argv[3]), wanted = atoi(argv[4]),
              limit = atoi(argv[5]);
    VerilatedContext context;
    std::vector<std::unique_ptr<Vtile>> tiles;
    std::vector<std::unique_ptr<Vhost_port>> ports;
    std::vector<std::vector<uint32_t>> words;
    std::vector<size_t> at(rows, 0);
    for (int r = 0; r < rows; r++) {
        words.push_back(words_of(file));
        ports.emplace_back(new Vhost_port(&context, "port"));
        for (int c = 0; c < columns; c++) {
            tiles.emplace_back(new Vtile(&context, "tile"));
            tiles.back()->edge = (r == 0) | (c == columns - 1) << 1 | (r == rows - 1) << 2;
        }
    }
    auto offer = [&](int r) {
        Vhost_port& p = *ports[r];
        const size_t left = words[r].size() - at[r], count = left < 16 ? left : 16;
        p.i__valid = count > 0;
        for (size_t n = 0; n < 16; n++) p.i__payload[n] = n < count ? words[r][at[r] + n] : 0;
        p.i__payload[16] = count;
    };
    auto evaluate = [&](int clock) {
        for (auto& tile : tiles) tile->clk = clock, tile->eval();
        for (auto& port : ports) port->clk = clock, port->eval();
    };
    // All that is read depends on registers only, so falling edges are not evaluated, as in simulators
    // with shared tiles.
    auto fall_all = [&]() {
        for (auto& tile : tiles) fall(tile.get());
        for (auto& port : ports) fall(port.get());
    };
    auto copy = [&]() {
        for (int r = 0; r < rows; r++)
            for (int c = 0; c < columns; c++) {
                Vtile& t = *tiles[r * columns + c];
                if (c + 1 < columns) {
                    Vtile& e = *tiles[r * columns + c + 1];
                    e.x_in = t.x_out;
                    LINK(t.east_o, e.west_i);
                    LINK(e.west_o, t.east_i);
                }
                if (r + 1 < rows) {
                    Vtile& s = *tiles[(r + 1) * columns + c];
                    LINK(t.south_o, s.north_i);
                    LINK(s.north_o, t.south_i);
                }
            }
        for (int r = 0; r < rows; r++) {
            Vtile& t = *tiles[r * columns];
            Vhost_port& p = *ports[r];
            LINK(p.link, t.west_i);
            LINK(t.west_o, p.back);
        }
    };
    for (auto& tile : tiles) tile->rst = 1;
    for (auto& port : ports) port->rst = 1;
    for (int n = 0; n < 2; n++) evaluate(0), evaluate(1), copy();
    for (auto& tile : tiles) tile->rst = 0;
    for (auto& port : ports) port->rst = 0;
    for (int r = 0; r < rows; r++) offer(r);
    long cycles = 0, last = 0;
    for (int arrived = 0; arrived < wanted && cycles < limit;) {
        fall_all();
        std::vector<bool> taken(rows);
        for (int r = 0; r < rows; r++) taken[r] = ports[r]->i__valid && ports[r]->i__ready;
        evaluate(1);
        copy();
        cycles++;
        for (int r = 0; r < rows; r++)
            if (taken[r]) {
                at[r] += 16;
                if (at[r] > words[r].size()) at[r] = words[r].size();
                offer(r);
            }
        if (tiles[0]->west_o__valid) arrived++, last = (long)(tiles[0]->west_o__wavelet & 0xFFFFFFFF);
    }
    long pages = 0, resident = 0;
    if (FILE* own = fopen("/proc/self/statm", "r")) {
        if (fscanf(own, "%ld %ld", &pages, &resident) != 2) resident = 0;
        fclose(own);
    }
    printf("%ld %ld %ld\n", cycles, last, resident * sysconf(_SC_PAGESIZE));
    return 0;
}
