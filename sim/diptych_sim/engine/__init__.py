# SPDX-License-Identifier: BSD-2-Clause
"""Building and running the hardware."""
