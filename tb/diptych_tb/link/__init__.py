# SPDX-License-Identifier: BSD-2-Clause
"""Testbenches of the KV link."""
