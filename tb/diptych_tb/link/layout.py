# SPDX-License-Identifier: BSD-2-Clause
"""Testbench of the layout change: frames of whole contexts, of any shape, against the layout."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass
from typing import Any

import cocotb
import numpy as np
from amaranth.hdl import unsigned
from cocotb.triggers import RisingEdge

from diptych.link.frames import SLOT_WORDS, FrameHead
from diptych.link.layout import HEADS, Setting, Settings
from diptych.mesh.fabric import Load, header
from diptych.systolic.isa import HandoffKind
from diptych_sim.compiler.decode.kv_layout import HeadPlace, KvLayout, pack_bytes
from diptych_sim.compiler.decode.position_deal import PositionDeal
from diptych_sim.golden import numbers
from diptych_sim.host.clocking import start_clock_and_reset
from diptych_sim.host.fields import Fields
from diptych_sim.host.streams import StreamChecker, StreamDriver, sometimes

DIVISION = 17
"""Cycles for a position that is neither 0 nor the next one."""
BLANK_HEAD = {str(name): 0 for name, _ in FrameHead()}


@dataclass(frozen=True)
class Shape:
    """What a context is made of."""

    head_dim: int
    heads: int
    rows: int
    block: int
    positions: int
    prompts: int
    layers: int


SHAPES = {
    "widest heads": Shape(head_dim=128, heads=4, rows=2, block=1, positions=5, prompts=1, layers=2),
    "most heads": Shape(head_dim=4, heads=HEADS, rows=5, block=2, positions=6, prompts=1, layers=1),
    "longest context": Shape(
        head_dim=4, heads=1, rows=1, block=16, positions=2048, prompts=1, layers=1
    ),
    "tallest mesh": Shape(
        head_dim=64, heads=1, rows=128, block=1, positions=131, prompts=1, layers=1
    ),
    "longest round": Shape(
        head_dim=4, heads=1, rows=255, block=16, positions=4097, prompts=1, layers=1
    ),
}


def draw(rng: random.Random) -> Shape:
    """Draw a shape; a frame holds the keys of a position."""
    head_dim = rng.choice([4, 8, 12, 48, 64, 80, 96, 128])
    heads = rng.randint(1, min(HEADS, 2 * SLOT_WORDS // head_dim))
    rows, prompts, layers = rng.choice([1, 2, 3, 7, 16]), rng.randint(1, 3), rng.randint(1, 3)
    block = rng.choice([1, 2, 4, 8, 16])
    most = max(rows * block + 1, 2500 // (heads * head_dim * prompts * layers))
    return Shape(
        head_dim=head_dim,
        heads=heads,
        rows=rows,
        block=block,
        positions=rng.randint(1, most),
        prompts=prompts,
        layers=layers,
    )


class _Bench:
    """Shows frames to the layout change, and checks each word that leaves."""

    def __init__(self, dut: Any, shape: Shape, rng: random.Random, stall: float) -> None:
        self.dut, self.shape, self.rng = dut, shape, rng
        self.activates = rng.random() < 0.7
        self.last_column = rng.randrange(128)
        self.tokens = 4 * rng.randrange(2**12)
        # As a mesh places them, at random: planes of keys by slot, columns of values by element.
        deal = PositionDeal(shape.rows, shape.block)
        stride = deal.held(shape.rows // 2, shape.positions) + rng.randrange(5)
        places = []
        for head in range(shape.heads):
            first = rng.randrange(128)
            keys, values = 4 * rng.randrange(2**14), rng.randrange(2**16)
            places.append(HeadPlace(head, first, rng.randrange(first, 128), keys, values))
        self.layout = KvLayout(
            deal,
            shape.head_dim,
            4 * rng.randrange(2**14),
            stride,
            tuple(places),
            4 * rng.randrange(2**14),
        )
        self.pause = sometimes(rng, stall)
        self.expected: deque[tuple[int, int]] = deque()
        self.shown: deque[tuple[int, list[int]]] = deque()
        self.told: deque[int] = deque()
        self.words = 0

    def settings(self) -> list[dict[str, int]]:
        layout = self.layout
        values = {
            Settings.ROWS: self.shape.rows,
            Settings.LAST_COLUMN: self.last_column,
            Settings.LAYER_STRIDE: layout.layer_stride,
            Settings.VALUE_STRIDE: layout.value_stride,
            Settings.HEAD_WORDS: self.shape.head_dim // 4,
            Settings.HEAD_COUNT: self.shape.heads,
            Settings.ACTIVATES: int(self.activates),
            Settings.PROMPT_STRIDE: layout.prompt_stride,
            Settings.LAST_PROMPT: self.shape.prompts - 1,
            Settings.TOKENS: self.tokens,
            Settings.BLOCK: self.shape.block.bit_length() - 1,
        }
        for place in layout.heads:
            at = Settings.HEAD + place.head * Settings.HEAD_STEP
            values |= {at: place.first | place.last << 16, at + 1: place.keys, at + 2: place.values}
        return [{"address": a, "data": d} for a, d in values.items()]

    def add(self, layer: int, prompt: int, chunk: range) -> None:
        """Add the keys, then the values of a chunk of a prompt in a layer."""
        shape, layout = self.shape, self.layout
        draws = np.random.default_rng(self.rng.getrandbits(32))
        size = (len(chunk), shape.heads, shape.head_dim)
        keys, values = draws.integers(-32767, 32768, size), draws.integers(-127, 128, size)
        for kind in (HandoffKind.KEYS, HandoffKind.VALUES):
            for number, position in enumerate(chunk):
                row = layout.positions.row(position)
                k, v = keys[number], values[number]
                if kind is HandoffKind.KEYS:
                    payload = [w for p in numbers.planes(k.reshape(-1)) for w in pack_bytes(p)]
                else:
                    payload = pack_bytes(v.reshape(-1))
                self._show(kind, layer, prompt, position, payload)
                packets = layout.packets(row, layer, position, k, v, prompt=prompt)
                self.expected += [(row, w) for w in _of_kind(kind, packets)]

    def add_token(self, prompt: int) -> None:
        """Add the first token of a prompt."""
        token = self.rng.randrange(2**24)
        self._show(HandoffKind.TOKEN, 0, prompt, self.shape.positions - 1, [token])
        self.told.append(token | prompt << 24)
        last = prompt == self.shape.prompts - 1
        words = header(
            Load.ACTIVATE if last else Load.WORDS,
            count=1,
            first_column=0,
            last_column=self.last_column,
            address=0 if last else self.tokens + 4 * prompt,
        )
        for row in range(self.shape.rows if self.activates else 0):
            self.expected += [(row, word) for word in (*words, token)]

    def _show(
        self, kind: HandoffKind, layer: int, prompt: int, position: int, payload: list[int]
    ) -> None:
        fields = {"kind": kind.value, "count": len(payload), "layer": layer, "prompt": prompt}
        head = BLANK_HEAD | fields | {"position": position}
        self.shown.append((Fields(FrameHead()).pack(head), payload))

    async def run(self) -> None:
        """Show all frames, one after the other, and check every word."""
        dut, edge = self.dut, RisingEdge(self.dut.clk)
        valid, ready, payload = dut.o__valid, dut.o__ready, dut.o__payload
        following, rested = 0, True
        while self.shown:
            head, words = self.shown.popleft()
            dut.head.value, dut.valid.value = head, 1
            fields = Fields(FrameHead()).unpack(head)
            is_token, position = fields["kind"] == HandoffKind.TOKEN.value, fields["position"]
            waits = 2 - rested + DIVISION * (position not in (0, following))
            following = 0 if is_token else position + 1
            delivered, waited = False, 0
            while not delivered:
                takes = not (self.pause and self.pause())
                ready.value = takes
                await edge
                if waited is not None and not is_token:
                    if valid.value:
                        assert waited == waits, f"position {position} took {waited} cycles"
                        waited = None
                    else:
                        waited += 1
                at = int(dut.address.value)
                dut.data.value = words[at] if at < len(words) else self.rng.getrandbits(32)
                if takes and valid.value:
                    got = (int(dut.row.value), int(payload.value))
                    assert self.expected, f"{got} is too much"
                    want = self.expected.popleft()
                    assert got == want, f"word {self.words}: {got} instead of {want}"
                    self.words += 1
                if dut.token_valid.value:
                    assert int(dut.token.value) == self.told.popleft()
                delivered = bool(dut.delivered.value)
            dut.valid.value = 0
            rested = False  # the cycle behind a frame
            while self.pause and self.pause():
                rested = True
                await edge
        assert not self.expected, f"{len(self.expected)} words are missing"
        assert not self.told


def _of_kind(kind: HandoffKind, packets: list[int]) -> list[int]:
    """Return the packets of keys, or those of values."""
    wanted = (Load.WORDS if kind is HandoffKind.KEYS else Load.BYTES).value
    out: list[int] = []
    at = 0
    while at < len(packets):
        end = at + 3 + (packets[at] >> 16)
        if packets[at] & 15 == wanted:
            out += packets[at:end]
        at = end
    return out


async def _run(dut: Any, shape: Shape, rng: random.Random, stall: float) -> None:
    dut.valid.value = dut.o__ready.value = 0
    settings = StreamDriver(dut, "settings", Setting())
    bench = _Bench(dut, shape, rng, stall)
    await start_clock_and_reset(dut)
    if stall:
        StreamChecker(dut, "o", unsigned(32))
    await settings.send(bench.settings())
    # All layers of a chunk come before the next chunk.
    chunk = rng.randint(1, shape.positions)
    for at in range(0, shape.positions, chunk):
        part = range(at, min(at + chunk, shape.positions))
        for layer in range(shape.layers):
            for prompt in range(shape.prompts):
                bench.add(layer, prompt, part)
    for prompt in range(shape.prompts):
        bench.add_token(prompt)
    await bench.run()


@cocotb.test(timeout_time=300, timeout_unit="us")
@cocotb.parametrize(shape=list(SHAPES))
async def limits_arrive_at_their_places(dut: Any, shape: str) -> None:
    await _run(dut, SHAPES[shape], random.Random(f"{cocotb.RANDOM_SEED} {shape}"), 0.0)


@cocotb.test(timeout_time=300, timeout_unit="us")
@cocotb.parametrize(number=list(range(8)))
async def any_shape_arrives_at_its_places(dut: Any, number: int) -> None:
    rng = random.Random(f"{cocotb.RANDOM_SEED} {number}")
    await _run(dut, draw(rng), rng, 0.3 if number % 2 else 0.0)
