# SPDX-License-Identifier: BSD-2-Clause
"""Save files of waveform viewers: the signals to look at first."""

from __future__ import annotations

from pathlib import Path

__all__ = ["write_save_file"]

_GROUPS = {
    "host": ("clk", "start", "finished", "token_valid", "token[31:0]"),
    "prefill": (
        "prefill.panel.queues.load__valid",
        "prefill.panel.queues.matrix__valid",
        "prefill.panel.queues.vector__valid",
        "prefill.panel.queues.store__valid",
        "prefill.panel.handoff__valid",
        "prefill.panel.handoff__ready",
    ),
    "link": ("link_word", "link_busy"),
    "tile (0, 0)": (
        "decode.mesh.tile_0_0.core.running",
        "decode.mesh.tile_0_0.core.pc[15:0]",
        "decode.mesh.tile_0_0.core.pipe.busy",
        "decode.mesh.tile_0_0.core.receiver.busy",
        "decode.mesh.tile_0_0.core.buffers.waiting[9:0]",
    ),
}


def write_save_file(waves: Path) -> Path:
    """Write a save file for GTKWave (which Surfer reads, too) beside a waveform of the system."""
    lines = [f'[dumpfile] "{waves.absolute()}"', "@28"]
    for title, names in _GROUPS.items():
        lines.append(f"-{title}")
        lines += [f"system.{name}" for name in names]
    path = waves.with_suffix(".gtkw")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
