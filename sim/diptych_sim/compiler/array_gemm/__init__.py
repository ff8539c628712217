# SPDX-License-Identifier: BSD-2-Clause
"""Matrix products on the prefill panel, from HBM to HBM."""
