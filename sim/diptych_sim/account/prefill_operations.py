# SPDX-License-Identifier: BSD-2-Clause
"""Where a prefill's cycles went: by command, by operation and by layer.

The testbench records when each engine takes a command and is done with it, and what the causes of
the matrix engine had counted when the last row of each MATRIX command entered the array. So each
cycle of the array belongs to one command: those since the last row of the command before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from diptych.memory.axi import BEAT_BYTES
from diptych.systolic.isa import Modes, Queue, StoreOp, Target, VectorOp
from diptych.systolic.matrix import MATRIX_CAUSES
from diptych_sim.account.errors import AccountError
from diptych_sim.compiler.array.commands import PrefillProgram, field_of
from diptych_sim.cost.panel_parts import load_work, matrix_tiles

__all__ = ["prefill_layers", "prefill_operations"]


def prefill_operations(
    program: PrefillProgram,
    event: Mapping[str, Any],
    *,
    array: tuple[int, int],
    start: int,
    weight_rows: int = 1,
) -> list[dict[str, Any]]:
    """Return each command of a program with its label, engine, cycles and work, in program order.

    ``start`` and ``end`` are cycles since the program's start: the engine takes the command (the
    array: it took the last row of the command before, if that is later), and its last write is
    done. Loads and stores have the ``bytes`` that they move over HBM or the link. MATRIX commands
    have ``macs``, ``cycles`` (those of the array that belong to them), ``cycles_by_cause`` (which
    sum to these) and ``bound_cycles``: each tile for as long as its rows or its weights take.

    Parameters
    ----------
    program : PrefillProgram
        What ran.
    event : mapping
        The testbench's event ``commands``.
    array : tuple of int
        Rows and columns.
    start : int
        Cycle in which the program started.
    weight_rows : int
        Weight rows that the array loads in a cycle.

    Raises
    ------
    AccountError
        If the panel ran other commands than the program has.
    """
    rows, columns = array
    seen: dict[Queue, int] = dict.fromkeys(Queue, 0)
    for queue in Queue:
        expected = sum(command.queue is queue for command in program.commands.commands)
        for what, cycles in event["cycles"][queue.name.lower()].items():
            if len(cycles) != expected:
                raise AccountError(
                    f"Engine {queue.name.lower()} must have {what} {expected} commands, "
                    f"not {len(cycles)}"
                )
    operations = []
    before = [start] + [0] * len(MATRIX_CAUSES)
    for command in program.commands.commands:
        queue, fields = command.queue, command.fields
        number = seen[queue]
        seen[queue] += 1
        cycles = event["cycles"][queue.name.lower()]
        operation: dict[str, Any] = {
            "layer": command.label.layer,
            "operation": command.label.operation,
            "engine": queue.name.lower(),
            "start": cycles["started"][number] - start,
            "end": cycles["done"][number] - start,
        }
        if queue is Queue.MATRIX:
            entered = event["entered"][number]
            if number == 0:
                # Causes run since reset: nothing but idle before the start.
                idle = 1 + MATRIX_CAUSES.index("idle")
                before[idle] = sum(entered[1:]) - (entered[0] - start)
            gained = [now - then for now, then in zip(entered, before, strict=True)]
            operation["start"] = max(operation["start"], before[0] - start)
            operation["cycles"] = gained[0]
            causes = dict(zip(MATRIX_CAUSES, gained[1:], strict=True))
            operation["cycles_by_cause"] = {name: n for name, n in causes.items() if n}
            tiles = list(matrix_tiles(fields, rows, columns))
            modes = field_of(Modes(), fields["modes"])
            loads = columns if modes["transposed"] else rows
            if modes["packed"]:
                loads //= weight_rows
            operation["macs"] = columns * sum(
                tile.repeat * tile.rows * tile.counted for tile in tiles
            )
            operation["bound_cycles"] = sum(tile.repeat * max(tile.rows, loads) for tile in tiles)
            before = entered
        elif queue is Queue.VECTOR:
            operation["op"] = VectorOp(command.op).name.lower()
        elif queue is Queue.LOAD:
            work = load_work(Target(command.op), fields, columns)
            operation["bytes"] = work.beats * BEAT_BYTES
        elif queue is Queue.STORE:
            operation["bytes"] = _stored(StoreOp(command.op), fields)
        operations.append(operation)
    return operations


def _stored(op: StoreOp, fields: Mapping[str, Any]) -> int:
    if op is StoreOp.TOKEN:
        return 4
    return fields["rows"] * fields["bytes"] * (2 if op is StoreOp.KEYS else 1)


def _add(total: dict[str, int], more: Mapping[str, int]) -> None:
    for name, count in more.items():
        total[name] = total.get(name, 0) + count


def prefill_layers(
    operations: Iterable[Mapping[str, Any]], *, array: tuple[int, int], cycles: int
) -> list[dict[str, Any]]:
    """Return what the array did for each layer, and in it for each operation, in program order.

    ``cycles`` sum to those of the prefill: the last entry, ``layer`` None and ``operation``
    "after the array", is from the last row that entered to the end. ``bound_cycles`` are those of
    the commands' tiles; ``lost_by_cause`` is what the causes other than ``computing`` took.

    Raises
    ------
    AccountError
        If operations take more cycles than there are.
    """
    parts: dict[Any, dict[str, Any]] = {}
    for operation in operations:
        if operation["engine"] != "matrix":
            continue
        key = operation["layer"]
        part = parts.setdefault(key, {"layer": key, **_empty(), "operations": {}})
        name = operation["operation"]
        inner = part["operations"].setdefault(name, {"operation": name, **_empty()})
        for total in (part, inner):
            for field in ("cycles", "bound_cycles", "macs"):
                total[field] += operation[field]
            _add(total["cycles_by_cause"], operation["cycles_by_cause"])
    layers = list(parts.values())
    rest = cycles - sum(part["cycles"] for part in layers)
    if rest < 0:
        raise AccountError(f"Operations must take at most {cycles} cycles, not {cycles - rest}")
    for part in layers:
        part["operations"] = list(part["operations"].values())
        for total in (part, *part["operations"]):
            possible = total["cycles"] * array[0] * array[1]
            total["mac_utilization"] = total["macs"] / possible if possible else 0.0
    return [*layers, {"layer": None, "operation": "after the array", **_empty(), "cycles": rest}]


def _empty() -> dict[str, Any]:
    return {"cycles": 0, "bound_cycles": 0, "macs": 0, "cycles_by_cause": {}}
