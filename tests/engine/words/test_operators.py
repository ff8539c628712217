# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: BSD-2-Clause
"""Words: random hardware gives what Amaranth's simulator gives, and planted faults do not."""

import itertools
import random
from typing import Any

import pytest
from amaranth.hdl import Array, Assert, Cat, Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from diptych.precompiled import Precompiled, inlined
from diptych_sim.engine.errors import SimulationError
from diptych_sim.engine.words import build, clusters, emit, groups
from diptych_sim.engine.words.build import compile_words
from diptych_sim.engine.words.machine import WordMachine
from diptych_sim.engine.words.netlist import WordsError, read_words

CYCLES = 200
WIDTHS = (1, 2, 7, 16, 31, 32, 33, 63, 64, 65, 100, 192)


class Random(wiring.Component):
    """Registers of random expressions of inputs and registers, and a memory."""

    def __init__(self, seed):
        self.seed = seed
        self.registers = []
        super().__init__({f"i{width}": In(width) for width in WIDTHS})

    def elaborate(self, platform):
        m = Module()
        rng = random.Random(self.seed)
        pool = [getattr(self, f"i{width}") for width in WIDTHS]
        for number in range(60):
            value = self.expression(rng, pool)
            shape = signed(len(value)) if rng.random() < 0.3 else unsigned(len(value))
            register = Signal(
                shape,
                name=f"r{number}",
                init=rng.getrandbits(len(value) - 1) if len(value) > 1 else 0,
            )
            condition = rng.choice(pool).any() if rng.random() < 0.5 else Const(1)
            with m.If(condition):
                m.d.sync += register.eq(value)
            with m.Elif(rng.choice(pool)[0]):
                low = rng.randrange(len(value))
                m.d.sync += register[low:].eq(rng.choice(pool))
            pool.append(register)
            self.registers.append(register)
        for width, parts in ((8, 1), (96, 6), (40, 5)):
            self.memory(m, rng, pool, width, parts)
        return m

    def expression(self, rng, pool):
        a, b, c = (rng.choice(pool) for _ in range(3))
        small = [value for value in pool if len(value) <= 64]
        s, t = rng.choice(small), rng.choice(small)
        if rng.random() < 0.3:
            s, t = s.as_signed(), t.as_signed()
        kind = rng.randrange(13)
        few = rng.choice([value for value in pool if len(value) <= 7]).as_unsigned()
        table = [
            lambda: (a + b)[:200],
            lambda: s - t,
            lambda: (s * t)[:128],
            lambda: Mux(c[0], a, b),
            lambda: Cat(a, b[: len(b) // 2], Const(5, 3), c[-1].replicate(9))[:250],
            lambda: (a & b) | ~c,
            lambda: a ^ b,
            lambda: Cat(s < t, s >= t, s == t, a != b, a.any(), s.all(), s.xor()),
            lambda: (a << few)[:200],
            lambda: s >> few,
            lambda: a[: max(1, len(a) - len(a) % 8)].as_unsigned() >> few,
            lambda: (a if len(a) <= 64 else a.as_unsigned()).bit_select(few, min(20, len(a))),
            lambda: Array([s, t, few])[few[:2]],
        ]
        value = table[kind]()
        return value if len(value) else Const(1, 1)

    def memory(self, m, rng, pool, width, parts):
        storage = memory.Memory(
            shape=width, depth=16, init=[rng.getrandbits(width) for _ in range(5)]
        )
        m.submodules[f"storage_{width}"] = storage
        write = storage.write_port(granularity=width // parts)
        read = storage.read_port(transparent_for=())
        now = storage.read_port(domain="comb")
        address = rng.choice([value for value in pool if len(value) >= 7])
        shown = Signal(width, name=f"shown_{width}")
        m.d.comb += [
            write.en.eq(rng.choice(pool)),
            write.addr.eq(address),
            write.data.eq(rng.choice(pool)),
            read.en.eq(rng.choice(pool)[0]),
            read.addr.eq(address[1:]),
            now.addr.eq(address[2:]),
        ]
        m.d.sync += shown.eq(read.data ^ now.data)
        self.registers.append(shown)


class Lane(wiring.Component):
    """Sums its neighbor's value; an output depends on an input in the same cycle.

    Registers use each other, in a chain and in a circle.
    """

    before: Signal
    by: Signal
    after: Signal
    aged: Signal
    scaled: Signal

    def __init__(self):
        ports = {"after": Out(40), "aged": Out(20), "scaled": Out(48)}
        super().__init__({"before": In(40), "by": In(3), **ports})

    def elaborate(self, platform):
        m = Module()
        total = Signal(40, name="total", init=3)
        old, older = Signal(20, name="old"), Signal(20, name="older")
        m.d.comb += [self.after.eq(total), self.aged.eq(older), self.scaled.eq(total << self.by)]
        m.d.sync += [old.eq(total[5:25]), older.eq(old)]
        for bit in range(8):
            with m.If(self.before[bit]):
                m.d.sync += total.eq(self.before + total + (older ^ bit * self.by))
        return m


class Ring(wiring.Component):
    """Instances that take from each other; registers show their outputs."""

    i: Signal
    by: Signal

    def __init__(self, seed):
        del seed
        self._lane = Lane()
        self.registers = []
        super().__init__({"i": In(40), "by": In(3)})

    def elaborate(self, platform):
        m = Module()
        before = self.i
        for n in range(6):
            lane: Any = Precompiled(self._lane, "lane")
            m.submodules[f"lane_{n}"] = lane
            m.d.comb += [lane.before.eq(before), lane.by.eq(self.by)]
            before = lane.after
            seen = Signal(108, name=f"seen_{n}")
            m.d.sync += seen.eq(Cat(lane.after, lane.scaled, lane.aged))
            self.registers.append(seen)
        return m


class Echo(wiring.Component):
    """Holds what comes; a kind of its own for each name."""

    i: Signal
    o: Signal

    def __init__(self):
        super().__init__({"i": In(20), "o": Out(20)})

    def elaborate(self, platform):
        m = Module()
        held = Signal(20, name="held", init=5)
        m.d.comb += self.o.eq(held)
        for bit in range(20):
            with m.If(self.i[bit]):
                m.d.sync += held.eq(self.i + (held ^ bit))
        return m


class Circle(wiring.Component):
    """Instances of two kinds, each of which takes from the other: one cannot change in place."""

    i: Signal

    def __init__(self, seed):
        del seed
        self._kinds = [Echo(), Echo()]
        self.registers = []
        super().__init__({"i": In(20)})

    def elaborate(self, platform):
        m = Module()
        ports = []
        for n in range(12):
            echo: Any = Precompiled(self._kinds[n % 2], f"echo_{n % 2}")
            m.submodules[f"echo_{n}"] = echo
            seen = Signal(20, name=f"seen_{n}")
            m.d.sync += seen.eq(echo.o)
            ports.append(echo)
            self.registers.append(seen)
        m.d.comb += ports[0].i.eq(ports[-1].o ^ self.i)
        for before, echo in itertools.pairwise(ports):
            m.d.comb += echo.i.eq(before.o)
        return m


class Chain(wiring.Component):
    """The first of 80 conditions that holds, where it is looked for at all."""

    i: Signal
    on: Signal

    def __init__(self, seed):
        del seed
        self.registers = []
        super().__init__({"i": In(80), "on": In(1)})

    def elaborate(self, platform):
        m = Module()
        # Shifted, so that there often is none in the lower word.
        conditions = Signal(80)
        m.d.comb += conditions.eq(self.i & (self.i << 40) & (self.i << 20) & (self.i << 10))
        number = Signal(7, name="number")
        with m.If(self.on):
            m.d.sync += number.eq(127)
            with m.If(conditions[0]):
                m.d.sync += number.eq(0)
            for n in range(1, 80):
                with m.Elif(conditions[n]):
                    m.d.sync += number.eq(n)
        self.registers.append(number)
        return m


def in_words(hardware, given):
    """Registers in each cycle, by the names that the elaborated hardware says it has."""
    compiled = compile_words(hardware, "top", ())
    names = [register.name for register in hardware.registers]
    with WordMachine(compiled) as machine:
        out = []
        for values in given:
            for name, value in values.items():
                machine.set(name, value)
            out.append({name: machine.read(name)[0] for name in names})
            machine.run(1)
        return out


def simulated(hardware, given):
    with inlined():
        simulator = Simulator(hardware)
    simulator.add_clock(1e-6)
    out = []

    async def bench(ctx):
        for values in given:
            for name, value in values.items():
                ctx.set(getattr(hardware, name), value)
            await ctx.delay(1e-9)
            out.append({s.name: ctx.get(s) % (1 << len(s)) for s in hardware.registers})
            await ctx.tick()

    simulator.add_testbench(bench)
    simulator.run()
    return out


def stimulus(seed, widths):
    rng = random.Random(seed)
    out = []
    for _ in range(CYCLES):
        values = {name: rng.getrandbits(width) for name, width in widths.items()}
        # Often nothing changes, or little does.
        out.append({name: v for name, v in values.items() if rng.random() < 0.3})
    return out


def difference(hardware, seed):
    """The first register that differs, and its cycle."""
    widths = {name: member.shape for name, member in hardware(seed).signature.members.items()}
    given = stimulus(seed, widths)
    found, expected = in_words(hardware(seed), given), simulated(hardware(seed), given)
    return next(
        (
            (cycle, name)
            for cycle, (here, there) in enumerate(zip(found, expected, strict=True))
            for name in there
            if here[name] != there[name]
        ),
        None,
    )


@pytest.mark.parametrize(
    ("hardware", "seed"),
    [(Random, 0), (Random, 1), (Random, 2), (Ring, 0), (Circle, 0), (Chain, 0)],
)
def test_random_hardware_is_as_simulated(hardware, seed):
    assert difference(hardware, seed) is None


@pytest.mark.parametrize(("hardware", "groups", "in_place"), [(Ring, 1, 1), (Circle, 2, 1)])
def test_groups_change_in_place_where_they_can(hardware, groups, in_place):
    whole = read_words(hardware(0), "top")
    assert len(whole.groups) == groups
    assert len(clusters.plan(whole).in_place) == in_place


def _replaced(old, new):
    """Plant a fault in the C++."""

    def plant(monkeypatch):
        right = emit.emit

        def wrong(*args, **more):
            parts = right(*args, **more)
            assert any(old in part for part in parts)
            return [part.replace(old, new) for part in parts]

        monkeypatch.setattr(build, "emit", wrong)

    return plant


def _no_marks(monkeypatch):
    right = clusters.plan

    def plan(whole):
        found = right(whole)
        used = max(found.users, key=lambda cell: len(found.users[cell]))
        found.users[used] = []
        return found

    monkeypatch.setattr(build, "plan", plan)


def _no_delay(monkeypatch):
    monkeypatch.setattr(clusters._Planner, "_delay_steps", lambda self, root: set(self.steps))


def _no_users(monkeypatch):
    monkeypatch.setattr(groups, "_users", lambda behind: {n: set() for n in behind})


FAULTS = {
    "a difference is a sum": (Random, _replaced("(subtract(", "(add(")),
    "the first of many is a sum, too": (Chain, _replaced("(subtract(", "(add(")),
    "signed is unsigned": (
        Random,
        _replaced("(a << (32 - W)) >> (32 - W);", "a;"),
    ),
    "high bits are kept": (Random, _replaced("a.w[N - 1] &= ones(W % 64);", ";")),
    "a user is not marked": (Random, _no_marks),
    "writes ignore their enables": (Random, _replaced("if (!bit) continue;", "bit = 1;")),
    "nothing is noted of a register": (Random, _replaced("|= differ(s.n", "|= 0 * differ(s.n")),
    "a register changes with its cluster": (
        Random,
        _replaced(
            "functions[64 * word + bit](s);",
            "{ functions[64 * word + bit](s); if (s.count) edges[s.commits[--s.count]](s); }",
        ),
    ),
    "a neighbor reads a register that has changed": (Ring, _no_delay),
    "a register changes before others of its instance have read it": (Ring, _no_users),
    "what comes at the edge does not": (Circle, _replaced("memcpy(s.g1.f", "if (0) memcpy(s.g1.f")),
    "a neighbor is another one": (Ring, _replaced(" + 0, 5 * sizeof", " + 1, 5 * sizeof")),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_seen(monkeypatch, fault):
    hardware, plant = FAULTS[fault]
    plant(monkeypatch)
    assert any(difference(hardware, seed) is not None for seed in range(3))


def test_an_assertion_of_the_hardware_stops_it():
    class Fails(wiring.Component):
        i: Signal

        def __init__(self):
            super().__init__({"i": In(1)})

        def elaborate(self, platform):
            m = Module()
            count = Signal(4)
            m.d.sync += [count.eq(count + 1), Assert((count != 3) | ~self.i, "count must not be 3")]
            return m

    with WordMachine(compile_words(Fails(), "top", ())) as machine:
        assert machine.run(20) == 20
        machine.set("i", 1)
        with pytest.raises(
            SimulationError, match=r"^Hardware failed in cycle 3\d?: count must not be 3$"
        ):
            machine.run(40)


def test_wide_signed_values_are_refused():
    class Wide(wiring.Component):
        i: Signal
        by: Signal

        def __init__(self):
            super().__init__({"i": In(signed(100)), "by": In(3)})

        def elaborate(self, platform):
            m = Module()
            register = Signal(100)
            m.d.sync += register.eq(self.i >> self.by)
            return m

    with pytest.raises(WordsError, match=r"^Words shift no wide signed value$"):
        compile_words(Wide(), "top", ())
