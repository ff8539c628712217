# SPDX-License-Identifier: BSD-2-Clause
"""Decode on the array: a program for each token, weights and KV cache from HBM."""
