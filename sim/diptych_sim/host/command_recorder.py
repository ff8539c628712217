# SPDX-License-Identifier: BSD-2-Clause
"""Records when the engines of a prefill panel take their commands and are done with them."""

from collections.abc import Sequence
from typing import Any

from diptych.systolic.isa import Queue
from diptych.systolic.matrix import MATRIX_CAUSES
from diptych_sim.host.clocking import current_cycle
from diptych_sim.host.events import report_event
from diptych_sim.host.triggers import ValueChange, start_watching

__all__ = ["CommandRecorder"]


class CommandRecorder:
    """Listens to the counters of started and finished commands; sleeps in between.

    Attributes
    ----------
    cycles : dict
        For each queue (``load``, ...): ``started`` and ``done``, a cycle for each command, in
        which the engine took it, and in which its last write was done.
    entered : list
        For each MATRIX command: the cycle in which its last row entered the array, and what the
        matrix engine's causes had counted up to then, in the order of ``MATRIX_CAUSES``.

    Parameters
    ----------
    panel : HierarchyObject
        The panel, with ``count_*`` of its queues and of its matrix engine public.
    layers : sequence of int
        For each layer, of each chunk, the number of its last MATRIX command: the event ``layer`` is
        reported when that is done.
    """

    def __init__(self, panel: Any, layers: Sequence[int] = ()) -> None:
        self.cycles: dict[str, dict[str, list[int]]] = {}
        self.entered: list[list[int]] = []
        self._layers = list(layers)
        self._causes = [getattr(panel.matrix, f"count_{name}") for name in MATRIX_CAUSES]
        for queue in Queue:
            name = queue.name.lower()
            self.cycles[name] = {"started": [], "done": []}
            for what, seen in self.cycles[name].items():
                counter = getattr(panel.queues, f"count_{name}_{what}")
                told = what == "done" and queue is Queue.MATRIX
                start_watching(self._record(counter, seen, told))
        start_watching(self._record_entered(panel.matrix.count_entered))

    async def _record(self, counter: Any, seen: list[int], told: bool) -> None:
        changes = ValueChange(counter)
        ends = {last: layer for layer, last in enumerate(self._layers)} if told else {}
        while True:
            await changes
            layer = ends.get(len(seen))
            seen.append(current_cycle())
            if layer is not None:
                report_event(kind="layer", layer=layer, layers=len(ends), cycle=seen[-1])

    async def _record_entered(self, counter: Any) -> None:
        changes = ValueChange(counter)
        while True:
            await changes
            cycle = current_cycle()
            self.entered.append([cycle, *(int(cause.value) for cause in self._causes)])
