# SPDX-License-Identifier: BSD-2-Clause
"""Set-up of all tests."""

import os
from pathlib import Path

# Programs that tests start import the helpers, too: python -m support.NAME.
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")])
)
