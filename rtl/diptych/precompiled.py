# SPDX-License-Identifier: BSD-2-Clause
"""Stand-ins for components whose Verilog is emitted once, however often they are instantiated.

Components instantiate the stand-ins, so they are part of the hardware; whoever emits Verilog or
simulates with Amaranth chooses with :func:`collecting` or :func:`inlined` what they elaborate to.
"""

import copyreg
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from copy import deepcopy
from typing import Any

from amaranth.hdl import ClockSignal, Const, Instance, Module, ResetSignal, Signal
from amaranth.lib import data, enum, wiring
from amaranth.lib.wiring import In

__all__ = ["Precompiled", "collecting", "inlined", "is_inlined"]

_inlined: ContextVar[bool] = ContextVar("inlined", default=False)
_collected: ContextVar[dict[str, "Precompiled"] | None] = ContextVar("collected", default=None)

# Copies of these would look for their own parts before they have any.
copyreg.pickle(data.View, lambda view: (data.View, (view.shape(), view.as_value())))
copyreg.pickle(enum.EnumView, lambda view: (enum.EnumView, (view.shape(), view.as_value())))
copyreg.pickle(wiring.FlippedInterface, lambda end: (wiring.flipped, (wiring.flipped(end),)))


class Precompiled(wiring.Component):
    """Stands in for a component whose Verilog is emitted once, as module ``name``.

    Amaranth emits one module per instance, which makes a mesh of identical tiles cost as much as
    a mesh of different ones. A parent that instantiates stand-ins for one prototype costs one
    module and its wires.

    The stand-in has the ports and the timing of its prototype, which runs in the ``sync`` domain
    of the parent. Amaranth's own simulator takes it only when it is :func:`inlined`.

    Parameters
    ----------
    component : :class:`wiring.Component`
        The prototype. One object may stand behind any number of stand-ins, which is what makes
        them cheap.
    name : :class:`str`
        Name of the emitted module; a Verilog identifier.
    made_by : callable, optional
        A class, or a :func:`functools.partial` of it, that makes an equal component: what is emitted
        may be kept by it.

    Members
    -------
    As of the prototype.

    Raises
    ------
    ValueError
        If the name is not an identifier.
    """

    def __init__(
        self,
        component: wiring.Component,
        name: str,
        made_by: Callable[[], wiring.Component] | None = None,
    ) -> None:
        if not (name.isascii() and name.isidentifier()):
            raise ValueError(f"Module name must be an identifier, not {name!r}")
        self.prototype = component
        self.name = name
        self.made_by = made_by
        super().__init__(component.signature)

    def elaborate(self, platform: Any) -> Instance | Module:
        if _inlined.get():
            return self._copied()
        collected = _collected.get()
        if collected is not None:
            known = collected.setdefault(self.name, self).prototype
            if known is not self.prototype:
                raise ValueError(
                    f"Module {self.name!r} must have one prototype, not both {known!r} and "
                    f"{self.prototype!r}"
                )
        ports: dict[str, Any] = {"i_clk": ClockSignal(), "i_rst": ResetSignal()}
        for path, member, value in self.signature.flatten(self):
            # always_ready and always_valid ends are constants and no ports of the module.
            if not isinstance(value, Const):
                flow = "i" if member.flow is In else "o"
                ports[f"{flow}_{'__'.join(map(str, path))}"] = value
        return Instance(self.name, **ports)

    def _copied(self) -> Module:
        m = Module()
        copies: dict[int, Any] = {}
        body: Any = deepcopy(self.prototype, copies)
        m.submodules.body = body
        # The copies replace it; Amaranth would warn of an unused prototype.
        vars(self.prototype)["_MustUse__used"] = True
        for copied in list(copies.values()):
            if isinstance(copied, Signal):
                # Amaranth identifies signals by this number.
                vars(copied)["duid"] = vars(Signal())["duid"]
        for path, member, value in self.signature.flatten(self):
            inner: Any = body
            for part in path:
                inner = inner[part] if isinstance(part, int) else getattr(inner, part)
            if not isinstance(value, Const):
                m.d.comb += inner.eq(value) if member.flow is In else value.eq(inner)
        return m


@contextmanager
def inlined() -> Iterator[None]:
    """Stand-ins elaborated inside are copies of their prototypes, which Amaranth can simulate."""
    token = _inlined.set(True)
    try:
        yield
    finally:
        _inlined.reset(token)


def is_inlined() -> bool:
    """Return whether stand-ins are elaborated as copies of their prototypes."""
    return _inlined.get()


@contextmanager
def collecting() -> Iterator[dict[str, Precompiled]]:
    """Collects the stand-ins that are elaborated inside, one for each module name."""
    collected: dict[str, Precompiled] = {}
    token = _collected.set(collected)
    try:
        yield collected
    finally:
        _collected.reset(token)
