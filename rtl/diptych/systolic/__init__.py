# SPDX-License-Identifier: BSD-2-Clause
"""The prefill panel: a systolic array and what feeds it."""
