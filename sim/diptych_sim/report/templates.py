# SPDX-License-Identifier: BSD-2-Clause
"""The files of this package that pages are made from: templates, style and script."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from typing import Any

import jinja2

__all__ = ["file_text", "page_template"]


def file_text(name: str) -> str:
    """Return the text of a file of this package."""
    return resources.files("diptych_sim.report").joinpath(name).read_text(encoding="utf-8")


def page_template(name: str, **filters: Callable[..., Any]) -> jinja2.Template:
    """Return a template of this package; values that it does not know are an error."""
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(file_text),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= filters
    return environment.get_template(name)
