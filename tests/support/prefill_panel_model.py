# SPDX-License-Identifier: BSD-2-Clause
"""The prefill panel in NumPy: runs the commands of a program one after another."""

from typing import Any

import numpy as np

from diptych.systolic.isa import (
    Causal,
    Flags,
    Modes,
    Start,
    StoreOp,
    Target,
    VectorOp,
)
from diptych.systolic.panel import panel_sizes
from diptych_sim.compiler.array.commands import PrefillProgram, field_of
from diptych_tb.systolic.vector_model import Command, VectorModel

STATES = ("dynamic", "inverse", "top", "largest")


class PanelModel:
    """What a program does if each command ends before the next one begins.

    Attributes
    ----------
    handoff : list
        Kind (0 keys, 1 values, 2 token), layer, prompt, position, words.
    """

    def __init__(
        self, program: PrefillProgram, rows: int, columns: int, layers: Any = None
    ) -> None:
        self.rows, self.columns = rows, columns
        self.sizes = panel_sizes(rows, columns)
        self.hbm = np.frombuffer(program.hbm + bytes(4096), np.uint8).copy()
        self.vector = vector = VectorModel(self.sizes, np.random.default_rng(0))
        # What was never written must not matter.
        self.states = {name: getattr(vector, name).copy() for name in STATES}
        self.table = np.zeros(1024, np.int64)
        self.handoff: list[tuple[int, int, int, int, list[int]]] = []
        self.run(program)

    def run(self, program: PrefillProgram) -> None:
        """Run a further program of the same HBM; what is in the memories stays there."""
        for command in program.commands.commands:
            fields = {name: int(getattr(v, "value", v)) for name, v in command.fields.items()}
            getattr(self, f"_{command.queue.name.lower()}")(command.op, fields)

    # --- load ----------------------------------------------------------------------------------
    def _load(self, op: int, f: dict[str, int]) -> None:
        target = Target(op)
        lanes, vector = self.columns, self.vector
        ids = np.zeros(0, np.int64)
        if "ids" in f:
            ids = self.hbm[f["ids"] : f["ids"] + 4 * f["rows"]].view("<u4").astype(np.int64)
        if target is Target.TABLE:
            words = self.hbm[f["hbm"] : f["hbm"] + f["bytes"]].view("<u4")
            self.table[f["target"] : f["target"] + len(words)] = words
            return
        if target is Target.PICK_DYNAMIC:
            self.states["dynamic"][f["target"] : f["target"] + f["rows"]] = self.table[ids]
            return
        for row in range(f["rows"]):
            gathers = target in (Target.GATHER, Target.GATHER_DYNAMIC)
            at = f["hbm"] + f.get("pitch", 0) * (int(ids[row]) if gathers else row)
            piece = self.hbm[at : at + f["bytes"]]
            to = f["target"] + row * f.get("target_pitch", 0)
            if target in (Target.SCRATCHPAD, Target.GATHER):
                vector.scratchpad[to : to + len(piece)] = piece.view(np.int8)
            elif target is Target.PARAMETERS:
                entries = piece.view("<u4").reshape(-1, lanes)
                vector.parameters[to : to + len(entries)] = entries
            elif target is Target.BIASES:
                entries = piece.view("<i4").reshape(-1, lanes)
                vector.biases[to : to + len(entries)] = entries
            elif target is Target.VECTOR:
                entries = piece.view("<i2").reshape(-1, lanes)
                vector.vectors[to : to + len(entries)] = entries
            else:
                assert target in (Target.DYNAMIC, Target.GATHER_DYNAMIC)
                self.states["dynamic"][to] = piece.view("<u4")[0]

    # --- matrix --------------------------------------------------------------------------------
    def _matrix(self, op: int, f: dict[str, int]) -> None:
        modes = field_of(Modes(), f["modes"])
        pad, sums = self.vector.scratchpad, self.vector.accumulators
        rows, columns, line = self.rows, self.columns, self.sizes.line
        count, first = f["rows"] & 0xFFFF, f.get("first", 0) & 0xFFFF
        x_other, w_other = (f["rows"] >> 16) * line, (f.get("first", 0) >> 16) * line
        k_tiles, n_tiles = f["tiles"] & 0xFFFF, f["tiles"] >> 16
        kept = np.zeros(rows, bool)
        kept[modes["first_row"] : modes["end_row"]] = True
        products = [(0, 0, modes["start"], kept)]
        if modes["planes"]:
            products = [
                (0, 0, Start.OVERWRITE.value, kept),
                (0, w_other, Start.ADD_TO_HIGH.value, kept),
                (x_other, 0, Start.ADD.value, kept),
            ]
            if modes["start"] == Start.ADD.value:
                both = kept.copy()
                half = modes["end_row"] - modes["first_row"]
                begin = modes["first_row"] // (2 * half) * 2 * half
                both[begin : begin + 2 * half] = True
                products = [products[0], (0, w_other, Start.ADD_TO_HIGH.value, both)]
        for j in range(n_tiles):
            for x_plane, w_plane, start, mask in products:
                for k in range(k_tiles):
                    position = {0: 0, 1: j * columns, 2: k * rows}[Causal(modes["causal"]).value]
                    skip = max(0, position - first)
                    if skip >= count:
                        continue
                    at = f["w"] + w_plane + k * f["w_k"] + j * f["w_n"]
                    if modes["transposed"]:
                        places = (
                            at + np.arange(columns)[None] * f["w_row"] + np.arange(rows)[:, None]
                        )
                    else:
                        places = (
                            at + np.arange(rows)[:, None] * f["w_row"] + np.arange(columns)[None]
                        )
                    # Weights are bytes.
                    w = np.where(mask[:, None], (pad[places] + 128) % 256 - 128, 0)
                    if modes["end_column"] and j == n_tiles - 1:
                        w[:, modes["end_column"] :] = 0
                    m = np.arange(skip, count)
                    at = f["x"] + x_plane + m[:, None] * f["x_row"] + k * f["x_k"]
                    x = pad[at + np.arange(rows)[None]]
                    entries = f["sums"] + j * f["sums_n"] + m
                    old = {0: 0, 1: 1, 2: 256}[start if k == 0 else Start.ADD.value]
                    new = old * sums[entries] + x.astype(np.int64) @ w.astype(np.int64)
                    sums[entries] = (new + 2**31) % 2**32 - 2**31

    # --- vector --------------------------------------------------------------------------------
    def _vector(self, op: int, f: dict[str, int]) -> None:
        flags = field_of(Flags(), f["flags"])
        known: dict[str, Any] = {
            name: f.get(name, 0) for name in Command.__dataclass_fields__ if name != "op"
        }
        first, state = f["first"] & 0xFFFF, f["first"] >> 16
        known |= {
            "rows": f["extent"] & 0xFFFF,
            "tiles": f["extent"] >> 16,
            "first": first,
            "flags": flags,
        }
        command = Command(VectorOp(op), **known)
        vector = self.vector
        # From the state of row 0 on; half of all states away is then half of them behind.
        for name in STATES:
            setattr(vector, name, np.roll(self.states[name], -state))
        if command.op is VectorOp.TOP:
            # Tiles that are masked for a row are not written either.
            for m in range(command.rows):
                tiles = min(command.tiles, -(-(first + m + 1) // self.columns))
                scores = [
                    vector.accumulators[command.sums + j * command.sums_n + m] for j in range(tiles)
                ]
                vector.top[m] = np.concatenate(scores)[: first + m + 1].max()
        else:
            vector.run(command)
        for name in STATES:
            self.states[name] = np.roll(getattr(vector, name), state)

    # --- store ---------------------------------------------------------------------------------
    def _store(self, op: int, f: dict[str, int]) -> None:
        store = StoreOp(op)
        pad = self.vector.scratchpad
        if store is StoreOp.TOKEN:
            self.handoff.append((2, 0, f.get("layer", 0) >> 8, f["first"], [self.vector.token]))
            return
        if store is StoreOp.HBM:
            for row in range(f["rows"]):
                at = f["hbm"] + row * f.get("pitch", 0)
                piece = pad[f["source"] + row * f.get("source_pitch", 0) :][: f["bytes"]]
                self.hbm[at : at + f["bytes"]] = piece.astype(np.int8).view(np.uint8)
            return
        kind = {StoreOp.KEYS: 0, StoreOp.VALUES: 1}[store]
        layer = f.get("layer", 0)
        sources = ("source", "source2") if store is StoreOp.KEYS else ("source",)
        for row in range(f["rows"]):
            planes = [
                pad[f[name] + row * f["source_pitch"] :][: f["bytes"]].astype(np.int8).tobytes()
                for name in sources
            ]
            words = np.frombuffer(b"".join(planes), "<u4").tolist()
            self.handoff.append((kind, layer & 0xFF, layer >> 8, f.get("first", 0) + row, words))
