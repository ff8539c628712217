# SPDX-License-Identifier: BSD-2-Clause
"""Runs on lanes that write checkpoints, in the test's process or in one of their own.

``python -m support.checkpointed_runs HOW FILE``: ``killed`` decodes and kills itself at the third
token; ``new`` and ``resume`` compute a product, and print as JSON whether it matches, and accounts.
"""

import json
import os
import signal
import sys
from pathlib import Path

import numpy as np

from diptych.config import MachineConfig
from diptych_sim.account.mesh_kernels import account_kernel
from diptych_sim.engine.lanes.checkpoint import Checkpoint
from diptych_sim.engine.processes import is_first
from diptych_sim.run.backend import mesh_backend
from diptych_sim.run.generate import generate
from diptych_sim.run.mesh_gemv import gemv
from support.random_model import TINY, random_model

__all__ = ["decode", "product"]


def decode(file=None, *, every=1000, resume=False, tokens=6, out=None, on_event=None):
    prompt = np.random.default_rng(1).integers(0, TINY.vocab, 5).tolist()
    checkpoint = file and Checkpoint(file=str(file), every=every, resume=resume)
    return generate(
        random_model(TINY, 1),
        [prompt],
        [tokens],
        machine=MachineConfig(mesh=(2, 2)),
        stage="decode",
        engine="lanes",
        checkpoint=checkpoint,
        out=out,
        on_event=on_event,
    )


def product(checkpoint):
    rng = np.random.default_rng(1)
    x = rng.integers(-128, 128, 40).astype(np.int8)
    w = rng.integers(-128, 128, (7, 40)).astype(np.int8)
    done = gemv(x, w, mesh=(2, 2), backend=mesh_backend("lanes"), checkpoint=checkpoint)
    return done.matches_golden, account_kernel(done.kernel)


def die(event):
    if event["kind"] == "token" and event["index"] == 3:
        os.kill(os.getpid(), signal.SIGKILL)


def main(how, file):
    if how == "killed":
        decode(file, on_event=die)
        return
    done = product(Checkpoint(file=str(file), every=150, resume=how == "resume"))
    if is_first():
        print(json.dumps(done))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
