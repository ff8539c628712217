# SPDX-License-Identifier: BSD-2-Clause
"""Keeps a run of a mesh on lanes in a file, so that it goes on after it was killed."""

from __future__ import annotations

import fcntl
import io
import json
import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from diptych_sim.cache.store import digest
from diptych_sim.engine.errors import CheckpointError, SimulationError

from .mesh import LaneMesh, State

__all__ = ["Checkpoint", "Keeper"]

FORMAT = "diptych-lanes-3"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Where a run is kept.

    Attributes
    ----------
    file : str
        Path of the file; it is there as a whole or not at all, whatever happens.
    every : int
        Cycles from one checkpoint to the next.
    resume : bool
        Whether to go on from what the file holds.
    """

    file: str
    every: int
    resume: bool = False

    def absolute(self) -> Checkpoint:
        """Return the same for a process that runs in another folder."""
        return replace(self, file=str(Path(self.file).absolute()))


class Keeper:
    """Keeps a run: the mesh, and what whoever runs it has to note.

    Parameters
    ----------
    checkpoint : Checkpoint
        Where.
    mesh : LaneMesh
        The mesh, reset.
    about : sequence of str
        What makes the run what it is, besides the hardware: a checkpoint of another is refused.
    """

    def __init__(self, checkpoint: Checkpoint, mesh: LaneMesh, about: Sequence[str]) -> None:
        self._checkpoint, self._mesh = checkpoint, mesh
        layouts = [repr(design.layout) for design in (mesh.tile, mesh.port)]
        names = sorted(
            f"{name} {part.low} {part.node}" for name, part in mesh.tile.interface.registers
        )
        size = f"{mesh.rows}x{mesh.columns}"
        self._identity = digest([FORMAT, size, *layouts, *names, *map(str, mesh.cut()), *about])
        self._next = mesh.cycle + checkpoint.every

    def resume(self) -> tuple[Any, dict[str, bytes]]:
        """Put the mesh where it was, and return the notes and the files of the checkpoint.

        Raises
        ------
        CheckpointError
            If it cannot be read, or is not one of this run.
        """
        parts: list[State] = []

        def read() -> tuple[dict[str, Any], dict[str, bytes]]:
            about, files, states = self._read()
            parts.extend(states)
            return about, files

        about, files = self._mesh.first_does(read)
        self._mesh.restore(about["cycle"], parts)
        self._next = self._mesh.cycle + self._checkpoint.every
        return about["notes"], files

    def _read(self) -> tuple[dict[str, Any], dict[str, bytes], list[State]]:
        file = Path(self._checkpoint.file)
        try:
            with file.open("rb") as content, np.load(content, allow_pickle=False) as arrays:
                about = json.loads(bytes(arrays["about"]))
                if about["identity"] != self._identity:
                    raise CheckpointError(f"Checkpoint {file} must be of this run, not of another")
                states = [
                    State(*(bytes(arrays[f"{name} {n}"]) for name in State._fields))
                    for n in range(about["parts"])
                ]
                files = {name: bytes(arrays[f"file {name}"]) for name in about["files"]}
                return about, files, states
        except OSError as error:
            raise CheckpointError(
                f"Checkpoint must be a file that can be read, not {file} ({error.strerror})"
            ) from None
        except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error):
            raise CheckpointError(
                f"Checkpoint must be one of a mesh on lanes, not {file}"
            ) from None

    @property
    def left(self) -> int:
        """Cycles to the next checkpoint; 0 or less when it is time for one."""
        return self._next - self._mesh.cycle

    def keep(self, notes: Any, files: Mapping[str, bytes] | None = None) -> None:
        """Write a checkpoint, with notes that JSON can hold and the contents of files.

        Raises
        ------
        SimulationError
            If it cannot be written; the one before is still there.
        """
        self._next = self._mesh.cycle + self._checkpoint.every
        parts = self._mesh.saved()
        self._mesh.first_does(lambda: self._write(parts, notes, files or {}))

    def _write(self, parts: Sequence[State], notes: Any, files: Mapping[str, bytes]) -> None:
        about = {
            "identity": self._identity,
            "cycle": self._mesh.cycle,
            "parts": len(parts),
            "notes": notes,
            "files": list(files),
        }
        data = {f"file {name}": content for name, content in files.items()}
        data["about"] = json.dumps(about).encode()
        for n, state in enumerate(parts):
            data |= {f"{name} {n}": content for name, content in state._asdict().items()}
        content = io.BytesIO()
        arrays: dict[str, Any] = {name: np.frombuffer(x, np.uint8) for name, x in data.items()}
        np.savez_compressed(content, **arrays)
        file = Path(self._checkpoint.file)
        part = file.with_name(f".{file.name}.part")
        try:
            with _alone(part) as out:
                out.write(content.getbuffer())
                out.flush()
                os.fsync(out.fileno())
                part.replace(file)
        except OSError as error:
            part.unlink(missing_ok=True)
            before = "; the one before is still there" if file.exists() else ""
            raise SimulationError(
                f"Cannot write checkpoint {file}: {error.strerror}{before}"
            ) from None


@contextmanager
def _alone(part: Path) -> Iterator[IO[bytes]]:
    """Open a file to be written anew by no one else, until it is there no more by that name."""
    while True:
        with part.open("ab") as out:
            fcntl.flock(out, fcntl.LOCK_EX)
            # Who had it before may have renamed it: then it is a checkpoint.
            if _is_at(out, part):
                out.truncate(0)
                yield out
                return


def _is_at(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
