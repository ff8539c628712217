# SPDX-License-Identifier: BSD-2-Clause
"""Observers of a whole machine: what every run compares with the hardware's counters.

Engines of the prefill panel and the link are observed. Those of the tiles' cores and routers are in
testbenches of these blocks alone; in a run they would join :class:`SystemObservers`, as windows at
a random tile, as :class:`.Windows` watches its links.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diptych.link.layout import Settings
from diptych.systolic.panel import panel_sizes

from .cause import CauseObserver
from .link import LinkObserver
from .load import LoadObserver
from .matrix import MatrixObserver
from .ports import CommandPorts
from .store import StoreObserver
from .vector import VectorObserver

__all__ = ["PanelObservers", "SystemObservers"]

_ENGINES = ("load", "matrix", "vector", "store")
_LIMIT = 100_000
"""Cycles that each observer looks at, rests not counted, so that long prompts cost little more."""


class PanelObservers:
    """Observers of the engines of a prefill panel.

    Parameters
    ----------
    panel : handle
        The panel.
    clk : handle
        The clock.
    array : (int, int)
        Rows and columns of the array.
    weight_rows : int
        Weight rows that the array loads in a cycle.
    """

    def __init__(self, panel: Any, clk: Any, *, array: tuple[int, int], weight_rows: int) -> None:
        rows, columns = array
        sizes = panel_sizes(rows, columns)
        ports = {engine: CommandPorts.of_panel(panel, engine) for engine in _ENGINES}
        self._matrix = MatrixObserver(
            panel.matrix,
            clk,
            ports["matrix"],
            rows=rows,
            columns=columns,
            weight_rows=weight_rows,
            limit=_LIMIT,
        )
        self._observers: dict[str, CauseObserver] = {
            "load": LoadObserver(
                panel.load, clk, ports["load"], entry_bytes=4 * sizes.lanes, limit=_LIMIT
            ),
            "matrix": self._matrix,
            "vector": VectorObserver(panel.vector, clk, ports["vector"], sizes, limit=_LIMIT),
            "store": StoreObserver(panel.store, clk, ports["store"], limit=_LIMIT),
        }

    def start(self) -> None:
        """Begin, in a cycle in which nothing runs."""
        for observer in self._observers.values():
            observer.start()

    def counts(self) -> dict[str, int]:
        """Return the cycles that were observed by block, and products as ``macs``, so far.

        Of a block that has nothing to do any more they stay as they are.
        """
        for observer in self._observers.values():
            observer.see()
        cycles = {name: observer.cycle for name, observer in self._observers.items()}
        return cycles | {"macs": self._matrix.found.get("macs", 0)}

    async def check(self) -> None:
        """Compare all that was observed until now.

        Raises
        ------
        AssertionError
            If a counter differs.
        """
        for observer in self._observers.values():
            await observer.check()

    async def end_panel(self) -> None:
        """Do so for the panel's engines, once nothing runs there any more."""
        for name in _ENGINES:
            await self._observers[name].end()


class SystemObservers(PanelObservers):
    """Observers of a whole machine: the prefill panel's and the link's.

    Parameters
    ----------
    dut : handle
        The system.
    array : (int, int)
        Rows and columns of the array.
    weight_rows : int
        Weight rows that the array loads in a cycle.
    mesh_rows : int
        Rows of the mesh.
    link_latency : int
        Cycles on the wires in each direction.
    settings : mapping
        The link's settings.
    """

    def __init__(
        self,
        dut: Any,
        *,
        array: tuple[int, int],
        weight_rows: int,
        mesh_rows: int,
        link_latency: int,
        settings: Mapping[int, int],
    ) -> None:
        super().__init__(dut.prefill.panel, dut.clk, array=array, weight_rows=weight_rows)
        self._observers["link"] = LinkObserver(
            dut.link,
            dut.clk,
            rows=mesh_rows,
            latency=link_latency,
            heads=settings[Settings.HEAD_COUNT],
            activates=bool(settings[Settings.ACTIVATES]),
            limit=_LIMIT,
        )
