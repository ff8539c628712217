# SPDX-License-Identifier: BSD-2-Clause
"""Operations on lanes, of each kind of processor, beside the same for one lane after the other."""

import ctypes
import platform
from pathlib import Path

import pytest

from diptych_sim.engine.native_library import build_library
from diptych_sim.engine.simulate import default_seed

SOURCE = Path(__file__).with_name("vectors.cpp").read_text()
FLAGS = {"native": "", "x86-64": "sse2", "x86-64-v3": "avx2", "x86-64-v4": "avx512bw"}
"""What a processor must have to run what is compiled for another."""


def has(flag: str) -> bool:
    if not flag or platform.machine() != "x86_64":
        return not flag
    return flag in Path("/proc/cpuinfo").read_text().split()


@pytest.mark.parametrize("lanes", [64, 128, 256, 512])
@pytest.mark.parametrize("processor", FLAGS)
def test_vectors_give_what_scalars_do(monkeypatch, processor, lanes):
    if not has(FLAGS[processor]):
        pytest.skip(f"this processor cannot run what is compiled for {processor}")
    monkeypatch.setenv("DIPTYCH_MARCH", processor)
    library = ctypes.CDLL(str(build_library("vectors", f"#define LANES {lanes}\n{SOURCE}")))
    seed = default_seed()
    differences = ctypes.create_string_buffer(1000)
    library.check(ctypes.c_uint64(seed), ctypes.c_long(500), differences, ctypes.c_long(1000))
    assert differences.value.decode() == "", f"seed {seed}"
