# SPDX-License-Identifier: BSD-2-Clause
"""Projection: time, bytes and energy of a model's prefill and decode on a system of the field."""
