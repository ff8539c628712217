# SPDX-License-Identifier: BSD-2-Clause
"""Steps say how far they are and about how long the rest takes, also where lines stay.

Mutations that were tried by hand, each seen to fail: no estimate; a line for each step.
"""

from diptych_sim.report.progress import ProgressLine


def test_long_phases_tell_what_is_left(capsys):
    now = [0.0]
    line = ProgressLine(clock=lambda: now[0])
    for number in range(10):
        line(f"evaluating, {number} of 10 windows")
        now[0] += 1.0
    line("compiling tile, about 9 s")
    line.stop()
    assert capsys.readouterr().err.splitlines() == [
        "evaluating ...",
        "evaluating, 2 of 10 windows, about 8 s left ...",
        "evaluating, 4 of 10 windows, about 6 s left ...",
        "evaluating, 8 of 10 windows, about 2 s left ...",
        "compiling tile, about 9 s ...",
    ]
