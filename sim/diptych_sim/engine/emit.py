# SPDX-License-Identifier: BSD-2-Clause
"""Emits the Verilog of a component, each distinct module once."""

import gc
import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from amaranth.back import rtlil, verilog  # pyright: ignore[reportAttributeAccessIssue]
from amaranth.hdl import Elaboratable, Format, Fragment
from amaranth.lib import wiring

from diptych.precompiled import Precompiled, collecting, is_inlined
from diptych_sim.cache.fingerprint import fingerprint
from diptych_sim.cache.store import cache_root, cached_text, digest
from diptych_sim.engine.loops import loops_by_cells

__all__ = [
    "Hardware",
    "Source",
    "collection_paused",
    "deep_recursion",
    "emit_verilog",
    "mark_used",
]

Source = tuple[str, str]
"""A file name and its text."""

Hardware = wiring.Component | Callable[[], wiring.Component]
"""A component; or what makes one, a class or a :func:`functools.partial` of it.

Of a class of :data:`PACKAGES` the Verilog is cached, and a component is made only if there is none.
"""

PACKAGES = ("diptych", "diptych_sim.engine.emit")
"""Packages that the Verilog of a class depends on, beside its parameters and versions."""

_MODULE = re.compile(r"^module (\\\S+ |\w+)", re.MULTILINE)


@contextmanager
def deep_recursion() -> Iterator[None]:
    """Let Amaranth walk expressions: a long sum or a wide Cat needs more than 1000 frames."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, 20_000))
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)


@contextmanager
def collection_paused() -> Iterator[None]:
    """Pause garbage collection, which looks at all objects of a growing design again and again."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


def _yosys() -> tuple[str, str]:
    """Return which Yosys is used: its kind and version."""
    # Private, as below, so the version of Amaranth is pinned; it asks for the same.
    find = verilog.find_yosys  # pyright: ignore[reportAttributeAccessIssue]
    found = find(lambda version: version >= (0, 40))
    return found.__name__, repr(found.version())


def _verilog_of(intermediate: str) -> str:
    # Yosys takes longer than everything before it, so its output is cached by content.
    convert = verilog._convert_rtlil_text  # pyright: ignore[reportAttributeAccessIssue]
    path = cache_root() / "verilog" / f"{digest([*_yosys(), intermediate])}.v"
    return cached_text(path, lambda: convert(intermediate, strip_internal_attrs=True))


class _Elaborated(Elaboratable):
    """A component whose state machines tell the names of their states to the Verilog."""

    def __init__(self, component: wiring.Component) -> None:
        self._component = component
        self.signature = component.signature

    def __getattr__(self, name: str) -> Any:
        return getattr(self._component, name)

    def elaborate(self, platform: Any) -> Fragment:
        fragment = Fragment.get(self._component, platform)
        _name_states(fragment)
        return fragment


def _name_states(fragment: Any) -> None:
    for name, machine in fragment.generated.items():
        # Private: Amaranth tells its own simulator only.
        states = {number: state for state, number in machine.encoding.items()}
        machine.state._format = Format.Enum(machine.state, states, name=name)
    for inner, _name, _place in fragment.subfragments:
        _name_states(inner)


def _rtlil_of(component: wiring.Component, name: str) -> str:
    with deep_recursion(), loops_by_cells():
        # emit_src would put absolute paths into the text, and the cache would never hit.
        return rtlil.convert(_Elaborated(component), name=name, emit_src=False)


def emit_verilog(
    hardware: Hardware, name: str, progress: Callable[[str], None] | None = None
) -> list[Source]:
    """Return the Verilog of a component and of the prototypes behind its stand-ins.

    Each :class:`~diptych.precompiled.Precompiled` prototype is emitted once, into a file of its
    own, however deep it is. A module inside another is named after it (``tile.router``), so
    modules of different prototypes do not collide. The text depends on the hardware only: equal
    hardware gives equal bytes.

    The Verilog of a class of :data:`PACKAGES` is cached (:func:`.fingerprint`). A component, and a
    class from elsewhere, is always elaborated.

    Parameters
    ----------
    hardware : Hardware
        The top.
    name : :class:`str`
        Name of the top module; not that of a port of it, and not that of a prototype.
    progress : callable, optional
        Is told if the hardware is elaborated, and how much of it is: the top, then prototypes.

    Returns
    -------
    list of Source
        File names with their texts: prototypes in order of name, then the top.

    Raises
    ------
    ValueError
        If two modules have the same name.
    """

    def emitted() -> list[Source]:
        def done(modules: int, known: int) -> None:
            if progress is not None:
                of = f", {modules} of {known}" if modules else ""
                progress(f"{name}: Amaranth to Verilog{of}")

        with collection_paused():
            component = hardware if isinstance(hardware, wiring.Component) else hardware()
            return _emit(component, name, done, kept=key is not None)

    key = fingerprint(hardware, name, _yosys(), is_inlined(), packages=PACKAGES)
    if key is None:
        return emitted()
    text = cached_text(cache_root() / "verilog" / f"{key}.json", lambda: json.dumps(emitted()))
    return [(file, source) for file, source in json.loads(text)]


def _emit(
    component: wiring.Component, name: str, done: Callable[[int, int], None], *, kept: bool
) -> list[Source]:
    """Return the sources; ``done`` is told how many modules are, and of how many known ones.

    ``kept`` allows prototypes to come from the cache.
    """
    done(0, 1)
    top, waiting = _convert(component, name)
    texts: dict[str, str] = {}
    while waiting:
        done(1 + len(texts), 1 + len(texts) + len(waiting))
        module, stand_in = waiting.popitem()
        if kept and stand_in.made_by is not None:
            mark_used(stand_in.prototype)
            for file, text in emit_verilog(stand_in.made_by, module):
                texts[file.removesuffix(".v")] = text
            continue
        texts[module], inner = _convert(stand_in.prototype, module)
        waiting |= {other: found for other, found in inner.items() if other not in texts}
    if name in texts:
        raise ValueError(f"Top module must not be named as its own prototype {name!r}")
    sources = [(f"{module}.v", texts[module]) for module in sorted(texts)]
    sources.append((f"{name}.v", top))
    owners: dict[str, str] = {}
    for file, text in sources:
        for module in _MODULE.findall(text):
            if owners.setdefault(module, file) != file:
                raise ValueError(
                    f"Module {module.strip()!r} must be in one file, not both {owners[module]!r} "
                    f"and {file!r}"
                )
    return sources


def _convert(component: wiring.Component, name: str) -> tuple[str, dict[str, Precompiled]]:
    with collecting() as stand_ins:
        intermediate = _rtlil_of(component, name)
    return _verilog_of(intermediate), dict(stand_ins)


def mark_used(component: wiring.Component) -> None:
    """Tell Amaranth that a component is used, although it is not elaborated here."""
    vars(component)["_MustUse__used"] = True
    for part in vars(component).values():
        if isinstance(part, wiring.Component) and part is not component:
            mark_used(part)
