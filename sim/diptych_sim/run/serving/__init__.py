# SPDX-License-Identifier: BSD-2-Clause
"""Requests in time: arrivals, queues, batches, and the KV cache on shared links."""
