# SPDX-License-Identifier: BSD-2-Clause
"""The word engine: hardware that is there once, compiled to plain words; equal parts of it in loops."""
