# SPDX-License-Identifier: BSD-2-Clause
"""Model files, tokenizer, quantizer, and the bundled model."""
