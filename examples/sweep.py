# SPDX-License-Identifier: BSD-2-Clause
"""A sweep of one parameter: a matrix-vector product on meshes of several sizes, as CSV.

The lane engine is built in about 15 s for any mesh; ``--engine verilator`` gives the same cycles.
"""

import csv
import json
import subprocess
import sys
from pathlib import Path

DIPTYCH = Path(sys.executable).with_name("diptych")
MESHES = ("2x2", "4x4", "8x8")
COLUMNS = ("mesh", "cycles", "bound_cycles", "mac_utilization")


def measure(mesh: str) -> dict[str, object]:
    """Return the result of one run; a run that differs from NumPy ends the sweep."""
    command = [DIPTYCH, "gemv", "256", "256", "--mesh", mesh, "--engine", "lanes", "--json", "-"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


if __name__ == "__main__":
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(COLUMNS)
    for mesh in MESHES:
        result = measure(mesh)
        utilization = f"{result['mac_utilization']:.3f}"
        table.writerow([mesh, result["cycles"], result["bound_cycles"], utilization])
