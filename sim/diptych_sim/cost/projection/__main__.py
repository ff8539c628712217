# SPDX-License-Identifier: BSD-2-Clause
"""Writes ``fitted.json``: the parameters for the calibration rows of the package."""

from __future__ import annotations

import json
from pathlib import Path

from diptych_sim.cost.projection.fit import fit
from diptych_sim.cost.projection.parameters import SHARED
from diptych_sim.cost.projection.rows import packaged_rows
from diptych_sim.cost.systems.load import load_systems


def main() -> None:
    """Fit, and write four digits of each parameter."""
    p = fit(packaged_rows("calibration", load_systems()))
    shared = {name: float(f"{getattr(p, name):.4g}") for name in SHARED}
    own = {
        system: {name: float(f"{value:.4g}") for name, value in values.items()}
        for system, values in sorted(p.own.items())
    }
    text = json.dumps({"shared": shared, "own": own}, indent=2) + "\n"
    Path(__file__).with_name("fitted.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
