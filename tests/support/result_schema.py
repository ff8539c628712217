# SPDX-License-Identifier: BSD-2-Clause
"""Validates results by the schema that is published with the package."""

import json
from importlib import resources

import jsonschema

__all__ = ["valid"]

SCHEMA = json.loads(
    resources.files("diptych_sim.report").joinpath("result.schema.json").read_text()
)


def valid(value, kind):
    """Validate the result of a command: ``$defs`` has the kinds."""
    schema = SCHEMA | {"$ref": f"#/$defs/{kind}"}
    jsonschema.Draft202012Validator(schema).validate(value)
