# SPDX-License-Identifier: BSD-2-Clause
"""Account of a layer on the prefill panel."""

from __future__ import annotations

from typing import Any

from diptych_sim.account.prefill_operations import prefill_layers, prefill_operations
from diptych_sim.cost.array_layer import prompt_macs
from diptych_sim.run.array_layer import ArrayLayerRun

__all__ = ["account_array_layer"]


def account_array_layer(done: ArrayLayerRun) -> dict[str, Any]:
    """Return the accounts of the first layer, and of the whole program (``program``) around it.

    ``cycles`` are those of the array that belong to commands of the layer, ``operations`` as of
    :func:`.prefill_layers`. ``macs`` are the products that the layer needs; ``bound_cycles`` is what
    they take on all cells of the array.

    Raises
    ------
    AccountError
        If an account contradicts itself.
    """
    array = done.machine.array
    operations = prefill_operations(
        done.program,
        done.commands,
        array=array,
        start=done.measured.starts[0],
        weight_rows=done.machine.weight_rows,
    )
    layers = prefill_layers(operations, array=array, cycles=done.cycles)
    layer = next(part for part in layers if part["layer"] == 0)
    macs, cells = prompt_macs(done.config, done.tokens), array[0] * array[1]
    return {
        "cycles": layer["cycles"],
        "bound_cycles": -(-macs // cells),
        "macs": macs,
        "mac_utilization": macs / (layer["cycles"] * cells),
        "cycles_by_cause": layer["cycles_by_cause"],
        "operations": layer["operations"],
        "program": {
            "cycles": done.cycles,
            "predicted_cycles": done.cost.predicted_cycles,
            "bound_cycles": done.cost.bound_cycles,
            "hbm_read": done.measured.parts[0]["hbm"]["hbm_read"],
            "hbm_write": done.measured.parts[0]["hbm"]["hbm_write"],
            "predicted_hbm_read": done.cost.predicted_hbm_read,
            "predicted_hbm_write": done.cost.predicted_hbm_write,
        },
    }
