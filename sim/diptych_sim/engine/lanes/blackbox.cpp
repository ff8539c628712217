// SPDX-License-Identifier: BSD-2-Clause
// Between the shell of a module in Verilator and what computes it.
#include <algorithm>
#include <cstring>

#include "svdpi.h"
#include "verilated.h"

namespace {
struct {
    void *mesh, *pins;
    long (*step)(void*, void*, const uint32_t*, uint32_t*);
    const char* const* messages;
} attached;
uint32_t now[WORDS];
}  // namespace

// The module's ports: direction, name, first word and width of each.
extern "C" const char* diptych_blackbox_ports() { return PORTS; }

// From now on step computes a cycle; if it returns the number of a message, that stops the run.
extern "C" void diptych_blackbox_attach(void* mesh, void* pins,
                                       long (*step)(void*, void*, const uint32_t*, uint32_t*),
                                       const char* const* messages) {
    attached = {mesh, pins, step, messages};
}

extern "C" void diptych_blackbox_step(const svBitVecVal* i, svBitVecVal* o) {
    if (attached.mesh) {
        const long failed = attached.step(attached.mesh, attached.pins, i, now);
        if (failed >= 0) VL_FATAL_MT("lanes", 0, "mesh", attached.messages[failed]);
    }
    std::memcpy(o, now, sizeof now);
}

#if VM_TRACE
#include <memory>
#include <string>
#include <vector>

#include "waves.h"

namespace {

using Trace = std::remove_pointer<decltype(std::declval<WavesFile>().spTrace())>::type;

// width bits of a number of size bytes, from bit right on, are bits of a signal from bit low on.
struct Piece {
    const unsigned char* at;
    long size, right, low, width;
};
struct Signal {
    const char *scope, *name;
    long width, enumeration, count;
    const Piece* pieces;
};
struct Enumeration {
    const char* name;
    long width, count;
    const char **names, **values;
};
// Copies: the testbench's are gone when the last values are recorded.
struct Recorded {
    std::string path;
    std::vector<Signal> signals;
    std::vector<Enumeration> enumerations;
    std::vector<uint32_t> words;  // of the widest signal
    uint32_t first;

    Recorded(const char* path, const Signal* signal, long count, const Enumeration* types, long all)
        : path{path}, signals{signal, signal + count}, enumerations{types, types + all}, first{0} {
        for (Signal& s : signals) {
            words.resize(std::max(words.size(), static_cast<size_t>(s.width + 31) / 32));
            s.scope = strdup(s.scope);
            s.name = strdup(s.name);
            s.pieces = copy(s.pieces, s.count);
        }
        for (Enumeration& e : enumerations) {
            e.name = strdup(e.name);
            e.names = copy(e.names, e.count);
            e.values = copy(e.values, e.count);
            for (long n = 0; n < e.count; n++) {
                e.names[n] = strdup(e.names[n]);
                e.values[n] = strdup(e.values[n]);
            }
        }
    }

    template <typename T>
    static T* copy(T* from, long count) {
        auto* const to = new std::remove_const_t<T>[count];
        std::copy(from, from + count, to);
        return to;
    }
};

constexpr auto none = VerilatedTraceSigDirection::NONE;
constexpr auto var = VerilatedTraceSigKind::VAR;
constexpr auto logic = VerilatedTraceSigType::LOGIC;

uint32_t codes(const Signal& s) { return (s.width + 31) / 32; }

void declare(void* user, Trace* trace, uint32_t code) {
    auto* const r = static_cast<Recorded*>(user);
    r->first = code;
#if VM_TRACE_FST
    int number = 0;
    for (const Enumeration& e : r->enumerations)
        trace->declDTypeEnum(++number, e.name, e.count, e.width, e.names, e.values);
#endif
    waves_push_path(trace, r->path.c_str());
    std::vector<std::string> open;
    for (const Signal& s : r->signals) {
        std::vector<std::string> scope;
        std::istringstream parts{s.scope};
        for (std::string part; std::getline(parts, part, '.');) scope.push_back(part);
        size_t same = 0;
        while (same < open.size() && same < scope.size() && open[same] == scope[same]) ++same;
        for (; open.size() > same; open.pop_back()) trace->popPrefix();
        for (; open.size() < scope.size(); open.push_back(scope[open.size()]))
            waves_push_path(trace, scope[open.size()].c_str());
        const int high = s.width - 1;
        if (s.width == 1) {
            VL_TRACE_DECL_BIT(trace, code, 0, s.name, s.enumeration, none, var, logic);
        } else if (s.width <= 32) {
            VL_TRACE_DECL_BUS(trace, code, 0, s.name, s.enumeration, none, var, logic, high, 0);
        } else if (s.width <= 64) {
            VL_TRACE_DECL_QUAD(trace, code, 0, s.name, s.enumeration, none, var, logic, high, 0);
        } else {
            VL_TRACE_DECL_WIDE(trace, code, 0, s.name, s.enumeration, none, var, logic, high, 0);
        }
        code += codes(s);
    }
    for (; !open.empty(); open.pop_back()) trace->popPrefix();
    waves_pop_path(trace, r->path.c_str());
}

void value(const Signal& s, uint32_t* words) {
    std::memset(words, 0, 4 * codes(s));
    for (long n = 0; n < s.count; n++) {
        const Piece& p = s.pieces[n];
        uint64_t x = 0;
        std::memcpy(&x, p.at, p.size);
        x >>= p.right;
        for (long bit = 0; bit < p.width; bit++, x >>= 1)
            words[(p.low + bit) / 32] |= static_cast<uint32_t>(x & 1) << ((p.low + bit) % 32);
    }
}

template <bool all>
void dump(void* user, Trace::Buffer* buffer) {
    auto* const r = static_cast<Recorded*>(user);
    uint32_t code = r->first;
    for (const Signal& s : r->signals) {
        uint32_t* const words = r->words.data();
        value(s, words);
        uint32_t* const old = buffer->oldp(code);
        const bool changed = all || std::memcmp(old, words, 4 * codes(s)) != 0;
        if (!changed) {
        } else if (s.width == 1) {
            buffer->fullBit(old, words[0]);
        } else if (s.width <= 32) {
            buffer->fullIData(old, words[0], s.width);
        } else if (s.width <= 64) {
            buffer->fullQData(old, words[0] | static_cast<QData>(words[1]) << 32, s.width);
        } else {
            buffer->fullWData(old, words, s.width);
        }
        code += codes(s);
    }
}

}  // namespace

// Lets the waveform show an instance, whose values lie in memory.
extern "C" void diptych_blackbox_record(const char* path, const Signal* signals, long count,
                                       const Enumeration* enumerations, long types) {
    auto* const r = new Recorded{path, signals, count, enumerations, types};
    waves_instances().push_back({path, [r](WavesFile* file) {
        uint32_t all = 0;
        for (const Signal& s : r->signals) all += codes(s);
        Trace* const trace = file->spTrace();
        trace->addInitCb(declare, r, r->path, false, all);
        trace->addFullCb(dump<true>, 0, r);
        trace->addChgCb(dump<false>, 0, r);
    }});
}
#endif
