# SPDX-License-Identifier: BSD-2-Clause
"""The build cache: files by key, and how keys are made."""
