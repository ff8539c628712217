# SPDX-License-Identifier: BSD-2-Clause
"""A tile that is translated for lanes with a fault."""

from diptych_sim.engine.lanes import mesh, translate
from diptych_sim.engine.lanes.build import compile_design


def translate_with(monkeypatch, step, wrong):
    """Have ``wrong`` done instead of a step of the translation."""

    def compile_instance(hardware, *args, **options):
        return compile_design(hardware(), *args, **options)

    monkeypatch.setattr(translate, step, wrong)
    # The source of a class would come from the build cache.
    monkeypatch.setattr(mesh, "compile_design", compile_instance)
