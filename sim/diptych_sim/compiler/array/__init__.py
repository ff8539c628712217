# SPDX-License-Identifier: BSD-2-Clause
"""Programs of the prefill panel: commands, dependencies, the HBM image, listings."""
