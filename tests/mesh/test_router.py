# SPDX-License-Identifier: BSD-2-Clause
"""The router: nothing lost, doubled, reordered or misled; rate, latency, fairness.

Mutations that were tried by hand, each seen to fail: a credit that is not taken; a combining color
that fires with one source missing; the maximum of unsigned numbers; a buffer that is read one
further; turns that are not taken; the mesh's edge ignored.
"""

from diptych.mesh.router import Router
from diptych_sim.engine.simulate import simulate


def test_routes():
    ran = simulate(Router(colors=10), name="router", test_module="diptych_tb.mesh.router")
    assert ran.tests == 24
