# SPDX-License-Identifier: BSD-2-Clause
"""Save files of waveform viewers: the signals to look at first, grouped as the machine is."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pywellen import Waveform  # pyright: ignore[reportAttributeAccessIssue]

from .wave_blocks import Block

__all__ = ["write_save_files"]


@dataclass(frozen=True)
class _Signal:
    scope: tuple[str, ...]
    name: str
    bits: int
    named: bool

    @property
    def full(self) -> str:
        return ".".join((*self.scope, self.name))


_Groups = list[tuple[str, list[_Signal]]]


def write_save_files(waves: Path, blocks: Sequence[Block]) -> tuple[Path, Path]:
    """Write save files for GTKWave and Surfer beside a waveform.

    They name only what the waveform holds.

    Parameters
    ----------
    waves : Path
        The waveform: FST or VCD.
    blocks : sequence of Block
        What to show of it.

    Returns
    -------
    tuple of Path
        ``<name>.gtkw`` and ``<name>.surf.ron``.
    """
    signals = _signals(waves)
    groups: _Groups = []
    for title, names in dict(group for block in blocks for group in block.groups).items():
        found = [signals[name] for pattern in names for name in _matches(pattern, signals)]
        if found:
            groups.append((title, found))
    paths = waves.with_suffix(".gtkw"), waves.with_suffix(".surf.ron")
    for path, text in zip(paths, (_gtkwave(waves, groups), _surfer(waves, groups)), strict=True):
        path.write_text(text, encoding="utf-8")
    return paths


def _signals(waves: Path) -> dict[str, _Signal]:
    signals = {}
    for var in Waveform(str(waves)).all_vars():
        scope = var.full_name.removesuffix(f".{var.name}").split(".")
        named = var.enum_type is not None
        signals.setdefault(
            var.full_name,
            _Signal(tuple(scope), var.name, var.length or 1, named),
        )
    return signals


def _matches(pattern: str, signals: dict[str, _Signal]) -> list[str]:
    if "*" not in pattern:
        return [pattern] if pattern in signals else []
    return sorted(fnmatch.filter(signals, pattern), key=lambda name: (len(name), name))


def _gtkwave(waves: Path, groups: _Groups) -> str:
    lines = [f'[dumpfile] "{waves.absolute()}"']
    for title, signals in groups:
        lines += ["@800200", f"-{title}"]  # a group opens
        for signal in signals:
            flags = 0x22 if signal.bits > 1 else 0x28  # hexadecimal, or binary
            if signal.named:
                flags = 0x1_0000_0028  # GTKWave finds names of states by their binary codes
            lines += [f"@{flags:x}", signal.full + f"[{signal.bits - 1}:0]" * (signal.bits > 1)]
        lines += ["@1000200", f"-{title}"]
    return "\n".join(lines) + "\n"


# The fields of Surfer's state that have no default; as in Surfer 0.7.
_UNSET = (
    *("hierarchy", "menu", "ticks", "toolbar", "tooltip", "scope_tooltip", "default_timeline"),
    *("overview", "statusbar", "variable_indices", "variable_direction", "empty_scopes"),
    *("hierarchy_icons", "parameters_in_scopes"),
)
_HIDDEN = (
    *("about", "keys", "gestures", "quick_start", "license", "performance", "logs"),
    *("cursor_window", "url_entry"),
)
_DATA = {
    "cursor": "None",
    "markers": "{}",
    "annotation_groups": "[]",
    "annotation_list_visible": "false",
    "last_active_viewport_idx": "0",
    "focused_item": "None",
    "focused_transaction": "(None, None)",
    "default_variable_name_type": "Local",
    "scroll_offset": "0.0",
    "display_variable_indices": "false",
    "graphics": "{}",
}
_FILTER = (
    '(name_filter_type: Contain, name_filter_str: "", name_filter_case_insensitive: true, '
    "include_inputs: true, include_outputs: true, include_inouts: true, include_others: true, "
    "group_by_direction: false)"
)
_STATE = {
    "align_names_right": "None",
    "drag_started": "false",
    "drag_source_idx": "None",
    "drag_target_idx": "None",
    "previous_waves": "None",
    "count": "None",
    "blacklisted_translators": "[]",
    "wanted_timeunit": "NanoSeconds",
    "time_string_format": "None",
    "variable_name_filter_focused": "false",
    "variable_filter": _FILTER,
    "sidepanel_width": "None",
    "ui_zoom_factor": "None",
}


def _surfer(waves: Path, groups: _Groups) -> str:
    tree: list[str] = []
    shown: list[str] = []

    def place(level: int, item: str) -> None:
        number = len(tree) + 1
        tree.append(f"(item_ref: ({number}), level: {level}, unfolded: true, selected: false)")
        shown.append(f"({number}): {item}")

    for title, signals in groups:
        place(
            0,
            f"Group((name: {_string(title)}, color: None, background_color: None, content: [], "
            "is_open: true))",
        )
        for signal in signals:
            scope = ", ".join(_string(part) for part in signal.scope)
            # Surfer finds signals by their names; the numbers are those of the file it saved.
            place(
                1,
                f"Variable((variable_ref: (path: (strs: [{scope}], id: Wellen((1))), "
                f"name: {_string(signal.name)}, id: Wellen((1)), index: None), color: None, "
                f"background_color: None, display_name: {_string(signal.name)}, "
                "display_name_type: Local, manual_name: None, format: None, field_formats: [], "
                "height_scaling_factor: None, analog: None))",
            )
    edges = "curr_{0}: ({1}), target_{0}: ({1}), move_start_{0}: ({1})"
    view = (
        f"({edges.format('left', '0.0')}, {edges.format('right', '1.0')}, "
        "move_duration: None, move_strategy: Instant)"
    )
    data = {
        "source": f"File({_string(str(waves.absolute()))})",
        "format": "Vcd" if waves.suffix == ".vcd" else "Fst",
        "active_scope": "None",
        "items_tree": f"(items: [{', '.join(tree)}])",
        "displayed_items": f"{{{', '.join(shown)}}}",
        "display_item_ref_counter": str(len(tree) + 1),
        "viewports": f"[{view}]",
        **_DATA,
    }
    state = {
        **{f"show_{name}": "None" for name in _UNSET},
        "waves": f"Some({_struct(data)})",
        **{f"show_{name}": "false" for name in _HIDDEN},
        **_STATE,
    }
    return _struct(state, separator=",\n    ") + "\n"


def _struct(fields: dict[str, str], separator: str = ", ") -> str:
    return f"({separator.join(f'{name}: {value}' for name, value in fields.items())})"


def _string(text: str) -> str:
    return json.dumps(text)  # the same escapes as RON's
