# SPDX-License-Identifier: BSD-2-Clause
"""Prefill on the array: a prompt through all layers."""
