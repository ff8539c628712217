# SPDX-License-Identifier: BSD-2-Clause
"""Diptych: the hardware, as Amaranth components."""

import time

IMPORTED_AT = time.time()
"""When this process imported the package: a source changed later is not the one that it runs."""
