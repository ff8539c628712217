// SPDX-License-Identifier: BSD-2-Clause
// Reads registers through the simulator's interface: thousands in a cycle, so not in Python.
#include <cstdint>

#include "vpi_user.h"

extern "C" {

void* digest_find(const char* name) { return vpi_handle_by_name(const_cast<char*>(name), nullptr); }

// Adds to out[tiles[n]] each 64 bits of register n, times one of its ``each`` keys.
void digest_add(void* const* handles, const uint64_t* keys, long each, const long* tiles,
                long count, uint64_t* out) {
    for (long n = 0; n < count; n++) {
        const vpiHandle handle = static_cast<vpiHandle>(handles[n]);
        s_vpi_value value;
        value.format = vpiVectorVal;
        vpi_get_value(handle, &value);
        const long words = (vpi_get(vpiSize, handle) + 31) / 32;
        for (long w = 0; w < words; w++) {
            const uint64_t word = static_cast<uint32_t>(value.value.vector[w].aval);
            out[tiles[n]] += keys[each * n + w / 2] * (word << 32 * (w % 2));
        }
    }
}
}
