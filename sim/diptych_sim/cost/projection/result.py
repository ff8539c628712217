# SPDX-License-Identifier: BSD-2-Clause
"""Projections as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diptych_sim.cost.projection.job import Job, Phase
from diptych_sim.cost.projection.parameters import OF_KIND, OWN, Parameters
from diptych_sim.cost.projection.project import Projection
from diptych_sim.cost.projection.roof import phase_roof
from diptych_sim.cost.projection.split import Split
from diptych_sim.cost.systems.schema import FIELDS, System

__all__ = [
    "is_calibrated",
    "job_json",
    "projection_json",
    "ratios_json",
    "request_ms",
    "split_json",
    "unpublished_json",
]


def is_calibrated(system: System, p: Parameters) -> bool:
    """Return whether measurements of a system took part in the fit."""
    return system.kind in OWN and system.id in p.own


def job_json(job: Job) -> dict[str, Any]:
    """Return a job."""
    model = job.model
    return {
        "model": {
            "name": model.name,
            "layers": model.layers,
            "parameters": model.parameters,
            "macs_per_token": model.token_macs,
            "kv_bytes_per_position": model.kv_bytes(job.form, 1),
        },
        "dtype": job.dtype,
        "batch": job.batch,
        "prompt_tokens": job.prompt_tokens,
        "tokens": job.tokens,
    }


def _phase(done: Projection, phase: Phase, *, decode: bool) -> dict[str, Any]:
    roof = phase_roof(done.system, done.job, done.chips, phase, decode=decode)
    return {
        "seconds": phase.seconds,
        "cycles": phase.cycles,
        "bytes": phase.bytes,
        "flops": phase.flops,
        "bound": phase.bound,
        "seconds_by_part": {
            "bandwidth": phase.bandwidth,
            "arithmetic": phase.arithmetic,
            "latency": phase.latency,
        },
        "roofline": {
            "flops_per_byte": roof.intensity,
            "peak_flops": roof.peak_flops,
            "peak_bytes": roof.peak_bytes,
            "roof_flops": roof.roof_flops,
            "reached_flops": roof.reached_flops,
        },
    }


def projection_json(done: Projection, p: Parameters) -> dict[str, Any]:
    """Return a projection; ``tokens_per_second_user`` is that of one request in decode."""
    system, job = done.system, done.job
    return {
        "system": system.id,
        "name": system.name,
        "published": True,
        "calibrated": is_calibrated(system, p),
        "dtype": job.dtype,
        "chips": done.chips,
        "fits": done.fits,
        "ttft_ms": 1e3 * done.ttft,
        "tpot_ms": 1e3 * done.tpot,
        "tokens_per_second_user": done.user_rate,
        "tokens_per_second": done.total_rate,
        "bytes_per_token": done.decode.bytes / job.batch,
        "joules_per_token": done.joules,
        "prefill": _phase(done, done.prefill, decode=False),
        "decode": _phase(done, done.decode, decode=True),
        "parameters": {name: p.of(system.id, name) for name in OF_KIND[system.kind]},
        "unknown": [name for name in system.fields if system.get(name) is None],
        "fields": {
            name: {
                "value": field.value,
                "unit": FIELDS[name].unit,
                "status": field.status,
                "source": field.source,
            }
            for name, field in system.fields.items()
        },
    }


def ratios_json(row: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Return how many times the figures of another row those of a row are; more is better."""
    joules = row["joules_per_token"], other["joules_per_token"]
    return {
        "tokens_per_second_user": row["tokens_per_second_user"] / other["tokens_per_second_user"],
        "tokens_per_second": row["tokens_per_second"] / other["tokens_per_second"],
        "tokens_per_joule": None if None in joules else joules[1] / joules[0],
    }


def unpublished_json(system: System) -> dict[str, Any]:
    """Return the row of a system of which nothing is published."""
    return {
        "system": system.id,
        "name": system.name,
        "published": False,
        "calibrated": False,
        "reason": system.note or f"nobody publishes {', '.join(system.missing)}",
    }


def request_ms(done: Split) -> dict[str, float]:
    """Return milliseconds of a whole request: on each system alone, and split."""

    def alone(one: Projection) -> float:
        return one.ttft + max(0, one.job.tokens - 1) * one.tpot

    return {
        "prefill_system_alone": 1e3 * alone(done.prefill),
        "decode_system_alone": 1e3 * alone(done.decode),
        "split_serial": 1e3 * done.request(done.serial),
        "split_layer_wise": 1e3 * done.request(done.layer_wise),
    }


def split_json(done: Split, p: Parameters) -> dict[str, Any]:
    """Return a split beside each of its systems alone."""
    return {
        "prefill": done.prefill.system.id,
        "decode": done.decode.system.id,
        "calibrated": all(is_calibrated(one.system, p) for one in (done.prefill, done.decode)),
        "prefill_chips": done.prefill.chips,
        "decode_chips": done.decode.chips,
        "link_gbps": done.link_gbps,
        "kv_bytes": done.kv_bytes,
        "ttft_ms": 1e3 * done.prefill.ttft,
        "tpot_ms": 1e3 * done.decode.tpot,
        "handoff_ms": {"serial": 1e3 * done.serial, "layer_wise": 1e3 * done.layer_wise},
        "request_ms": request_ms(done),
        "prefill_systems_per_decode_system": done.prefill_per_decode,
    }
