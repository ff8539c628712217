# SPDX-License-Identifier: BSD-2-Clause
"""Where the array finds weights and scales: whole layers in the panel, or parts as they are used."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from diptych.systolic.isa import Target
from diptych_sim.compiler.array.hazards import Span
from diptych_sim.compiler.array.hbm_layout import packs
from diptych_sim.compiler.prefill.commands import PrefillCommands
from diptych_sim.compiler.prefill.memories import STAGES, Memories

__all__ = ["ResidentWeights", "StreamedWeights", "Weights"]


class Weights(ABC):
    """Weights of a model's layers and of its output, and their scales.

    Parameters
    ----------
    out : PrefillCommands
        Takes the commands that load them.
    memories : Memories
        Where things are.
    array : (int, int)
        Rows and columns of the array.
    entries : mapping
        First entry of each set of scales in the HBM's region ``parameters``.
    """

    def __init__(
        self,
        out: PrefillCommands,
        memories: Memories,
        array: tuple[int, int],
        entries: Mapping[str, int],
    ) -> None:
        self.out, self.memories, self.array, self.entries = out, memories, array, entries

    @abstractmethod
    def load_scales(self, index: int | None) -> None:
        """Load the scales of a layer, all if None, unless they are or come otherwise."""

    @abstractmethod
    def load(self, index: int, name: str) -> None:
        """Load a matrix of a layer, unless it comes with its products."""

    @abstractmethod
    def load_output(self) -> None:
        """Load the output matrix, unless it comes with its products."""

    @abstractmethod
    def part(
        self, place: str, region: str, depth: int, start: int, n: int
    ) -> tuple[dict[str, Any], list[Span]]:
        """Return fields of a product with ``n`` column tiles of a matrix, and what it reads.

        ``start`` is the first tile.

        Parameters
        ----------
        place : str
            Where the matrix is if it is in the panel.
        region : str
            The matrix in HBM.
        depth : int
            Its rows, a multiple of those of the array.
        """

    @abstractmethod
    def scales(self, index: int, name: str) -> int:
        """Return the first entry of a set of scales of a layer."""

    @abstractmethod
    def scale_reads(self, index: int) -> Sequence[Span]:
        """Return what an op reads that uses scales of a layer, beside what it reads anyway."""

    @abstractmethod
    def output_scales(self, start: int, n: int) -> tuple[int, Sequence[Span]]:
        """Return the first entry of scales of ``n`` column tiles of the output, and what is read."""

    def _tiles(self, place: int, out: int, first: int) -> dict[str, Any]:
        """Fields for weights of ``out`` columns at ``place``, from column tile ``first`` on."""
        rows, columns = self.array
        fields: dict[str, Any] = {"w_row": out, "w_k": rows * out, "w_n": columns}
        if packs(rows, columns):
            fields |= {"w_row": columns, "w_n": rows * columns, "modes": {"packed": 1}}
        return {"w": place + first * fields["w_n"], **fields}


class ResidentWeights(Weights):
    """Matrices of two layers and the output are whole in the scratchpad, all scales in the panel."""

    def load_scales(self, index: int | None) -> None:
        if index is None:
            self.out.load(Target.PARAMETERS, "parameters", 0, fills=Span("parameters", 0, 1))

    def load(self, index: int, name: str) -> None:
        place = f"{name}{index % 2}"
        self._load(f"layer{index}.{name}", place)

    def load_output(self) -> None:
        self._load("output", "output")

    def _load(self, region: str, place: str) -> None:
        at = self.memories.scratch[place]
        self.out.load(Target.SCRATCHPAD, region, at, fills=Span(place, 0, 1))

    def part(
        self, place: str, region: str, depth: int, start: int, n: int
    ) -> tuple[dict[str, Any], list[Span]]:
        out = self.out.image.size[region] // depth
        return self._tiles(self.memories.scratch[place], out, start), [Span(place, 0, 1)]

    def scales(self, index: int, name: str) -> int:
        return self.entries[f"layer{index}.{name}"]

    def scale_reads(self, index: int) -> Sequence[Span]:
        return ()

    def output_scales(self, start: int, n: int) -> tuple[int, Sequence[Span]]:
        return self.entries["output"] + start, ()


class StreamedWeights(Weights):
    """Each product's weights are loaded into the next of a few stages; two layers' scales are there.

    Weights are in HBM tile after tile (:func:`.packs`): of each row tile the column tiles of a part
    are one piece.
    """

    def __init__(self, *where: Any) -> None:
        super().__init__(*where)
        self._parts, self._output_parts = 0, 0

    def load_scales(self, index: int | None) -> None:
        if index is None:
            return
        first, end = self._span(index)
        self._load_scales(first, end - first, index % 2)

    def _span(self, index: int) -> tuple[int, int]:
        """Return the entries of a layer's scales in HBM."""
        first = self.entries[f"layer{index}.q"]
        return first, self.entries.get(f"layer{index + 1}.q", self.entries["output"])

    def _load_scales(self, first: int, count: int, half: int) -> int:
        entry = 4 * self.array[1]
        target = half * self.memories.sizes.parameters // 2
        self.out.load(
            Target.PARAMETERS,
            "parameters",
            target,
            fills=Span(f"parameters{half}", 0, 1),
            hbm=self.out.image.at["parameters"] + first * entry,
            bytes=count * entry,
        )
        return target

    def load(self, index: int, name: str) -> None:
        """Load nothing: it comes with its products."""

    def load_output(self) -> None:
        """Load nothing: it comes with its products."""

    def part(
        self, place: str, region: str, depth: int, start: int, n: int
    ) -> tuple[dict[str, Any], list[Span]]:
        rows, columns = self.array
        image, tile = self.out.image, rows * columns
        stage = f"stage{self._parts % STAGES}"
        self._parts += 1
        at = self.memories.scratch[stage]
        pitch = image.size[region] // depth * rows
        self.out.load(
            Target.SCRATCHPAD,
            region,
            at,
            fills=Span(stage, 0, 1),
            hbm=image.at[region] + start * tile,
            bytes=n * tile,
            rows=depth // rows,
            pitch=pitch,
            target_pitch=n * tile,
        )
        return self._tiles(at, n * columns, 0), [Span(stage, 0, 1)]

    def scales(self, index: int, name: str) -> int:
        half = index % 2 * self.memories.sizes.parameters // 2
        return half + self.entries[f"layer{index}.{name}"] - self._span(index)[0]

    def scale_reads(self, index: int) -> Sequence[Span]:
        return (Span(f"parameters{index % 2}", 0, 1),)

    def output_scales(self, start: int, n: int) -> tuple[int, Sequence[Span]]:
        half = self._output_parts % 2
        self._output_parts += 1
        entry = self._load_scales(self.entries["output"] + start, n, half)
        return entry, (Span(f"parameters{half}", 0, 1),)
