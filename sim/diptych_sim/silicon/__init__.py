# SPDX-License-Identifier: BSD-2-Clause
"""Clock and area of blocks, synthesized and routed with open tools."""
