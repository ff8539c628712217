# SPDX-License-Identifier: BSD-2-Clause
"""What a file of a system may hold: fields with a value, a source and a status."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Literal, get_args

import msgspec

__all__ = [
    "FIELDS",
    "KINDS",
    "REQUIRED",
    "STATUSES",
    "Field",
    "FieldKind",
    "System",
    "SystemFile",
    "check_file",
]

Kind = Literal["accelerator", "wafer", "diptych", "unpublished"]
Status = Literal["published", "derived", "unknown"]
KINDS, STATUSES = get_args(Kind), get_args(Status)


@dataclass(frozen=True)
class FieldKind:
    """What a field says: its words, its unit, and the least and largest value."""

    words: str
    unit: str
    least: float
    most: float
    whole: bool = False


FIELDS = {
    "bf16_tflops": FieldKind("dense peak in bf16", "TFLOP/s", 0, 1e9),
    "fp8_tflops": FieldKind("dense peak in fp8", "TFLOP/s", 0, 1e9),
    "fp4_tflops": FieldKind("dense peak in fp4", "TFLOP/s", 0, 1e9),
    "memory_gb": FieldKind("memory for weights and KV cache", "GB, 10^9 bytes", 0, 1e9),
    "memory_tbps": FieldKind("bandwidth of that memory", "TB/s", 0, 1e9),
    "on_chip_mb": FieldKind("memory on the chip", "MB, 10^6 bytes", 0, 1e9),
    "scale_up_gbps": FieldKind("links to the chips of its domain, both ways", "GB/s", 0, 1e9),
    "scale_out_gbps": FieldKind("network", "GB/s", 0, 1e9),
    "domain_chips": FieldKind("chips that share a layer", "chips", 1, 1e6, whole=True),
    "watts": FieldKind("power", "W", 0, 1e9),
    "matmul_share": FieldKind("share of the bf16 peak that products reach", "", 0, 1),
    "matmul_share_fp8": FieldKind("share of the fp8 peak that products reach", "", 0, 1),
    "clock_mhz": FieldKind("clock", "MHz", 0, 1e6),
    "tiles": FieldKind("tiles", "tiles", 1, 1e9, whole=True),
    "tile_macs": FieldKind("16-bit products of a tile", "a cycle", 0, 1e6),
    "hop_cycles": FieldKind("from router to router", "cycles", 1, 1000, whole=True),
    "layer_tiles": FieldKind("tiles of every layer, one layer after the other", "tiles", 1, 1e9),
    "prefill_stages": FieldKind("tokens of a prompt that are in work at once", "", 1, 1e6),
    "array_rows": FieldKind("rows of our array", "", 1, 1e6, whole=True),
    "array_columns": FieldKind("columns of our array", "", 1, 1e6, whole=True),
    "weight_rows": FieldKind(
        "rows of weights that our array loads in a cycle", "", 1, 4, whole=True
    ),
    "hbm_bytes_per_cycle": FieldKind("bandwidth of our HBM", "bytes", 1, 1e6, whole=True),
    "hbm_latency": FieldKind("latency of our HBM", "cycles", 1, 1e6, whole=True),
    "link_bytes_per_cycle": FieldKind("bandwidth of our KV link", "bytes", 1, 1e6, whole=True),
    "mesh_rows": FieldKind("rows of our mesh", "", 1, 1e6, whole=True),
    "mesh_columns": FieldKind("columns of our mesh", "", 1, 1e6, whole=True),
    "sram_bytes": FieldKind("SRAM of our tile", "bytes", 1, 1e9, whole=True),
}
"""Fields of a system by name; a value is above ``least``, or at least 1 where it counts."""

_OF_KINDS = {
    ("accelerator", "wafer"): (
        "bf16_tflops",
        "fp8_tflops",
        "fp4_tflops",
        "memory_gb",
        "memory_tbps",
        "on_chip_mb",
        "scale_up_gbps",
        "scale_out_gbps",
        "domain_chips",
        "matmul_share",
        "matmul_share_fp8",
    ),
    ("wafer",): ("tiles", "tile_macs", "layer_tiles", "prefill_stages"),
    ("wafer", "diptych"): ("hop_cycles",),
    ("diptych",): (
        "array_rows",
        "array_columns",
        "weight_rows",
        "hbm_bytes_per_cycle",
        "hbm_latency",
        "link_bytes_per_cycle",
        "mesh_rows",
        "mesh_columns",
        "sram_bytes",
    ),
}
"""Fields that not all kinds of systems have; an unpublished one may name any as unknown."""

REQUIRED = {
    "accelerator": ("bf16_tflops", "memory_gb", "memory_tbps"),
    "wafer": ("memory_gb", "clock_mhz", "tiles", "tile_macs", "hop_cycles"),
    "diptych": (
        "clock_mhz",
        "array_rows",
        "array_columns",
        "weight_rows",
        "hbm_bytes_per_cycle",
        "hbm_latency",
        "link_bytes_per_cycle",
        "mesh_rows",
        "mesh_columns",
        "hop_cycles",
        "sram_bytes",
    ),
    "unpublished": (),
}
"""Fields without which a system of a kind cannot be projected."""


class Field(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A figure: ``value`` in the unit of its field, and where it is from."""

    status: Status
    value: float | None = None
    source: str = ""


class SystemFile(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A file as it is written."""

    name: str
    kind: Kind
    fields: dict[str, Field]
    aliases: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class System:
    """A system that was read and checked; ``id`` is the name of its file."""

    id: str
    name: str
    kind: str
    fields: dict[str, Field]
    aliases: tuple[str, ...]
    note: str
    where: str

    def get(self, field: str) -> float | None:
        """Return the value of a field, None if it is unknown or left out."""
        found = self.fields.get(field)
        return None if found is None else found.value

    def need(self, field: str) -> float:
        """Return the value of a field that the kind requires."""
        value = self.get(field)
        assert value is not None, f"{self.id}: {field}"
        return value

    @property
    def missing(self) -> list[str]:
        """Fields that a projection needs and nobody publishes."""
        return [name for name in REQUIRED[self.kind] if self.get(name) is None]


def check_file(file: SystemFile) -> str | None:
    """Return what is wrong with a file, in one line, or None."""
    for name in (file.name, *file.aliases):
        if not any(sign.isalnum() for sign in name):
            return f"names must have letters or digits, not {name!r}"
    for name, field in file.fields.items():
        kind = FIELDS.get(name)
        if kind is None:
            return f"field must be one of {', '.join(FIELDS)}, not {name!r}"
        if field.status == "unknown":
            if field.value is not None:
                return f"{name} must have no value where its status is unknown, not {field.value:g}"
            continue
        if field.value is None:
            return f"{name} must have a value, or the status unknown, not none"
        if not field.source.strip():
            return f"{name} must have a source where its status is {field.status}, not ''"
        if kind.least == 1 and not 1 <= field.value <= kind.most:
            return f"{name} ({kind.words}) must be from 1 to {kind.most:g}, not {field.value:g}"
        if kind.least == 0 and not 0 < field.value <= kind.most:
            return f"{name} ({kind.words}) must be above 0 and at most {kind.most:g}, not {field.value:g}"
        if kind.whole and field.value != int(field.value):
            return f"{name} ({kind.words}) must be a whole number, not {field.value:g}"
    return _contradiction(file)


def _foreign(file: SystemFile) -> str | None:
    """Return which field is of other kinds of systems, or None."""
    for kinds, names in _OF_KINDS.items():
        found = next((name for name in names if name in file.fields), None)
        if found is not None and file.kind not in (*kinds, "unpublished"):
            return f"{found} must be of a system of kind {' or '.join(kinds)}, not {file.kind}"
    return None


def _contradiction(file: SystemFile) -> str | None:
    """Return which two fields of a file cannot both be true, or which one must be there."""
    values = {name: field.value for name, field in file.fields.items() if field.value is not None}
    for wider, narrower in combinations(("bf16_tflops", "fp8_tflops", "fp4_tflops"), 2):
        if values.get(narrower, 1e99) < values.get(wider, 0):
            return (
                f"{narrower} must be at least {wider}, {values[wider]:g}, not {values[narrower]:g}"
            )
    if values.get("layer_tiles", 0) > values.get("tiles", 1e99):
        return (
            f"layer_tiles must be at most tiles, {values['tiles']:g}, not {values['layer_tiles']:g}"
        )
    if file.kind == "wafer" and values.get("memory_gb", 0) > values.get("on_chip_mb", 1e99) / 1e3:
        return (
            f"memory_gb of a wafer must be at most on_chip_mb / 1000, "
            f"{values['on_chip_mb'] / 1e3:g}, not {values['memory_gb']:g}"
        )
    absent = [name for name in REQUIRED[file.kind] if name not in values]
    if absent:
        return (
            f"a system of kind {file.kind} must have values of {', '.join(REQUIRED[file.kind])}, "
            f"not none of {', '.join(absent)}"
        )
    if file.kind == "unpublished" and values:
        return f"kind must be accelerator or wafer where there are values, not {file.kind!r}"
    return _foreign(file)
