# SPDX-License-Identifier: BSD-2-Clause
"""Testbench of the KV link: from handed-off words to packets for the mesh, over bad wires."""

from __future__ import annotations

import itertools
import os
import random
import zlib
from collections import deque
from typing import Any

import cocotb
import numpy as np
from amaranth.hdl import unsigned
from cocotb.triggers import ClockCycles, RisingEdge

from diptych.link.frames import SEQUENCE_BITS, SLOTS, Answer, LinkWord
from diptych.link.layout import Setting, Settings
from diptych.mesh.fabric import Load
from diptych.systolic.isa import Handoff, HandoffKind
from diptych_sim.compiler.decode.kv_layout import HeadPlace, KvLayout, pack_bytes
from diptych_sim.compiler.decode.position_deal import PositionDeal
from diptych_sim.golden import numbers
from diptych_sim.host.clocking import start_clock_and_reset
from diptych_sim.host.fields import Fields
from diptych_sim.host.observers.link import LinkObserver
from diptych_sim.host.streams import StreamDriver, StreamMonitor, sometimes

ROWS = int(os.environ["DUT_ROWS"])
LATENCY = int(os.environ["DUT_LATENCY"])
BANDWIDTH = int(os.environ["DUT_BYTES_PER_CYCLE"])
LAST_COLUMN = 6
TOKENS = 0x300
TIMEOUT = 4096
"""Cycles of silence until the transmitter goes back."""
Cell = tuple[int, int, int, int]
"""Row, first and last column, byte address."""


def _layout(rng: random.Random) -> KvLayout:
    head_dim = rng.choice([4, 8, 16])
    heads = rng.randint(1, 4)
    slots, block = 8, rng.choice([1, 2, 4])
    size = slots * 2 * head_dim
    places = []
    for head in range(heads):
        first = rng.randint(0, LAST_COLUMN)
        keys = 0x400 + head * 2 * size
        places.append(HeadPlace(head, first, rng.randint(first, LAST_COLUMN), keys, keys + size))
    prompt_stride = heads * 2 * size
    return KvLayout(
        PositionDeal(ROWS, block), head_dim, 0x4000, slots, tuple(places), prompt_stride
    )


def _settings(layout: KvLayout, *, prompts: int, activates: bool) -> list[dict[str, int]]:
    values = {
        Settings.ROWS: ROWS,
        Settings.LAST_COLUMN: LAST_COLUMN,
        Settings.LAYER_STRIDE: layout.layer_stride,
        Settings.VALUE_STRIDE: layout.value_stride,
        Settings.HEAD_WORDS: layout.head_dim // 4,
        Settings.HEAD_COUNT: len(layout.heads),
        Settings.ACTIVATES: int(activates),
        Settings.PROMPT_STRIDE: layout.prompt_stride,
        Settings.LAST_PROMPT: prompts - 1,
        Settings.TOKENS: TOKENS,
        Settings.BLOCK: layout.positions.block.bit_length() - 1,
    }
    for place in layout.heads:
        base = Settings.HEAD + place.head * Settings.HEAD_STEP
        values[base] = place.first | place.last << 16
        values[base + 1], values[base + 2] = place.keys, place.values
    return [{"address": a, "data": d} for a, d in values.items()]


def _handoff(
    kind: HandoffKind, layer: int, prompt: int, position: int, words: list[int]
) -> list[dict[str, Any]]:
    return [
        {
            "data": word,
            "kind": kind.value,
            "layer": layer,
            "position": position,
            "prompt": prompt,
            "last": index == len(words) - 1,
        }
        for index, word in enumerate(words)
    ]


class _Memory:
    """Contents that packets write into the tiles of all rows; no byte twice."""

    def __init__(self) -> None:
        self.cells: dict[Cell, int] = {}
        self.activations: list[tuple[int, int, int, int]] = []

    def take(self, row: int, words: list[int]) -> None:
        """Carry out the packets in ``words``."""
        at = 0
        while at < len(words):
            kind, step, count = words[at] & 15, words[at] >> 4 & 0xFFF, words[at] >> 16
            first, last, address = words[at + 1] & 0xFFFF, words[at + 1] >> 16, words[at + 2]
            payload = words[at + 3 : at + 3 + count]
            assert len(payload) == count, "a packet is cut short"
            at += 3 + count
            if kind == Load.ACTIVATE.value:
                assert (address, count) == (0, 1)
                self.activations.append((row, first, last, payload[0]))
                continue
            assert kind in (Load.WORDS.value, Load.BYTES.value)
            apart = 1 if kind == Load.WORDS.value else step
            data = b"".join(word.to_bytes(4, "little") for word in payload)
            for n, byte in enumerate(data):
                cell = (row, first, last, address + n * apart)
                assert cell not in self.cells, f"{cell} is written twice"
                self.cells[cell] = byte


class _Wires:
    """Listens at the transmitter: frames, their CRC and their bytes, and answers that refuse one."""

    def __init__(self, dut: Any) -> None:
        self.cycle = self.words = 0
        self.payload = self.framing = self.frames = 0
        self.first_cycle = self.last_cycle = 0
        self.first_refusal = 0
        """Cycle of the first of them."""
        self.begins: list[int] = []
        """Cycles of the first words of frames."""
        self.refused = self.returns = 0
        """Answers that refuse a frame, and frames whose number is not above that before."""
        self._sequence = -1
        cocotb.start_soon(self._run(dut))

    async def _run(self, dut: Any) -> None:
        out, unpack = dut.transmitter.o, Fields(LinkWord()).unpack
        answer, unpack_answer = dut.transmitter.answer, Fields(Answer()).unpack
        edge = RisingEdge(dut.clk)
        frame: list[int] = []
        missing = 0
        credit = 8  # bytes that the wires may carry in the cycle before
        expected = deque([0] * 3, 3)  # by the answers of this cycle and those before
        while True:
            await edge
            self.cycle += 1
            answered = unpack_answer(int(answer.value))
            if answered["valid"] and answered["refused"]:
                self.refused += 1
                self.first_refusal = self.first_refusal or self.cycle
            expected.append(answered["expected"] if answered["valid"] else expected[-1])
            word = unpack(int(out.value))
            may = credit >= 4
            credit = min(8, credit - 4 * word["valid"] + BANDWIDTH)
            if not word["valid"]:
                # All words of a frame are there; a cycle is left out behind the first two.
                pauses = len(frame) in (1, 2) and self.cycle == self.last_cycle + 1
                assert not frame or pauses or not may, "slower than the wires"
                continue
            assert may, "faster than the wires"
            self.first_cycle = self.first_cycle or self.cycle
            self.last_cycle = self.cycle
            self.words += 1
            assert bool(word["first"]) == (not frame)
            if not frame:
                missing = expected[0]
                self.begins.append(self.cycle)
            frame.append(word["data"])
            if len(frame) >= 2 and len(frame) == 3 + (frame[0] >> 16):
                raw = b"".join(word.to_bytes(4, "little") for word in frame)
                assert zlib.crc32(raw[:-4]) == frame[-1], "wrong CRC"
                self.frames += 1
                sequence = frame[0] % 2**SEQUENCE_BITS
                ahead = (sequence - self._sequence - 1) % 2**SEQUENCE_BITS
                passed = (missing - sequence) % 2**SEQUENCE_BITS
                assert not 1 <= passed <= SLOTS, "sent again what was acknowledged"
                self.returns += ahead >= 2 ** (SEQUENCE_BITS - 1)
                self._sequence = sequence
                self.payload += len(raw) - 12
                self.framing += 12
                frame = []


@cocotb.test(timeout_time=300, timeout_unit="us")
@cocotb.parametrize(idle=[0.0, 0.7], stall=[0.0, 0.7], damage=[0.0, 0.01])
async def keys_and_values_arrive_once(dut: Any, idle: float, stall: float, damage: float) -> None:
    rng = random.Random(f"{cocotb.RANDOM_SEED} {idle} {stall} {damage}")

    driver = StreamDriver(dut, "i", Handoff(), sometimes(rng, idle))
    settings = StreamDriver(dut, "settings", Setting())
    dut.damage.value = 0
    layout = _layout(rng)
    activates = rng.random() < 0.7
    observer = LinkObserver(
        dut,
        dut.clk,
        rows=ROWS,
        latency=LATENCY,
        heads=len(layout.heads),
        activates=activates,
    )
    await start_clock_and_reset(dut)
    observer.start()
    outs = [StreamMonitor(dut, f"o__{r}", unsigned(32), sometimes(rng, stall)) for r in range(ROWS)]
    prompts = rng.randint(1, 3)
    await settings.send(_settings(layout, prompts=prompts, activates=activates))
    wires = _Wires(dut)
    tokens: list[int] = []

    async def damages() -> None:
        while True:
            await RisingEdge(dut.clk)
            dut.damage.value = 1 << rng.randrange(32) if rng.random() < damage else 0

    async def watch_token() -> None:
        while True:
            await RisingEdge(dut.clk)
            if dut.token_valid.value:
                tokens.append(int(dut.token.value))

    cocotb.start_soon(watch_token())
    if damage:
        cocotb.start_soon(damages())

    expected = _Memory()
    beats: list[dict[str, Any]] = []
    lengths = [rng.randint(1, 3 * ROWS) for _ in range(prompts)]
    # Once the numbers of frames begin again.
    layers = 2 if idle or stall else 2**SEQUENCE_BITS // (2 * sum(lengths)) + 1
    heads, d = len(layout.heads), layout.head_dim
    for layer, (prompt, positions) in itertools.product(range(layers), enumerate(lengths)):
        keys = np.array([rng.randint(-32767, 32767) for _ in range(positions * heads * d)])
        values = np.array([rng.randint(-127, 127) for _ in range(positions * heads * d)])
        keys, values = keys.reshape(positions, heads, d), values.reshape(positions, heads, d)
        for position in range(positions):
            words = [w for p in numbers.planes(keys[position].reshape(-1)) for w in pack_bytes(p)]
            beats += _handoff(HandoffKind.KEYS, layer, prompt, position, words)
            for row in range(ROWS):
                packets = layout.packets(
                    row, layer, position, keys[position], values[position], prompt=prompt
                )
                expected.take(row, packets)
        for position in range(positions):
            words = pack_bytes(values[position].reshape(-1))
            beats += _handoff(HandoffKind.VALUES, layer, prompt, position, words)
    first = [rng.getrandbits(16) for _ in range(prompts)]
    for prompt, token in enumerate(first):
        beats += _handoff(HandoffKind.TOKEN, 0, prompt, lengths[prompt] - 1, [token])
        for row in range(ROWS if activates and prompt < prompts - 1 else 0):
            address = TOKENS + 4 * prompt
            expected.take(row, [1 | 1 << 16, LAST_COLUMN << 16, address, token])
    await driver.send(beats)
    while len(tokens) < prompts or dut.busy.value:
        await RisingEdge(dut.clk)
    await ClockCycles(dut.clk, 3 * LATENCY + 20)

    found = await observer.check()
    assert found["sending"] == wires.words
    assert all(found[cause] for cause in ("waiting", "idle"))
    arrived = _Memory()
    for row, out in enumerate(outs):
        words = []
        while not out.beats.empty():
            words.append(out.beats.get_nowait())
        arrived.take(row, words)
    assert arrived.cells == expected.cells
    assert tokens == [token | prompt << 24 for prompt, token in enumerate(first)]
    wanted = [(row, 0, LAST_COLUMN, first[-1]) for row in range(ROWS)] if activates else []
    assert arrived.activations == wanted

    sent = dut.transmitter
    assert int(sent.count_link_payload.value) == wires.payload
    assert int(sent.count_link_framing.value) == wires.framing
    assert int(sent.count_link_frames.value) == wires.frames
    # Refusals that come while a frame is sent are one retry; silence is one, too.
    retries = int(sent.count_link_retries.value)
    assert wires.returns <= retries <= wires.refused + wires.cycle // TIMEOUT
    if damage:
        assert (wires.returns and wires.refused) or idle or stall
    else:
        assert retries == 0
        assert wires.payload == 4 * len(beats)
        assert wires.frames == 2 * layers * sum(lengths) + prompts
    cycles = wires.last_cycle - wires.first_cycle + 1
    assert 4 * wires.words <= BANDWIDTH * cycles + 8, "more than the wires carry"
    if not (idle or stall or damage):
        # Between the words of a frame and the next one: 5 cycles. What is unpacked waits longer.
        unpacking = 2 * len(beats) + 10 * sum(lengths) * heads * 2 * layers
        assert cycles <= 4 * wires.words / BANDWIDTH + 5 * wires.frames + unpacking + 4 * LATENCY


async def _begin(dut: Any, rng: random.Random) -> tuple[StreamDriver, _Wires]:
    """Start a link for one prompt; return what sends to it, and what listens at it."""
    driver = StreamDriver(dut, "i", Handoff())
    settings = StreamDriver(dut, "settings", Setting())
    await start_clock_and_reset(dut)
    wires = _Wires(dut)
    await settings.send(_settings(_layout(rng), prompts=1, activates=False))
    return driver, wires


@cocotb.test(timeout_time=100, timeout_unit="us")
async def a_frame_without_an_answer_is_sent_again(dut: Any) -> None:
    """After the promised silence; a link that has nothing to send stays silent."""
    rng = random.Random(cocotb.RANDOM_SEED)
    driver, wires = await _begin(dut, rng)
    # The receiver waits for words that never come.
    dut.damage.value = 1 << 31
    token = rng.getrandbits(16)
    await driver.send(_handoff(HandoffKind.TOKEN, 0, 0, 0, [token]))
    while not dut.on_wires.value:
        await RisingEdge(dut.clk)
    dut.damage.value = 0
    while not wires.frames:
        await RisingEdge(dut.clk)
    # Counted from the cycle behind the last word, and 2 cycles to go back and send.
    again = wires.last_cycle + TIMEOUT + 3
    while not dut.token_valid.value:
        await RisingEdge(dut.clk)
    assert int(dut.token.value) == token
    assert wires.begins[1] == again, wires.begins
    # What begins inside a frame refuses it, so the same may be sent once more.
    await ClockCycles(dut.clk, 4 * LATENCY + 40)
    sent = dut.transmitter
    retries = int(sent.count_link_retries.value)
    assert wires.returns <= retries <= wires.refused + 1
    frames = wires.frames
    await ClockCycles(dut.clk, 2 * TIMEOUT)
    assert not dut.busy.value
    assert (wires.frames, int(sent.count_link_retries.value)) == (frames, retries)


@cocotb.test(timeout_time=100, timeout_unit="us")
async def a_frame_that_begins_inside_another_refuses_it(dut: Any) -> None:
    """The receiver does not wait for the end of the second one."""
    driver, wires = await _begin(dut, random.Random(cocotb.RANDOM_SEED))
    # The first one seems to have more words than it has.
    dut.damage.value = 1 << 31
    for token in (1, 2):
        await driver.send(_handoff(HandoffKind.TOKEN, 0, 0, 0, [token]))
    while not dut.on_wires.value:
        await RisingEdge(dut.clk)
    dut.damage.value = 0
    for token in (1, 2):
        while not dut.token_valid.value:
            await RisingEdge(dut.clk)
        assert int(dut.token.value) == token
        await RisingEdge(dut.clk)
    # There and back, and a cycle each for the word, its check and the answer.
    assert wires.first_refusal - wires.begins[1] == 2 * LATENCY + 3


@cocotb.test(timeout_time=100, timeout_unit="us")
async def frames_in_flight_are_no_silence(dut: Any) -> None:
    """For longer than the timeout frames are on their way, and answers come: none is sent again."""
    rng = random.Random(cocotb.RANDOM_SEED)
    dut.damage.value = 0
    driver, wires = await _begin(dut, rng)
    sent, got = [rng.getrandbits(16) for _ in range(400)], []
    beats = [_handoff(HandoffKind.TOKEN, 0, 0, 0, [token]) for token in sent]
    sending = cocotb.start_soon(driver.send(itertools.chain(*beats)))
    while len(got) < len(sent):
        await RisingEdge(dut.clk)
        if dut.token_valid.value:
            got.append(int(dut.token.value))
    assert got == sent
    assert sending.done()
    # Then there is silence, whatever the number of the last frame is.
    assert len(sent) % 2**SEQUENCE_BITS >= 2 ** (SEQUENCE_BITS - 1)
    await ClockCycles(dut.clk, TIMEOUT + 100)
    assert int(dut.transmitter.count_link_retries.value) == 0
    assert wires.frames == len(sent)
    assert wires.cycle > TIMEOUT or LATENCY < 9
