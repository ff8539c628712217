# SPDX-License-Identifier: BSD-2-Clause
"""Observers of a core: cycles by cause, and the registers that a watchdog reads."""

from typing import Any

from amaranth.hdl import Module, Signal

from .core_signals import CoreSignals
from .fabric import COLOR_BITS
from .waits import Wait

__all__ = ["count_cycles", "watch_waits"]


def count_cycles(m: Module, core: Any, s: CoreSignals) -> None:
    """Count each cycle for the first cause of :data:`~.core.CAUSES` that holds."""

    def count(name: str) -> None:
        counter = getattr(core, f"count_{name}")
        m.d.sync += counter.eq(counter + 1)

    m.d.comb += s.waits.eq(s.executing & ~s.done)
    with m.If(s.pipe.steps):
        count("computing")
    with m.Elif(s.pipe.starved):
        count("bank_conflict")
    with m.Elif(s.pipe.blocked | (s.no_credit & ~s.pipe.busy)):
        count("backpressure")
    with m.Elif(s.pipe.unfed):
        count("waiting_receive")
    with m.Elif(s.pipe.busy & ~s.pipe.awaits & (~s.running | s.waits)):
        count("draining")
    with m.Elif(s.waits & (s.is_transmit | (s.fence_transmit & s.transmitter.busy))):
        count("backpressure")
    with m.Elif(
        s.no_wavelet
        | (s.waits & (s.fenced | s.is_receive | s.pipe.awaits))
        | (~s.running & s.pipe.awaits)
    ):
        count("waiting_receive")
    with m.Elif(~s.running & ~s.tasks.ready):
        count("idle")
    with m.Else():
        count("issuing")
    with m.If(s.pipe.macs.any()):
        m.d.sync += core.count_macs.eq(core.count_macs + s.pipe.macs)
    m.d.comb += [
        core.count_sram_read.eq(s.sram.count_sram_read),
        core.count_sram_write.eq(s.sram.count_sram_write),
    ]


def watch_waits(m: Module, s: CoreSignals) -> None:
    """Keep the reason why the core did not go on in the cycle before, as :class:`.Wait`."""
    busy = Signal(name="watch_busy")
    waits_for = Signal(Wait, name="watch_wait")
    waits_color = Signal(COLOR_BITS, name="watch_color")
    m.d.sync += [
        busy.eq(s.running | s.tasks.ready | s.pipe.busy | s.receiver.busy | s.transmitter.busy),
        waits_for.eq(Wait.NOTHING),
        waits_color.eq(s.color),
    ]
    with m.If(s.pipe.o.valid & ~s.sends_pipe):
        m.d.sync += [waits_for.eq(Wait.CREDIT), waits_color.eq(s.pipe.o.payload.color)]
    with m.Elif(s.no_credit & ~s.pipe.busy):
        m.d.sync += waits_for.eq(Wait.CREDIT)
    with m.Elif(s.pipe.unfed):
        m.d.sync += [waits_for.eq(Wait.WAVELET), waits_color.eq(s.pipe.color)]
    with m.Elif(s.no_wavelet):
        m.d.sync += waits_for.eq(Wait.WAVELET)
    with m.Elif(
        (s.waits & (s.is_receive | (s.fence_receive & s.receiver.busy) | s.pipe.awaits))
        | (~s.running & s.receiver.busy)
    ):
        m.d.sync += [waits_for.eq(Wait.RECEIVE), waits_color.eq(s.receiver.color)]
    with m.Elif(s.transmitter.o.valid & ~s.transmitted & (s.waits | ~s.running)):
        m.d.sync += [waits_for.eq(Wait.CREDIT), waits_color.eq(s.transmitter.o.payload.color)]
    with m.Elif(s.waits | (~s.running & s.pipe.busy)):
        m.d.sync += waits_for.eq(Wait.PIPE)
    with m.Elif(~s.running & ~s.tasks.ready):
        m.d.sync += waits_for.eq(Wait.TASK)
