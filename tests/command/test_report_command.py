# SPDX-License-Identifier: BSD-2-Clause
"""``diptych report`` and ``diptych compare``, the real commands: no run, and a run that was killed."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from diptych_sim.run.folder import EVENTS

COMMAND = [sys.executable, "-c", "from diptych_sim.cli import main; main()"]
LONG_RUN = [sys.executable, "-m", "support.long_run"]


def diptych(*arguments, cwd):
    done = subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, cwd=cwd, check=False
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["report", "nothing"], "Run folder must .*, not nothing: nothing is there"),
        (["report", "file"], "Run folder must .*, not file: a file is there"),
        (["report", "empty"], r"Run folder must .*, not empty: it has no events\.jsonl"),
        (["report", "other"], r"Run folder must begin with what was run, not other: events.*"),
        (["report"], "Missing argument 'DIR'."),
        (["compare", "empty", "empty"], r"Run folder must .*, not empty: it has no events\.jsonl"),
    ],
)
def test_a_folder_that_is_no_run_gives_one_line(tmp_path, arguments, message):
    (tmp_path / "file").write_text("text")
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / EVENTS).write_text('{"kind": "click"}\n')
    status, out, err = diptych(*arguments, cwd=tmp_path)
    assert (status, out) == (2, "")
    assert re.fullmatch(f"error: {message}\n", err), err
    assert not list(tmp_path.rglob("*.html"))


@pytest.mark.slow
def test_a_run_that_was_killed_has_a_partial_report(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    process = subprocess.Popen(
        [*LONG_RUN, str(folder)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        events = folder / EVENTS
        while not events.is_file() or events.read_text().count('"kind": "token"') < 3:
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.05)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    finally:
        with contextlib.suppress(ProcessLookupError):  # on lanes there is none
            os.killpg(process.pid, signal.SIGKILL)  # its simulator, too
    process.communicate()
    status, out, err = diptych("report", "run", cwd=tmp_path)
    assert (status, err) == (0, "")
    assert re.fullmatch(r"Report .*; partial, as the run was cut off; with it trace.*\n", out)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "This report is partial." in page
    assert re.search(r"cut off in decode, after\s+\d+ of 40 tokens", page)
    assert (folder / "trace.perfetto-trace").stat().st_size > 10_000
    status, out, err = diptych("compare", "run", "run", cwd=tmp_path)
    assert (status, out) == (2, "")
    assert err == "error: Run folder must hold a complete run, not run: it was cut off\n"
