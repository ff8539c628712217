# SPDX-License-Identifier: BSD-2-Clause
"""The cost model: cycles and bytes from shapes and programs alone."""
