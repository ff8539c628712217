# SPDX-License-Identifier: BSD-2-Clause
"""A mesh on several machines: MPI processes that hold a rectangle of tiles each.

Every process runs the same program, hosts included, and sees the whole mesh; what crosses a border
is exchanged in each cycle, so that all is as in one process. The first process has row 0.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import numpy as np

from diptych_sim.engine.errors import BuildError, EngineError, ToolError
from diptych_sim.engine.processes import processes, rank

from .mesh import Failure, LaneMesh, Part, State, Word
from .native import EXCHANGE

__all__ = ["DistributedMesh", "cut", "open_mesh", "stop_all"]

T = TypeVar("T")
_AGREE, _SEND = 0, 1
_SIDES = ((-1, 0), (0, 1), (1, 0), (0, -1))


def cut(rows: int, columns: int, count: int) -> list[Part]:
    """Cut a mesh into rectangles of nearly equal size, so that borders are short.

    Raises
    ------
    BuildError
        If the mesh is too small.
    """
    ways = [(n, count // n) for n in range(1, count + 1) if count % n == 0]
    ways = [(down, right) for down, right in ways if down <= rows and right <= columns]
    if not ways:
        raise BuildError(f"A mesh of {rows}x{columns} cannot be cut for {count} processes")
    down, right = min(ways, key=lambda way: (way[0] - 1) * columns + (way[1] - 1) * rows)
    heights = [rows * n // down for n in range(down + 1)]
    widths = [columns * n // right for n in range(right + 1)]
    return [
        Part(heights[r], widths[c], heights[r + 1] - heights[r], widths[c + 1] - widths[c])
        for r in range(down)
        for c in range(right)
    ]


def _communicator() -> Any:
    """Return the communicator of all processes.

    Raises
    ------
    ToolError
        If mpi4py or an MPI library is missing.
    """
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError):
        raise ToolError(
            "mpi4py with an MPI library is needed for several processes: pip install diptych[mpi]"
        ) from None
    if MPI.COMM_WORLD.Get_size() != processes():
        raise ToolError("mpirun and the MPI library of mpi4py must belong together")
    sys.excepthook = _unexpected
    return MPI.COMM_WORLD


def _unexpected(kind: type[BaseException], error: BaseException, _trace: Any) -> None:
    stop_all(f"{kind.__name__}: {error}")


def stop_all(message: str) -> None:
    """End all processes, which would wait for this one."""
    print(f"error: process {rank()}: {message}", file=sys.__stderr__, flush=True)
    MPI = sys.modules.get("mpi4py.MPI")  # noqa: N806
    if MPI is not None:
        MPI.COMM_WORLD.Abort(1)
    sys.exit(1)


class DistributedMesh(LaneMesh):
    """A mesh of which each process has a part; all call the same methods.

    Parameters
    ----------
    rows, columns : int
        Size of the whole mesh.
    **parameters : Any
        Those of :class:`.LaneMesh`.

    Raises
    ------
    BuildError
        If any process cannot build its part.
    """

    def __init__(self, rows: int, columns: int, **parameters: Any) -> None:
        self.communicator = _communicator()
        self.parts = cut(rows, columns, self.communicator.Get_size())
        part = self.parts[self.communicator.Get_rank()]

        def build() -> None:
            super(DistributedMesh, self).__init__(rows, columns, part=part, **parameters)

        self._together(build)
        self._raised: BaseException | None = None
        self._reached = self._reach()
        self._exchange = EXCHANGE(self._reached)
        driver, mesh = self._driver, self._mesh
        driver.mesh_place(mesh, self.part.row, self.part.column, self._exchange)

    @contextmanager
    def _heard(self) -> Iterator[None]:
        """Raise what a signal raises while the driver calls: ctypes drops it, and the run goes on."""
        before = sys.unraisablehook

        def note(dropped: Any) -> None:
            if dropped.object is self._reached:
                self._raised = dropped.exc_value
            else:
                before(dropped)

        sys.unraisablehook = note
        try:
            yield
        finally:
            sys.unraisablehook = before
        if self._raised is not None:
            raise self._raised

    def run(self, cycles: int, **options: Any) -> None:
        with self._heard():
            super().run(cycles, **options)

    def reset(self, cycles: int = 2) -> None:
        with self._heard():
            super().reset(cycles)

    def _together(self, step: Callable[[], None]) -> None:
        """Do something that may fail in some processes; then it fails in all."""
        error = None
        try:
            step()
        except EngineError as failed:
            error = f"{failed}"
        errors = self.communicator.allgather(error)
        for number, text in enumerate(errors):
            if text is not None:
                same = all(other == text for other in errors)
                raise BuildError(text if same else f"process {number}: {text}")

    def _neighbor(self, down: int, right: int) -> int | None:
        row = self.part.row + (down * self.part.rows if down > 0 else down)
        column = self.part.column + (right * self.part.columns if right > 0 else right)
        for number, part in enumerate(self.parts):
            inside = 0 <= row - part.row < part.rows and 0 <= column - part.column < part.columns
            if inside:
                return number
        return None

    def _reach(self) -> Callable[[int, int], int]:
        """Connect to the processes next to this one; returns what the driver calls."""
        from mpi4py import MPI

        comm = self.communicator
        requests: list[Any] = []
        self._messages: list[np.ndarray] = []
        for side, (down, right) in enumerate(_SIDES):
            other = self._neighbor(down, right)
            if other is None:
                continue
            size = self._driver.mesh_border(self._mesh, down, right, None, None)
            out, into = np.zeros(size, np.uint8), np.zeros(size, np.uint8)
            self._messages += [out, into]
            addresses = [ctypes.c_void_p(array.ctypes.data) for array in (out, into)]
            self._driver.mesh_border(self._mesh, down, right, *addresses)
            requests.append(comm.Recv_init(into, other, (side + 2) % 4))
            requests.append(comm.Send_init(out, other, side))
        self._requests = requests
        mine, all_ = np.zeros(1, np.int64), np.zeros(1, np.int64)

        def reach(what: int, bits: int) -> int:
            if self._raised is not None:
                return -1  # all bits: that of a failure ends the run
            if what == _AGREE:
                mine[0] = bits
                asked = comm.Iallreduce(mine, all_, MPI.BOR)
                while not asked.Test():
                    os.sched_yield()
                return int(all_[0])
            if what == _SEND:
                MPI.Prequest.Startall(requests)
            else:
                # MPI's own waiting would keep a core from a process that shares it.
                while not MPI.Request.Testall(requests):
                    os.sched_yield()
            return 0

        return reach

    @property
    def border_bytes(self) -> int:
        """Bytes that this process sends in each cycle."""
        return sum(len(message) for message in self._messages[::2])

    def _first(self, failure: Failure | None) -> Failure | None:
        if self._raised is not None:
            raise self._raised
        failures = [f for f in self.communicator.allgather(failure) if f is not None]
        return min(failures) if failures else None

    def whole(self, part: np.ndarray) -> np.ndarray:
        out = np.zeros((self.rows, self.columns, *part.shape[2:]), part.dtype)
        for place, values in zip(self.parts, self.communicator.allgather(part), strict=True):
            row, column, rows, columns = place
            out[row : row + rows, column : column + columns] = values
        return out

    def fed(self) -> list[int]:
        """Return how many words the host port of each row has taken of those it was fed with."""
        return list(itertools.chain(*self.communicator.allgather(super().fed())))

    def cut(self) -> list[Part]:
        """Return the parts of the mesh, in the order of the processes that hold them."""
        return self.parts

    def saved(self) -> list[State]:
        """Return the state of every part of the mesh; the first process gets it, others nothing."""
        (mine,) = super().saved()
        return self.communicator.gather(mine) or []

    def restore(self, cycle: int, parts: Sequence[State]) -> None:
        """Go on in a cycle, with the state of every part of the mesh then."""
        mine = self.communicator.scatter(parts if self.communicator.Get_rank() == 0 else None)
        super().restore(cycle, [mine])

    def first_does(self, step: Callable[[], T]) -> T:
        """Do something in the first process, and return what it gives, or raise its error, in all."""
        done: tuple[T | None, EngineError | None] = (None, None)
        if self.communicator.Get_rank() == 0:
            try:
                done = (step(), None)
            except EngineError as error:
                done = (None, error)
        result, error = self.communicator.bcast(done)
        if error is not None:
            raise error
        return cast(T, result)

    def words(self) -> list[Word]:
        """Return what left the mesh to the west, in the order of one process."""
        return sorted(itertools.chain(*self.communicator.allgather(super().words())))

    def close(self) -> None:
        """Free the memory, and what the processes have in common."""
        for request in getattr(self, "_requests", ()):
            request.Free()
        self._requests = []
        super().close()


def open_mesh(rows: int, columns: int, **parameters: Any) -> LaneMesh:
    """Return a mesh on lanes, on all processes that ``mpirun`` has started.

    Parameters are those of :class:`.LaneMesh`.
    """
    kind = DistributedMesh if processes() > 1 else LaneMesh
    return kind(rows, columns, **parameters)
