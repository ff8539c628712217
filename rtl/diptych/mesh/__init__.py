# SPDX-License-Identifier: BSD-2-Clause
"""The decode panel: a mesh of tiles with their own memory."""
