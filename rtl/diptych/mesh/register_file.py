# SPDX-License-Identifier: BSD-2-Clause
"""Registers of a core."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from diptych.arith.one_hot import select

from .isa import RECEIVED_MAXIMUM, REGISTERS, STATISTIC

__all__ = ["ENGINE_REGISTERS", "OPERANDS", "RegisterFile"]

OPERANDS = ("a", "b", "dynamic", "d", "count", "inner")
"""What an instruction reads: the first three in full, of the others 16 bits."""
ENGINE_REGISTERS = (STATISTIC, RECEIVED_MAXIMUM)
"""Registers that engines write, beside the program: what they wrote last is apart from the others."""
_WIDTH = {name: 32 if name in OPERANDS[:3] else 16 for name in OPERANDS}
_BITS = (REGISTERS - 1).bit_length()


class RegisterFile(wiring.Component):
    """Sixteen registers of 32 bits, of which register 0 is 0; six are read at once.

    Members
    -------
    number_a, number_b, number_dynamic, number_d, number_count, number_inner : :py:`In(4)`
        Registers of the next instruction.
    load : :py:`In(1)`
        It becomes the one that executes, in the next cycle.
    value_a, value_b, value_dynamic : :py:`Out(32)`
        Values for the instruction that executes, registers: as of ``load``. What an engine wrote
        last is shown a cycle later, and follows when the engine writes again.
    value_d, value_count, value_inner : :py:`Out(16)`
        The others.
    is_engine_<name> : :py:`Out(1)`
        The next instruction reads one of :data:`ENGINE_REGISTERS`.
    write, target, data : :py:`In(1)`, :py:`In(4)`, :py:`In(32)`
        Result of the instruction that executes; the next one reads it.
    loads, load_target, load_data : :py:`In(1)`, :py:`In(4)`, :py:`In(32)`
        A write of the loader, which is done in the next cycle without a ``write``.
    load_ready : :py:`Out(1)`
        It is accepted. A register.
    engine_write_12, engine_write_13 : :py:`In(1)`
        Writes one of :data:`ENGINE_REGISTERS`.
    engine_data_12, engine_data_13 : :py:`In(32)`
        Its value.
    """

    load: Signal
    write: Signal
    target: Signal
    data: Signal
    loads: Signal
    load_target: Signal
    load_data: Signal
    load_ready: Signal

    def __init__(self) -> None:
        super().__init__(
            {
                **{f"number_{name}": In(_BITS) for name in OPERANDS},
                **{f"value_{name}": Out(_WIDTH[name]) for name in OPERANDS},
                "load": In(1),
                **{f"is_engine_{name}": Out(1) for name in OPERANDS},
                "write": In(1),
                "target": In(_BITS),
                "data": In(32),
                "loads": In(1),
                "load_target": In(_BITS),
                "load_data": In(32),
                "load_ready": Out(1),
                **{f"engine_write_{n}": In(1) for n in ENGINE_REGISTERS},
                **{f"engine_data_{n}": In(32) for n in ENGINE_REGISTERS},
            }
        )
        self.number = {name: getattr(self, f"number_{name}") for name in OPERANDS}
        self.value = {name: getattr(self, f"value_{name}") for name in OPERANDS}
        self.is_engine = {name: getattr(self, f"is_engine_{name}") for name in OPERANDS}
        self.engine_write = {n: getattr(self, f"engine_write_{n}") for n in ENGINE_REGISTERS}
        self.engine_data = {n: getattr(self, f"engine_data_{n}") for n in ENGINE_REGISTERS}

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.stored = stored = memory.Memory(shape=unsigned(32), depth=REGISTERS, init=[])
        port = stored.write_port()
        writes = Signal()
        waits = Signal(name="load_waits")
        target = Signal(_BITS, name="waiting_target")
        loaded = Signal(32, name="waiting_data", reset_less=True)
        m.d.comb += [
            self.load_ready.eq(~waits),
            writes.eq(self.write | waits),
            port.addr.eq(Mux(self.write, self.target, target)),
            port.data.eq(Mux(self.write, self.data, loaded)),
            port.en.eq(writes & (port.addr != 0)),
        ]
        with m.If(~waits):
            m.d.sync += [
                waits.eq(self.loads),
                target.eq(self.load_target),
                loaded.eq(self.load_data),
            ]
        with m.Elif(~self.write):
            m.d.sync += waits.eq(0)
        engines = {n: Signal(32, name=f"register_{n}") for n in ENGINE_REGISTERS}
        engine_next = [Signal(32, name=f"next_{n}") for n in ENGINE_REGISTERS]
        engine_writes = Cat(self.engine_write.values())
        # Of each, an engine was not the last to write it.
        stored_last = Signal(len(engines))
        m.d.sync += stored_last.eq(
            (stored_last & ~engine_writes)
            | Cat(Mux(self.write, self.target == n, waits & (target == n)) for n in engines)
        )
        for following, (n, register) in zip(engine_next, engines.items(), strict=True):
            m.d.comb += following.eq(Mux(self.engine_write[n], self.engine_data[n], register))
            m.d.sync += register.eq(following)
        for name in OPERANDS:
            number, width = self.number[name], _WIDTH[name]
            read = stored.read_port(domain="comb")
            kept = Signal(width, name=f"value_of_{name}", reset_less=True)
            # One of the engines' registers is read.
            reads = Signal(len(engines), name=f"reads_{name}")
            is_new = Signal(name=f"new_{name}")
            m.d.comb += [
                read.addr.eq(number),
                is_new.eq(self.write & (self.target == number) & (number != 0)),
                self.value[name].eq(kept),
                self.is_engine[name].eq(Cat(number == n for n in engines).any()),
            ]
            with m.If(self.load):
                m.d.sync += [
                    kept.eq(Mux(is_new, self.data, read.data)),
                    reads.eq(Cat(number == n for n in engines)),
                ]
            with m.Elif((reads & (engine_writes | ~stored_last)).any()):
                m.d.sync += kept.eq(select(reads, [value[:width] for value in engine_next]))
        return m
