// SPDX-License-Identifier: BSD-2-Clause
// The cells of an HBM: the file $DIPTYCH_HBM, zeros behind it. What is written stays in memory.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <svdpi.h>
#include <sys/mman.h>
#include <sys/stat.h>

namespace {

constexpr size_t BYTES = size_t{1} << 32;
constexpr size_t BEAT = 64;

[[noreturn]] void fail(const char* what, const char* path) {
    std::fprintf(stderr, "HBM: %s: %s\n", path, what);
    std::exit(1);
}

// Pages take memory once they are written, or read from the file.
uint8_t* cells() {
    static uint8_t* const memory = [] {
        void* base = mmap(nullptr, BYTES, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (base == MAP_FAILED) fail("no memory", "4 GiB");
        if (const char* path = std::getenv("DIPTYCH_HBM")) {
            const int file = open(path, O_RDONLY);
            struct stat about;
            if (file < 0 || fstat(file, &about) != 0) fail("cannot be read", path);
            const size_t size = static_cast<size_t>(about.st_size);
            if (size > BYTES) fail("more than 4 GiB", path);
            if (size && mmap(base, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, file, 0) ==
                            MAP_FAILED)
                fail("cannot be mapped", path);
        }
        return static_cast<uint8_t*>(base);
    }();
    return memory;
}

}  // namespace

extern "C" void diptych_hbm_read(int line, svBitVecVal* beat) {
    std::memcpy(beat, cells() + BEAT * static_cast<uint32_t>(line), BEAT);
}

extern "C" void diptych_hbm_write(int line, long long strobe, const svBitVecVal* beat) {
    uint8_t* const at = cells() + BEAT * static_cast<uint32_t>(line);
    const auto* const from = reinterpret_cast<const uint8_t*>(beat);
    for (size_t n = 0; n < BEAT; ++n)
        if (strobe >> n & 1) at[n] = from[n];
}
