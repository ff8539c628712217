# SPDX-License-Identifier: BSD-2-Clause
"""Program of the process in which a ``tokenizer.json`` runs, as :mod:`.tokenizer_process` starts it.

It answers lines of JSON with lines of JSON: ``[seconds, source]`` reads a tokenizer, ``[seconds, text,
marks, added]`` encodes a text. What takes more seconds of the processor, or more memory, ends it.
"""

import json
import resource
import sys
from typing import Any

import tokenizers

__all__: list[str] = []


def _load(source: str) -> tuple[tokenizers.Tokenizer, Any]:
    tokenizer = tokenizers.Tokenizer.from_str(source)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    added = tokenizer.get_added_tokens_decoder().items()
    return tokenizer, [
        tokenizer.get_vocab(with_added_tokens=True),
        [(number, token.content, token.special) for number, token in added],
    ]


def _encode(tokenizer: tokenizers.Tokenizer, text: str, marks: bool, added: bool) -> Any:
    tokenizer.encode_special_tokens = not marks
    found = tokenizer.encode(text, add_special_tokens=added)
    return found.ids, found.offsets, found.special_tokens_mask


def _main() -> None:
    memory = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    tokenizer: Any = None
    for line in sys.stdin:
        seconds, *request = json.loads(line)
        used = resource.getrusage(resource.RUSAGE_SELF)
        limit = int(used.ru_utime + used.ru_stime) + seconds
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
        try:
            if len(request) == 1:
                tokenizer, answer = _load(*request)
            else:
                answer = _encode(tokenizer, *request)
            kind = "answer"
        except MemoryError:
            sys.exit(1)
        except BaseException as error:  # noqa: BLE001  a panic of the library is no Exception
            kind, answer = "error", str(error)
        print(json.dumps([kind, answer]), flush=True)


if __name__ == "__main__":
    _main()
