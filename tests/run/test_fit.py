# SPDX-License-Identifier: BSD-2-Clause
"""What a model takes is what the compilers place.

Mutations that were tried by hand, each seen to fail: a layer's part counted once; contexts as wide
as queries; the longest context one off.
"""

import json
from dataclasses import replace

import pytest

from diptych_sim.compiler.array.hbm_layout import model_image, model_sizes
from diptych_sim.compiler.decode.place import place
from diptych_sim.compiler.decode.placement import MeshTooSmallError, UnsupportedModelError
from diptych_sim.llm.model import ModelConfig
from diptych_sim.run.fit import fit
from support.command import command
from support.random_model import TINY, random_model

SHAPES = [
    TINY,
    ModelConfig(dim=72, hidden=100, layers=3, heads=9, kv_heads=3, vocab=77, context=40),
    ModelConfig(
        dim=40, hidden=24, layers=1, heads=4, kv_heads=2, vocab=50, context=33, head_width=16
    ),
]


@pytest.mark.parametrize("array", [(4, 4), (8, 16), (16, 8)])
@pytest.mark.parametrize("config", SHAPES)
@pytest.mark.parametrize("one_copy", [False, True])
def test_sizes_of_the_hbm_are_those_of_its_image(monkeypatch, config, array, one_copy):
    if one_copy:
        monkeypatch.setattr("diptych_sim.golden.quantized.ONE_COPY", 1)
    image, _ = model_image(random_model(config, 1, one_copy=one_copy), array=array)
    sizes = model_sizes(config, array)
    layers = sizes.pop("layers")
    assert sizes == {name: image.size[name] for name in sizes}
    assert layers == sum(-(-image.size[f"layer{i}"] // 64) * 64 for i in range(config.layers))


@pytest.mark.parametrize("config", SHAPES)
def test_the_limits_are_those_of_placement(config):
    sram = 6144
    found = fit(config, (3, 2), (8, 8), positions=20, sram_bytes=sram)
    assert sum(found.tile_parts.values()) == found.tile_bytes
    here = place(config, 3, 2, positions=20, sram_bytes=65536)
    caches = sum(here.layer[name].size for name in ("keys", "values"))
    assert found.tile_parts["kv_cache"] == config.layers * caches
    assert found.tile_parts["rope"] == here.fixed["rope_table"].size
    side = found.smallest_mesh
    assert side is not None
    place(config, side, side, positions=20, sram_bytes=sram)
    with pytest.raises(MeshTooSmallError):
        place(
            config, side - 1 or 1, side - 1 or 1, positions=20, sram_bytes=sram if side > 1 else 8
        )
    longest = found.longest_context
    if longest:
        place(config, 3, 2, positions=longest, sram_bytes=sram)
    if longest < config.context:
        with pytest.raises(MeshTooSmallError):
            place(config, 3, 2, positions=longest + 1, sram_bytes=sram)


def test_heads_that_the_panels_do_not_run_do_not_fit():
    odd = replace(TINY, head_width=12)
    with pytest.raises(
        UnsupportedModelError, match=r"^Head dimension must be a multiple of 8, not 12$"
    ):
        fit(odd, (3, 2), (8, 8), positions=20, sram_bytes=6144)


def test_the_command_says_what_fits(capsys, monkeypatch):
    status, out, _ = command(capsys, monkeypatch, "fit", "--json", "-")
    result = json.loads(out)
    assert (status, result["fits"], result["config"]["model"]) == (0, True, "builtin")
    assert result["longest_context"] >= 64
    status, out, _ = command(capsys, monkeypatch, "fit", "--mesh", "1x1")
    assert (status, "DOES NOT FIT" in out) == (1, True)
    for more, words in (
        (["--positions", "9999"], "context of 512, not 9999"),
        (["--sram-bytes", "100"], "multiple of 256"),
    ):
        status, out, err = command(capsys, monkeypatch, "fit", *more)
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert words in err
