# SPDX-License-Identifier: BSD-2-Clause
"""Everything that makes the hardware run: models, compilers, engines and reports."""

import time

IMPORTED_AT = time.time()
"""When this process imported the package: a source changed later is not the one that it runs."""
