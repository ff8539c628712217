# SPDX-License-Identifier: BSD-2-Clause
"""Compares a prefill panel of words with the same in Verilator: every register in every cycle."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from diptych.config import MachineConfig
from diptych.systolic.panel_with_hbm import PrefillWithHbm
from diptych_sim.engine.hbm_storage import HBM_VARIABLE
from diptych_sim.engine.words.build import compile_words
from diptych_sim.engine.words.digest import WordsDigest
from diptych_sim.engine.words.machine import WordMachine
from diptych_sim.host.public_signals import PANEL_NAME, PANEL_PUBLIC

from .verilator import states_in_verilator

__all__ = ["PanelComparison", "compare_panels"]


@dataclass(frozen=True, kw_only=True)
class PanelComparison:
    """Extent of a comparison, and the first difference in one line, or None."""

    first: str | None
    registers: int
    """In every cycle."""
    memories: int
    """At the last, and where registers differ."""
    cycles: int


def compare_panels(
    machine: MachineConfig, hbm: bytes, program: int, cycles: int
) -> PanelComparison:
    """Run a program on both panels, and compare them.

    Parameters
    ----------
    machine : MachineConfig
        The panel.
    hbm : bytes
        Contents of its HBM.
    program : int
        Address of the program in it.
    cycles : int
        Cycles since the end of reset in which digests of all registers are compared; after the
        last all is, memories too.

    Raises
    ------
    BuildError, SimulationError, ToolError
        If a step fails.
    """
    parameters = machine.array_parameters | {"hbm_bytes": None}
    hardware = partial(PrefillWithHbm, *machine.array, **parameters)
    compiled = compile_words(hardware, PANEL_NAME, PANEL_PUBLIC)
    with tempfile.TemporaryDirectory(prefix="diptych-") as name:
        folder = Path(name)
        (folder / "hbm").write_bytes(hbm)

        def theirs(at: int, digests: bool) -> dict[str, Any]:
            return states_in_verilator(
                hardware,
                {"program": program},
                folder,
                names=sorted(compiled.places),
                cycles=[at],
                digests=digests,
                name=PANEL_NAME,
                test_module="diptych_tb.lockstep.panel_states",
                env={HBM_VARIABLE: folder / "hbm"},
                public=(("*", "*"),),
            )

        there = theirs(cycles, digests=True)
        digests = np.fromfile(folder / "digests", dtype=np.uint64)
        registers = there["registers"]
        with WordMachine(compiled, folder / "hbm") as words:
            taking = WordsDigest(words, registers)
            words.reset()
            words.set("handoff__ready", 1)
            words.set("program", program)
            words.set("start", 1)
            first = None
            for cycle, expected in enumerate(map(int, digests)):
                if cycle:
                    words.run(1)
                    words.set("start", 0)
                if taking.take() != expected:
                    first = _difference(words, cycle, theirs(cycle, digests=False)["states"][0])
                    break
            if first is None:
                first = _difference(words, cycles, there["states"][0])
    memories = len(there["states"][0]) - len(registers)
    return PanelComparison(
        first=first, registers=len(registers), memories=memories, cycles=len(digests)
    )


def _difference(words: WordMachine, cycle: int, state: dict[str, list[int]]) -> str | None:
    for name, there in sorted(state.items()):
        here = words.read(name)[: len(there)]
        for number, (mine, other) in enumerate(zip(here, there, strict=True)):
            if mine != other:
                which = f"{name}[{number}]" if len(here) > 1 else name
                return f"cycle {cycle}: {which} is {mine:#x} in words and {other:#x} in Verilator"
    return None
