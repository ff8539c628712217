# SPDX-License-Identifier: BSD-2-Clause
"""Parameters of the projection: those shared by all systems, and those of systems with data."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources

import msgspec

__all__ = ["DEFAULTS", "OF_KIND", "OWN", "SHARED", "Parameters", "fitted"]


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """What a system reaches of what its maker publishes; none is of one row of data alone.

    A parameter in ``own`` is that of a system, by id; the others are shared.
    """

    bandwidth_share: float = 0.8
    """Of the memory's bandwidth, in decode and prefill."""
    weight_only_share: float = 0.8
    """Of that bandwidth, where weights are widened before they are multiplied."""
    layer_us: float = 45.0
    """Microseconds of a layer of accelerators beside bytes and products: starts of kernels."""
    all_reduce_us: float = 10.0
    """Microseconds of an all-reduce among chips beside its bytes; a layer has two."""
    prefill_share: float = 0.7
    """Of the peak times the share that plain products reach, in prefill."""
    step_us: float = 300.0
    """Microseconds of a pass outside of the layers: scheduling, sampling."""
    tile_share: float = 0.26
    """Of the products that a tile of a wafer can compute."""
    merge_factor: float = 4.0
    """Cycles of a wafer's reductions, in those of our mesh of that size."""
    position_cycles: float = 200.0
    """Cycles of a wafer's layer for each position of a row of tiles."""
    own: dict[str, dict[str, float]] = field(default_factory=dict)

    def of(self, system: str, name: str) -> float:
        """Return a parameter of a system."""
        shared: float = getattr(self, name)
        return self.own.get(system, {}).get(name, shared)

    def with_own(self, system: str, **values: float) -> Parameters:
        """Return the parameters with some of a system's."""
        return replace(self, own={**self.own, system: {**self.own.get(system, {}), **values}})


OF_KIND = {
    "accelerator": (
        "bandwidth_share",
        "weight_only_share",
        "layer_us",
        "all_reduce_us",
        "prefill_share",
        "step_us",
    ),
    "wafer": ("tile_share", "merge_factor", "position_cycles"),
    "diptych": (),
}
"""Those that a projection of a kind of system uses; of our machine none."""
SHARED = tuple(name for names in OF_KIND.values() for name in names)
"""Parameters that all systems share."""
OWN = {"accelerator": ("step_us", "prefill_share"), "wafer": ("merge_factor",)}
"""Parameters that a system with data has of its own, by its kind."""
DEFAULTS = Parameters()
"""Where a fit begins, and what its parameters stay near to without data."""


class _File(msgspec.Struct, forbid_unknown_fields=True):
    shared: dict[str, float]
    own: dict[str, dict[str, float]]


@cache
def fitted() -> Parameters:
    """Return the parameters that were fitted to the calibration rows of the package."""
    text = resources.files(__name__.rpartition(".")[0]).joinpath("fitted.json").read_bytes()
    file = msgspec.json.decode(text, type=_File)
    return Parameters(**file.shared, own=file.own)
