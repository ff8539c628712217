# SPDX-License-Identifier: BSD-2-Clause
"""The link that hands the KV cache from one panel to the other."""
