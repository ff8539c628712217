# SPDX-License-Identifier: BSD-2-Clause
"""Everything that makes the hardware run: models, compilers, engines and reports."""
