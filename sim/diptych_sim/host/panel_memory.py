# SPDX-License-Identifier: BSD-2-Clause
"""The HBM and the counters of a prefill panel that runs alone, as its host sees them."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import unsigned

from diptych.memory.axi import BEAT_BYTES, WriteAddress, WriteData

from .streams import StreamDriver, StreamMonitor
from .triggers import catch_up

__all__ = ["PanelMemory", "panel_counters"]

_WHOLE = (1 << BEAT_BYTES) - 1
"""Enables of all bytes of a beat."""
_ENGINES = ("matrix", "vector", "load", "store", "scratchpad", "accumulators")


class PanelMemory:
    """The HBM of a panel: what it has at first, and what reaches it, as its channels show it."""

    def __init__(self, dut: Any, contents: bytes) -> None:
        self._dut = dut
        self._memory = bytearray(contents + bytes(-len(contents) % BEAT_BYTES))
        self._host = StreamDriver(dut, "host", unsigned(len(dut.host__payload)))

    def _beat(self, at: int) -> int:
        data = self._memory[at : at + BEAT_BYTES]
        return int.from_bytes(data, "little") | at // BEAT_BYTES << 8 * BEAT_BYTES

    async def write(self, at: int, data: bytes) -> None:
        """Write bytes into the beat that begins at ``at``."""
        self._memory[at : at + len(data)] = data
        await self._host.send([self._beat(at)])

    def watch(self) -> None:
        """Begin to watch the write channels."""
        self._bursts = StreamMonitor(self._dut.hbm, "axi__aw", WriteAddress(), passive=True)
        self._beats = StreamMonitor(self._dut.hbm, "axi__w", WriteData(), passive=True)

    def written(self) -> bytes:
        """Return the contents with all that was written while they were watched."""
        catch_up()
        bursts, beats = self._bursts.beats, self._beats.beats
        while not bursts.empty():
            burst = bursts.get_nowait()
            for index in range(burst["len"] + 1):
                beat = beats.get_nowait()
                at = burst["addr"] + BEAT_BYTES * index
                data = beat["data"].to_bytes(BEAT_BYTES, "little")
                if beat["strb"] == _WHOLE:
                    self._memory[at : at + BEAT_BYTES] = data
                    continue
                for n in range(BEAT_BYTES):
                    if beat["strb"] >> n & 1:
                        self._memory[at + n] = data[n]
        return bytes(self._memory)


def panel_counters(dut: Any) -> dict[str, dict[str, int]]:
    """Return the counters of a panel's blocks, and of its HBM, by block and name."""
    parts = {
        name: {
            item._name.removeprefix("count_"): int(item.value)
            for item in sorted(getattr(dut.panel, name), key=lambda item: item._name)
            if item._name.startswith("count_") and not item._name.endswith("_now")
        }
        for name in _ENGINES
    }
    parts["hbm"] = {
        name: int(getattr(dut.hbm, f"count_{name}").value) for name in ("hbm_read", "hbm_write")
    }
    return parts
