# SPDX-License-Identifier: BSD-2-Clause
"""Keeps a run of a mesh on lanes in a file, so that it goes on after it was killed."""

from __future__ import annotations

import ctypes
import io
import json
import os
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diptych_sim.engine.cache import digest
from diptych_sim.engine.errors import EngineError, SimulationError

from .mesh import LaneMesh

__all__ = ["Checkpoint", "CheckpointError", "Keeper", "Rows"]

FORMAT = "diptych-lanes-1"
Rows = list[list[int]]
"""Words that the host sends into each row."""


class CheckpointError(EngineError):
    """A checkpoint that cannot be read, or is another's; the message is one line."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Where a run is kept.

    Attributes
    ----------
    file : Path
        The file; it is there as a whole or not at all, whatever happens.
    every : int
        Cycles from one checkpoint to the next.
    resume : bool
        Whether to go on from what the file holds.
    """

    file: Path
    every: int
    resume: bool = False


class Keeper:
    """Keeps a run: the mesh, what the host has still to send, and notes of the host.

    Parameters
    ----------
    checkpoint : Checkpoint
        Where.
    mesh : LaneMesh
        The mesh, reset.
    load : list of list of int
        What the host sends, in one go.
    about : list of str
        What else makes the run what it is: a checkpoint of another is refused.
    """

    def __init__(
        self, checkpoint: Checkpoint, mesh: LaneMesh, load: Rows, about: list[str]
    ) -> None:
        self._checkpoint, self._mesh, self._load = checkpoint, mesh, load
        layouts = [repr(design.layout) for design in (mesh.tile, mesh.port)]
        names = sorted(
            f"{name} {part.low} {part.node}" for name, part in mesh.tile.interface.registers
        )
        size = f"{mesh.rows}x{mesh.columns}"
        words = [json.dumps(row) for row in load]
        self._identity = digest([FORMAT, size, *layouts, *names, *words, *about])
        self._sent = [0] * mesh.rows  # before the mesh was fed
        self._next = mesh.cycle + checkpoint.every

    def resume(self) -> Any:
        """Return the notes of the checkpoint, and put the mesh where it was.

        Raises
        ------
        CheckpointError
            If it cannot be read, or is not one of this run.
        """
        file = self._checkpoint.file
        try:
            with file.open("rb") as content, np.load(content, allow_pickle=False) as arrays:
                about = json.loads(bytes(arrays["about"]))
                if about["identity"] != self._identity:
                    raise CheckpointError(f"Checkpoint {file} must be of this run, not of another")
                for memory, name in zip(self._memories(), ("tiles", "ports"), strict=True):
                    memory[:] = arrays[name]
        except OSError as error:
            raise CheckpointError(
                f"Checkpoint must be a file that can be read, not {file} ({error.strerror})"
            ) from None
        except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error):
            raise CheckpointError(
                f"Checkpoint must be one of a mesh on lanes, not {file}"
            ) from None
        self._sent = about["sent"]
        self._mesh.feed([row[at:] for row, at in zip(self._load, self._sent, strict=True)])
        driver, address = self._mesh.native
        driver.mesh_resume(ctypes.c_void_p(address), ctypes.c_long(about["cycle"]))
        self._next = self._mesh.cycle + self._checkpoint.every
        return about["notes"]

    def keep(self, notes: Callable[[], Any]) -> None:
        """Write a checkpoint, if it is time.

        Raises
        ------
        SimulationError
            If it cannot be written; the one before is still there.
        """
        if self._mesh.cycle < self._next:
            return
        self._next = self._mesh.cycle + self._checkpoint.every
        driver, address = self._mesh.native
        sent = [
            before + driver.mesh_fed(ctypes.c_void_p(address), ctypes.c_long(row))
            for row, before in enumerate(self._sent)
        ]
        about = {
            "identity": self._identity,
            "cycle": self._mesh.cycle,
            "sent": sent,
            "notes": notes(),
        }
        tiles, ports = self._memories()
        text = np.frombuffer(json.dumps(about).encode(), dtype=np.uint8)
        content = io.BytesIO()
        np.savez_compressed(content, about=text, tiles=tiles, ports=ports)
        file = self._checkpoint.file
        part = file.with_name(f".{file.name}.part")
        try:
            with part.open("wb") as out:
                out.write(content.getbuffer())
                out.flush()
                os.fsync(out.fileno())
            part.replace(file)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise SimulationError(
                f"Cannot write checkpoint {file}: {error.strerror}; the one before is still there"
            ) from None

    def _memories(self) -> tuple[np.ndarray, np.ndarray]:
        mesh = self._mesh
        tiles, ports = (np.frombuffer(m, dtype=np.uint8) for m in (mesh.memory, mesh.port_memory))
        return tiles, ports
