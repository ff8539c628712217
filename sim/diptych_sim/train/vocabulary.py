# SPDX-License-Identifier: BSD-2-Clause
"""The bundled model's tokenizer: byte-level BPE, as in Llama 3, but with 512 tokens."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

BOS = "<s>"
EOS = "</s>"
BOS_ID = 0
EOS_ID = 1


def learn(texts: Sequence[str], size: int) -> Tokenizer:
    """Learn a vocabulary of ``size`` tokens: two marks, 256 bytes, and merges of bytes.

    Every byte is a token, so that any text can be encoded.
    """
    tokenizer = Tokenizer(models.BPE())
    # The stubs of tokenizers declare its properties without their setters' types.
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[BOS, EOS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(  # type: ignore
        single=f"{BOS} $A", special_tokens=[(BOS, BOS_ID)]
    )
    return tokenizer
