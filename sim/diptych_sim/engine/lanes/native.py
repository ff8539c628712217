# SPDX-License-Identifier: BSD-2-Clause
"""Types of the driver, which is C++."""

from __future__ import annotations

import ctypes
from typing import NoReturn

from .build import Code

__all__ = ["EXCHANGE", "Closed", "Field", "Link", "NativeWord", "with_prototypes"]

EXCHANGE = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_long, ctypes.c_long)
"""Type of the driver's callback that exchanges borders with other processes."""


class NativeWord(ctypes.Structure):
    """As :class:`.Word`."""

    _fields_ = (
        ("cycle", ctypes.c_long),
        *((name, ctypes.c_uint32) for name in ("row", "color", "data", "control")),
    )


class Field(ctypes.Structure):
    """An element, and which bits of a whole it holds."""

    _fields_ = tuple((name, ctypes.c_long) for name in ("offset", "size", "low", "width"))


class Link(ctypes.Structure):
    """Bits of an element that become bits of another one."""

    _fields_ = tuple(
        (name, ctypes.c_long)
        for name in (
            "from_",
            "from_size",
            "from_low",
            "to",
            "to_size",
            "to_low",
            "width",
            "output",
            "input",
        )
    )


class Closed:
    """Stands for the driver of a mesh that is freed: to call it would end the process."""

    def __getattr__(self, name: str) -> NoReturn:
        raise ValueError("Mesh must not be closed yet")


def with_prototypes(driver: ctypes.CDLL) -> ctypes.CDLL:
    """Return the driver, with the types of what is called in it."""
    c = ctypes
    fields = c.POINTER(Field)
    for name, result, arguments in (
        ("mesh_create", c.c_void_p, (*[c.c_long] * 4, c.POINTER(Code), c.POINTER(Code))),
        ("mesh_destroy", None, (c.c_void_p,)),
        ("mesh_tiles", c.c_void_p, (c.c_void_p,)),
        ("mesh_ports", c.c_void_p, (c.c_void_p,)),
        ("mesh_cycle", c.c_long, (c.c_void_p,)),
        ("mesh_arrived", c.c_long, (c.c_void_p,)),
        ("mesh_words", c.POINTER(NativeWord), (c.c_void_p,)),
        ("mesh_failed", c.c_long, (c.c_void_p, *[c.POINTER(c.c_long)] * 3)),
        ("mesh_place", None, (c.c_void_p, c.c_long, c.c_long, EXCHANGE)),
        ("mesh_border", c.c_long, (c.c_void_p, c.c_long, c.c_long, c.c_void_p, c.c_void_p)),
        ("mesh_wire", None, (c.c_void_p, *[c.c_long] * 7)),
        ("mesh_link", None, (c.c_void_p, c.c_int, c.POINTER(Link))),
        (
            "mesh_host",
            None,
            (c.c_void_p, *[c.c_long] * 4, fields, c.c_long, c.c_long, fields, c.c_long),
        ),
        ("mesh_feed", None, (c.c_void_p, c.c_long, c.POINTER(c.c_uint32), c.c_long)),
        ("mesh_fed", c.c_long, (c.c_void_p, c.c_long)),
        ("mesh_resume", None, (c.c_void_p, c.c_long)),
        ("mesh_settle", None, (c.c_void_p,)),
        ("mesh_stir", None, (c.c_void_p,)),
        ("mesh_touch", None, (c.c_void_p,)),
        ("mesh_skip", None, (c.c_void_p, c.c_int)),
        ("mesh_edge", None, (c.c_void_p, c.c_long, c.c_long, c.c_long, fields)),
        ("mesh_reset", None, (c.c_void_p, c.c_long)),
        ("mesh_forget", None, (c.c_void_p,)),
        ("mesh_run", c.c_long, (c.c_void_p, *[c.c_long] * 4, c.c_int)),
    ):
        function = getattr(driver, name)
        function.restype = result
        function.argtypes = arguments
    return driver
