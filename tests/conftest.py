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

_SECONDS = os.environ.get("DIPTYCH_TEST_SECONDS")
_START = time.monotonic()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    """Begin no test after ``DIPTYCH_TEST_SECONDS``; those that are left out are skipped tests."""
    if _SECONDS is not None and time.monotonic() - _START > float(_SECONDS):
        pytest.skip(f"no time left: DIPTYCH_TEST_SECONDS is {_SECONDS}")
