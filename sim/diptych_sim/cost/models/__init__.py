# SPDX-License-Identifier: BSD-2-Clause
"""Shapes of public models, a config.json each, and of any other config.json."""
