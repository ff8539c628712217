# SPDX-License-Identifier: BSD-2-Clause
"""What can be wrong with a model file."""

__all__ = ["ModelFileError"]


class ModelFileError(ValueError):
    """A model file cannot be used; the message is one line that names it and says why."""
