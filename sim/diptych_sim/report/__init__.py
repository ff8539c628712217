# SPDX-License-Identifier: BSD-2-Clause
"""Reports for people and for other programs."""
