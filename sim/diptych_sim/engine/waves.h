// SPDX-License-Identifier: BSD-2-Clause
// Records a window of cycles and chosen scopes, and opens its file only when the window begins.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "verilated.h"
#if VM_TRACE_FST
#include "verilated_fst_c.h"
using WavesFile = VerilatedFstC;
#else
#include "verilated_vcd_c.h"
using WavesFile = VerilatedVcdC;
#endif

// An instance of a shared module, which is a model of its own.
struct WavesInstance {
    std::string path;
    std::function<void(WavesFile*)> attach;
};

inline std::vector<WavesInstance>& waves_instances() {
    static std::vector<WavesInstance> instances;
    return instances;
}

// The length of a cycle, once the testbench has said that cycle 0 begins in this time step.
inline uint64_t& waves_period() {
    static uint64_t period = 0;
    return period;
}

// A model's name is its path; viewers want a scope for each part of it.
template <typename Trace>
void waves_push_path(Trace* trace, const char* path) {
    std::istringstream parts{path};
    for (std::string part; std::getline(parts, part, '.');)
        trace->pushPrefix(part.c_str(), VerilatedTracePrefixType::SCOPE_MODULE);
}

template <typename Trace>
void waves_pop_path(Trace* trace, const char* path) {
    std::istringstream parts{path};
    for (std::string part; std::getline(parts, part, '.');) trace->popPrefix();
}

// What cocotb's main program takes for the trace file.
class Waves : public WavesFile {
    std::string m_file;
    uint64_t m_first = number("DIPTYCH_WAVES_FIRST", 0);
    uint64_t m_last = number("DIPTYCH_WAVES_LAST", ~0ULL);
    bool m_counting = number("DIPTYCH_WAVES_MARKED", 0) == 0;
    uint64_t m_origin = 0;

    static uint64_t number(const char* name, uint64_t otherwise) {
        const char* const text = std::getenv(name);
        return text ? std::strtoull(text, nullptr, 10) : otherwise;
    }

    uint64_t m_period = 1;
    // A shared module shows its inputs from the cycle after the next on.
    static constexpr uint64_t lead = 4;
    bool m_prepared = false;

    void prepare() {
        m_prepared = true;
        const char* const text = std::getenv("DIPTYCH_WAVES_SCOPES");
        std::istringstream scopes{text ? text : ""};
        std::vector<std::pair<int, std::string>> chosen;
        int levels = 0;
        for (std::string scope; scopes >> levels >> scope;) {
            dumpvars(levels, scope);
            chosen.emplace_back(levels, scope + ".");
        }
        for (const auto& instance : waves_instances()) {
            const std::string path = instance.path + ".";
            bool wanted = chosen.empty();
            for (const auto& [depth, scope] : chosen)
                wanted |= path.compare(0, scope.size(), scope) == 0
                          && std::count(path.begin() + scope.size(), path.end(), '.') < depth;
            if (wanted) instance.attach(this);
        }
    }

public:
    void open(const char* file) { m_file = file; }

    void dump(uint64_t now) {
        if (!m_counting) {
            if (waves_period() == 0) return;
            m_counting = true;
            m_origin = now;
            m_period = waves_period();
        }
        const uint64_t time = now - m_origin;
        const uint64_t cycle = time / m_period;
        if (!m_prepared && cycle + lead >= m_first) prepare();
        if (cycle < m_first) return;
        if (cycle > m_last) {
            if (isOpen()) close();
            return;
        }
        if (!isOpen()) WavesFile::open(m_file.c_str());
        WavesFile::dump(time);
    }
};
