# SPDX-License-Identifier: BSD-2-Clause
"""Models of memory outside the panels."""
