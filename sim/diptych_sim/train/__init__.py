# SPDX-License-Identifier: BSD-2-Clause
"""The recipe of the bundled model: ``python -m diptych_sim.train``."""
