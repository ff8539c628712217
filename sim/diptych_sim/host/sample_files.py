# SPDX-License-Identifier: BSD-2-Clause
"""Names of the files of samples that the recorder writes into a run folder."""

__all__ = ["MESH_SAMPLES", "PANEL_SAMPLES"]

PANEL_SAMPLES = "panel.u32"
MESH_SAMPLES = "mesh.u32"
