# SPDX-License-Identifier: BSD-2-Clause
"""Reads the systems of the package, and those of a user's folder beside them."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

import msgspec

from diptych_sim.cost.systems.schema import (
    KINDS,
    STATUSES,
    Field,
    System,
    SystemFile,
    check_file,
)

__all__ = ["SystemFileError", "find_system", "load_systems"]

_ID = re.compile(r"\w[\w. -]{0,63}")


class SystemFileError(ValueError):
    """A file of a system cannot be used, or there is no such system: one line that says why."""


def load_systems(folder: str | None = None) -> dict[str, System]:
    """Return all systems by id: those of the package, then those of ``folder``.

    Raises
    ------
    SystemFileError
        If a file is not what it must be, or two define one name.
    """
    systems: dict[str, System] = {}
    names: dict[str, str] = {}
    for path, text in [*_packaged(), *(_of_folder(Path(folder)) if folder is not None else [])]:
        system = _read(path, text)
        for name in (system.id, *system.aliases):
            key = _key(name)
            if names.setdefault(key, path) != path:
                raise SystemFileError(
                    f"System file {path}: name {name!r} must be that of one system, "
                    f"not also of {names[key]}"
                )
        systems[system.id] = system
    return systems


def find_system(systems: Mapping[str, System], name: str) -> System:
    """Return a system by id, name or alias, whatever its case.

    Raises
    ------
    SystemFileError
        If there is none of that name; the message lists what there is.
    """
    for system in systems.values():
        if _key(name) in map(_key, (system.id, system.name, *system.aliases)):
            return system
    raise SystemFileError(f"System must be one of {', '.join(systems)}, not {name!r:.60}")


def _key(name: str) -> str:
    """Return a name as it is compared: letters and digits of any script, and dots."""
    return re.sub(r"[^\w.]|_", "", name.lower())


def _packaged() -> list[tuple[str, str]]:
    folder = resources.files(__name__.rpartition(".")[0])
    entries = sorted(
        (e for e in folder.iterdir() if e.name.endswith(".toml")), key=lambda e: e.name
    )
    return [(entry.name, entry.read_text(encoding="utf-8")) for entry in entries]


def _of_folder(folder: Path) -> list[tuple[str, str]]:
    if not folder.is_dir():
        what = "a file" if folder.exists() else "missing"
        raise SystemFileError(f"Systems (--systems) must be a folder, not {what}: {folder}")
    paths = sorted(folder.glob("*.toml"))
    if not paths:
        raise SystemFileError(
            f"Systems (--systems) must be a folder with .toml files, not {folder}"
        )
    return [(str(path), _text(path)) for path in paths]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        said = getattr(error, "strerror", None) or "it is not text"
        raise SystemFileError(
            f"System file {path} must be a TOML file that can be read, not: {said}"
        ) from None


def _choices(message: str) -> str:
    """Return a message about a value that is not allowed with those that are; others unchanged."""
    found = re.fullmatch(r"Invalid enum value (.*) - at `.*\.(kind|status)`", message)
    if found is None:
        return message
    value, key = found.groups()
    allowed = {"kind": KINDS, "status": STATUSES}[key]
    return f"{key} must be one of {', '.join(allowed)}, not {value}"


def _bad_field(fields: object) -> str:
    """Return the name of the first field that is none; messages about fields do not have it."""
    for name, field in fields.items() if isinstance(fields, dict) else ():
        try:
            msgspec.convert(field, Field)
        except msgspec.ValidationError:
            return f"{name}: "
    return ""


def _read(path: str, text: str) -> System:
    try:
        read = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SystemFileError(f"System file {path}: {error}") from None
    try:
        file = msgspec.convert(read, SystemFile)
    except msgspec.ValidationError as error:
        where = _bad_field(read.get("fields"))
        raise SystemFileError(f"System file {path}: {where}{_choices(str(error))}") from None
    found = check_file(file)
    name = Path(path).stem
    if found is None and not _ID.fullmatch(name):
        found = (
            "name of the file must be at most 64 letters, digits, dots, dashes and spaces, "
            f"not {name!r:.80}"
        )
    if found is not None:
        raise SystemFileError(f"System file {path}: {found}")
    return System(
        id=name,
        name=file.name,
        kind=file.kind,
        fields=file.fields,
        aliases=file.aliases,
        note=file.note,
        where=path,
    )
