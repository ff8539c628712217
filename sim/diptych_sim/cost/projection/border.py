# SPDX-License-Identifier: BSD-2-Clause
"""Where splitting wins and where it loses, by lengths of prompts and answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from diptych_sim.cost.projection.job import Job
from diptych_sim.cost.projection.parameters import Parameters
from diptych_sim.cost.projection.result import request_ms
from diptych_sim.cost.projection.split import Split, split

__all__ = ["PROMPTS", "TOKENS", "border"]

PROMPTS = tuple(2**power for power in range(5, 16))
"""Tokens of prompts of the border: 32 to 32,768."""
TOKENS = (16, 64, 256, 1024, 4096)
"""Tokens of answers."""


def border(done: Split, job: Job, p: Parameters) -> list[dict[str, Any]]:
    """Return which way is fastest for a whole request, at each length of prompt and answer.

    Systems, chips and link are those of ``done``. ``best`` is a key of ``request_ms``, of a way whose
    memory holds the request, or None.
    """
    found = []
    for tokens in TOKENS:
        for prompt in PROMPTS:
            other = split(
                done.prefill.system,
                done.decode.system,
                replace(job, prompt_tokens=prompt, tokens=tokens),
                p,
                prefill_chips=done.prefill.chips,
                decode_chips=done.decode.chips,
                link_gbps=done.link_gbps,
            )
            times = request_ms(other)
            # Serial hand-off is never faster than by layer.
            times.pop("split_serial")
            fits = dict(
                zip(times, (other.prefill.fits, other.decode.fits, other.fits), strict=True)
            )
            held = [way for way in times if fits[way]]
            found.append(
                {
                    "prompt_tokens": prompt,
                    "tokens": tokens,
                    "best": min(held, key=times.__getitem__, default=None),
                    "request_ms": times,
                }
            )
    return found
