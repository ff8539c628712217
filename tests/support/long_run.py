# SPDX-License-Identifier: BSD-2-Clause
"""A run to be killed: ``python -m support.long_run FOLDER`` writes 40 tokens of a small model."""

import sys
from pathlib import Path

from diptych.config import MachineConfig
from diptych_sim.run.generate import generate
from support.random_model import TINY, random_model

if __name__ == "__main__":
    generate(
        random_model(TINY, 3),
        [[3, 1, 4, 1, 5, 9, 2, 6, 5]],
        [40],
        machine=MachineConfig(array=(8, 8), mesh=(2, 2)),
        out=Path(sys.argv[1]),
        about={
            "config": {
                "prompt": "x",
                "stage": "all",
                "clock_mhz": 1,
                "array": "8x8",
                "mesh": "2x2",
                "model": "random",
            },
            "prompts": ["x"],
        },
    )
