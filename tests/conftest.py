# SPDX-License-Identifier: BSD-2-Clause
"""Set-up of all tests."""

import os
import time
from pathlib import Path

import pytest

# Programs that tests start import the helpers, too: python -m support.NAME.
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")])
)

_START = time.monotonic()


def pytest_addoption(parser):
    """Add the option that bounds a run."""
    parser.addoption(
        "--begin-within", type=float, metavar="SECONDS", help="skip tests after so many"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Skip a test that would begin too late."""
    most = item.config.getoption("--begin-within")
    if most is not None and time.monotonic() - _START > most:
        pytest.skip(f"no test begins after {most:g} s: --begin-within")
