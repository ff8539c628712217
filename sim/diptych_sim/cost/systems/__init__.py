# SPDX-License-Identifier: BSD-2-Clause
"""Systems of the field, a TOML file each: every figure with its source."""
