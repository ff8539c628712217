# SPDX-License-Identifier: BSD-2-Clause
"""Sphinx configuration; ``build.py`` gathers the sources and calls Sphinx with it."""

import inspect
import os
import re
import sys
from pathlib import Path
from typing import Any

SITE = Path(__file__).resolve().parent
sys.path.insert(0, str(SITE))
from port_tables import is_component, port_table

# Testbenches read the sizes of their design when they are imported.
for source in (SITE.parents[1] / "tb").rglob("*.py"):
    for variable in re.findall(r"\bDUT_[A-Z_]+\b", source.read_text("utf-8")):
        os.environ.setdefault(variable, "4")
os.environ |= {"DUT_COLORS": "4", "DUT_POSITIONS": "4", "DUT_HOP": "1"}

project = "Diptych"
author = "Diptych contributors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "index"
html_theme = "furo"
html_title = "Diptych"
html_static_path = ["static"]
html_css_files = ["site.css"]
# Pages open from file://, so nothing may come from a server.
html_theme_options = {"top_of_page_buttons": []}
html_show_sphinx = False
html_copy_source = False

# Docstrings name classes without their module; where two have one name, the text says which.
suppress_warnings = ["ref.python"]

myst_enable_extensions = ["html_image"]
myst_heading_anchors = 3
highlight_language = "none"

autodoc_member_order = "bysource"
autodoc_mock_imports = ["torch"]
autodoc_default_options = {"members": True, "exclude-members": "elaborate"}
add_module_names = False
napoleon_google_docstring = False
napoleon_use_ivar = True


def _docstring(
    _app: Any, what: str, _name: str, value: Any, _options: Any, lines: list[str]
) -> None:
    """Write shapes as code; put the table of ports in the place of a component's Members."""
    lines[:] = [re.sub(r":py:`([^`]*)`", r"``\1``", line) for line in lines]
    if what != "class" or not is_component(value):
        return
    titles = [n for n in range(len(lines) - 1) if lines[n + 1] and not lines[n + 1].strip("-")]
    start = next((n for n in titles if lines[n] == "Members"), len(lines))
    end = next((n for n in titles if n > start), len(lines))
    lines[start:end] = port_table(value)


def _signature(
    _app: Any, what: str, _name: str, value: Any, _options: Any, shown: str, returns: str
) -> tuple[str, str | None]:
    """Give a component the parameters of its ``__init__``, not those of Amaranth's metaclass."""
    if what != "class" or not is_component(value):
        return shown, returns
    signature = inspect.signature(value)
    plain = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    return str(signature.replace(parameters=plain, return_annotation=signature.empty)), None


def setup(app: Any) -> None:
    """Connect the hooks."""
    # Before napoleon, which does not know the section.
    app.connect("autodoc-process-docstring", _docstring, priority=100)
    app.connect("autodoc-process-signature", _signature)
