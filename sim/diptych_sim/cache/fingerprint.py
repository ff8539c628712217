# SPDX-License-Identifier: BSD-2-Clause
"""Tells Python objects, with the code behind them, by a text: what they make is kept under it.

Source files alone do not tell: what runs was read from them earlier, and tests change it in memory.
So functions are told by their bytecode, classes by their members, and the modules that they are in
by all that they hold, as it is now.
"""

from __future__ import annotations

import functools
import re
import sys
import types
import typing
from collections.abc import Iterable
from contextvars import ContextVar
from enum import Enum
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from amaranth.hdl import Elaboratable, Value

import diptych

from .store import digest

__all__ = ["identity"]

OWN = ("diptych", "diptych_sim")
"""Packages that are told by what they hold."""
TRUSTED = ("amaranth", "numpy", "safetensors", "tokenizers")
"""Packages that are told by their version, as Python's own are."""

_PLAIN = (int, float, str, bytes)
_DESCRIPTORS = (
    types.WrapperDescriptorType,
    types.MethodDescriptorType,
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
    types.ClassMethodDescriptorType,
)
_ALIASES = (
    types.GenericAlias,
    types.UnionType,
    *(getattr(typing, name) for name in ("_GenericAlias", "_SpecialForm", "TypeVar")),
)
# What a class holds for Python alone.
_ASIDE = {"__dict__", "__weakref__", "__doc__", "_abc_impl", "__annotations_cache__"}
_ASIDE |= {"__module__", "__firstlineno__", "__static_attributes__"}


class _Item(typing.NamedTuple):
    item: int  # of the class of such descriptors


class _UntoldError(Exception):
    """Something that has no text; the argument says what."""


def identity(*values: object) -> str | None:
    """Return a text for values that differs if they do, or anything that they may call.

    Returns
    -------
    str or None
        A short hash; ``None`` if a value, or code that it reaches, is none of this project: then
        nothing can be said.
    """
    try:
        return digest(_Told(values).parts)
    except _UntoldError:
        return None


class _Told:
    def __init__(self, values: Iterable[object]) -> None:
        self.parts = [sys.version, *map(metadata.version, TRUSTED), *_sources()]
        self._seen: dict[int, int] = {}
        self._held: list[object] = []  # so that no other object gets the address of one
        self._modules: dict[str, None] = {}
        for value in values:
            self._tell(value)
        done = 0
        while done < len(self._modules):
            for name in list(self._modules)[done:]:
                self._tell_module(name)
                done += 1

    def _tell_module(self, name: str) -> None:
        self.parts.append(f"module {name}")
        for key, value in vars(sys.modules[name]).items():
            # Which parts of a package are loaded already says nothing.
            part = isinstance(value, types.ModuleType) and value.__name__ == f"{name}.{key}"
            if not part and not (key.startswith("__") and key.endswith("__")):
                self.parts.append(key)
                self._tell(value)
        self.parts.append("end")

    def _tell(self, value: object) -> None:
        kind = type(value)
        self.parts.append(f"{kind.__module__}.{kind.__qualname__}")
        if (
            value is None
            or value is Ellipsis
            or value is NotImplemented
            or kind is bool
            or kind in _PLAIN
        ):
            self.parts.append(repr(value))
        elif kind in (tuple, frozenset):
            self._tell_items(value)
        elif isinstance(value, types.CodeType):
            self._tell_code(value)
        elif isinstance(value, _ALIASES):
            self.parts.append(repr(value))
        elif id(value) in self._seen:
            self.parts.append(f"again {self._seen[id(value)]}")
        else:
            self._seen[id(value)] = len(self._seen)
            self._held.append(value)
            self._tell_once(value)

    def _tell_once(self, value: Any) -> None:
        if isinstance(value, types.FunctionType):
            self._tell_function(value)
        elif isinstance(value, type):
            self._tell_class(value)
        elif isinstance(value, types.ModuleType):
            self._name(value.__name__)
        elif isinstance(value, (types.BuiltinFunctionType, *_DESCRIPTORS)):
            self.parts.append(value.__qualname__)
        elif isinstance(value, (staticmethod, classmethod, types.MethodType)):
            self._tell(value.__func__)
            self._tell(getattr(value, "__self__", None))
        elif isinstance(value, property):
            self._tell((value.fget, value.fset, value.fdel))
        elif isinstance(value, functools.cached_property):
            self._tell(value.func)
        elif isinstance(value, functools.partial):
            self._tell((value.func, value.args, value.keywords))
        elif isinstance(value, functools._lru_cache_wrapper):
            self._tell(value.__wrapped__)
        elif type(value) is np.ndarray and value.dtype != object:
            self._tell((value.dtype.str, value.shape, value.tobytes()))
        elif isinstance(value, re.Pattern):
            self._tell((value.pattern, value.flags))
        elif isinstance(value, types.MappingProxyType):
            self._tell(dict(value))
        elif isinstance(value, type(_Item.item)):
            self._tell(value.__reduce__()[1])
        elif isinstance(value, ContextVar):
            self._tell((value.name, value.get(None)))
        else:
            self._tell_instance(value)

    def _tell_items(self, value: Any) -> None:
        self.parts.append(str(len(value)))
        if isinstance(value, (set, frozenset)):
            for text in sorted(map(repr, value)):
                self.parts.append(text)
            if not all(type(item) in (*_PLAIN, bool, type(None)) for item in value):
                raise _UntoldError(value)
        elif isinstance(value, dict):
            for key, item in value.items():
                self._tell(key)
                self._tell(item)
        else:
            for item in value:
                self._tell(item)

    def _tell_code(self, code: types.CodeType) -> None:
        # Neither file nor lines: the same code elsewhere is the same.
        self.parts += [code.co_name, code.co_code.hex(), code.co_exceptiontable.hex()]
        self._tell((code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount))
        self._tell((code.co_flags, code.co_names, code.co_varnames))
        self._tell((code.co_freevars, code.co_cellvars, code.co_consts))

    def _tell_function(self, function: types.FunctionType) -> None:
        # A wrapper bears the name of what it wraps, but has its own names from elsewhere.
        home = str(function.__globals__.get("__name__"))
        if home.startswith("namedtuple_"):
            home = "collections"  # which has made it
        if not self._name(home):
            self.parts.append(function.__qualname__)
            if function.__closure__ is None and _found(home, function):
                return
        self._tell(function.__code__)
        self._tell((function.__defaults__, function.__kwdefaults__))
        for cell in function.__closure__ or ():
            try:
                self._tell(cell.cell_contents)
            except ValueError:
                self.parts.append("empty")

    def _tell_class(self, cls: type) -> None:
        self.parts.append(cls.__qualname__)
        if not self._name(cls.__module__):
            if _in_python(cls) and not _found(cls.__module__, cls):
                raise _UntoldError(cls)
            return
        self._tell(cls.__bases__)
        for name, member in vars(cls).items():
            if name not in _ASIDE:
                self.parts.append(name)
                self._tell(member)
        self.parts.append("end")

    def _tell_instance(self, value: Any) -> None:
        if isinstance(value, (Elaboratable, Value)):
            raise _UntoldError(value)  # changes as it is used
        kind = type(value)
        self._tell(kind)
        if isinstance(value, Enum):
            self.parts.append(value.name)
            return
        # The state of what is not written in Python cannot be seen.
        basis = next(base for base in kind.__mro__ if not _in_python(base))
        if basis in _PLAIN:
            self.parts.append(basis.__repr__(value))
        elif basis in (tuple, list, dict, set):
            self._tell_items(value)
        elif basis is not object:
            raise _UntoldError(value)
        self._tell(getattr(value, "__dict__", None))
        for base in kind.__mro__:
            slots = vars(base).get("__slots__", ())
            for name in (slots,) if isinstance(slots, str) else slots:
                self.parts.append(name)
                self._tell(getattr(value, name, None))

    def _name(self, module: str) -> bool:
        """Tell the name of a module, and return whether it is to be told by what it holds."""
        self.parts.append(module)
        root = module.split(".")[0]
        if root in OWN:
            if module not in sys.modules:
                raise _UntoldError(module)
            self._modules[module] = None
            return True
        if root not in TRUSTED and root not in sys.stdlib_module_names:
            raise _UntoldError(module)
        return False


def _in_python(cls: type) -> bool:
    """Return whether a class can be changed, or was made by a class statement."""
    return bool(cls.__flags__ & 1 << 9)  # Py_TPFLAGS_HEAPTYPE


def _found(module: str, value: Any) -> bool:
    """Return whether a function or class is the one that its module has under its name."""
    found: Any = sys.modules.get(module)
    for name in value.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is value


@cache
def _folders() -> list[Path]:
    return [Path(__file__).parent, *map(Path, diptych.__path__)]


def _sources() -> list[str]:
    """Return the sources of the hardware and of the engine: in case that something is told too little."""
    files = [path for folder in _folders() for path in sorted(folder.rglob("*.py"))]
    return [text for path in files for text in (path.name, path.read_text())]
