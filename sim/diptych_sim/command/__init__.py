# SPDX-License-Identifier: BSD-2-Clause
"""Subcommands of ``diptych``, a file each."""
