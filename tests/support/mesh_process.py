# SPDX-License-Identifier: BSD-2-Clause
"""A process of several that run a mesh: runs a random job and prints a digest of all state.

With ``die`` as an argument the last process kills itself on the way; with ``raise`` it fails.
"""

import hashlib
import os
import signal
import sys

from diptych_sim.engine.lanes.distributed import open_mesh
from diptych_sim.engine.processes import processes, rank
from support.mesh_jobs import random_job

MESH = (5, 6)


def main(how):
    with open_mesh(*MESH) as mesh:
        mesh.reset()
        mesh.feed(random_job(MESH, 3))
        mesh.run(1000, until="sent")
        if how and rank() == processes() - 1:
            if how == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            raise MemoryError("no more")
        mesh.run(300, until="none")
        mesh.run(77)
        state = {**mesh.registers(), **mesh.memories()}
        digest = hashlib.sha256()
        for name in sorted(state):
            digest.update(f"{name} {state[name].tolist()}".encode())
        line = f"{mesh.cycle} {len(mesh.words())} {digest.hexdigest()}\n"
        os.write(1, line.encode())  # at once: processes share the output


main(*sys.argv[1:] or [""])
