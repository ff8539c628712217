# SPDX-License-Identifier: BSD-2-Clause
"""Finds and reads a model, whatever its format."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from diptych_sim.llm import gguf_file, hf, llama2c
from diptych_sim.llm.errors import ModelFileError, file_start
from diptych_sim.llm.model import Model
from diptych_sim.llm.named import NAMED, fetch
from diptych_sim.llm.safetensors_files import WEIGHTS
from diptych_sim.llm.tokenizer import Tokenizer

__all__ = ["BUILTIN", "BUILTIN_FOLDER", "LoadedModel", "load_model"]

BUILTIN = "builtin"
"""Name of the bundled model."""
BUILTIN_FOLDER = Path(__file__).parent / "builtin"
"""Where the bundled model's files are."""
_NAMES = ", ".join(map(repr, (BUILTIN, *NAMED)))


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A model that can read and write text."""

    model: Model
    tokenizer: Tokenizer
    source: Path
    """The file or folder that it was read from."""
    chat_template: str | None = None
    """Jinja template of its chats."""
    named_marks: Mapping[str, str] | None = None
    """Texts of marks by the names that the template may use; None for those of the tokenizer."""

    def weight(self, layer: int | None, name: str) -> str:
        """Return file and name of a weight of :class:`.Model`, or of a layer, as its format has it."""
        if self.source.is_dir():
            full = hf.OUTSIDE[name] if layer is None else hf.layer_names(layer)[name]
            return f"Model file {self.source / WEIGHTS}: {full}"
        if gguf_file.is_gguf(self.source):
            full = gguf_file.OUTSIDE[name] if layer is None else gguf_file.layer_names(layer)[name]
            return f"Model file {self.source}: {full}"
        place = "" if layer is None else f" of layer {layer}"
        return f"Model file {self.source}: {name}{place}"

    @property
    def is_builtin(self) -> bool:
        """Whether this is the bundled model."""
        return self.source == BUILTIN_FOLDER


def load_model(
    spec: str, *, tokenizer: str | None = None, tell: Callable[[str], None] = lambda line: None
) -> LoadedModel:
    """Read the model ``spec``.

    Parameters
    ----------
    spec : str
        ``"builtin"``; or a name of :data:`.NAMED`; or the path of a GGUF file, or of a llama2.c file; or of a folder with
        ``config.json``, ``model.safetensors`` and ``tokenizer.json``.
    tokenizer : str, optional
        Path of a llama2.c file's tokenizer; without it, ``tok<vocabulary>.bin`` or
        ``tokenizer.bin`` beside the model.
    tell : callable, optional
        Is told a line if the model has to be fetched.

    Raises
    ------
    ModelFileError
        If the model cannot be used; one line that says why.
    """
    if spec == BUILTIN:
        source = BUILTIN_FOLDER
    elif spec in NAMED:
        source = fetch(spec, tell)
    elif not spec or "\0" in spec:
        raise ModelFileError(f"Model must be {_NAMES}, a file or a folder, not {spec!r}")
    else:
        source = Path(spec)
    try:
        present, is_folder = source.exists(), source.is_dir()
    except OSError as error:
        raise ModelFileError(
            f"Model {spec} must be {_NAMES}, a file or a folder, not: {error.strerror}"
        ) from error
    if not present:
        raise ModelFileError(f"Model {spec} must be {_NAMES}, a file or a folder, not missing")
    if is_folder:
        if tokenizer is not None:
            raise ModelFileError(
                f"Tokenizer {tokenizer} must be left out for a folder: "
                f"it is {source / 'tokenizer.json'}"
            )
        model, vocabulary = hf.load_folder(source, name=BUILTIN if spec == BUILTIN else None)
        return LoadedModel(
            model=model,
            tokenizer=vocabulary,
            source=source,
            chat_template=hf.chat_template(source),
            named_marks=hf.named_marks(source),
        )
    if gguf_file.is_gguf(source):
        if tokenizer is not None:
            raise ModelFileError(
                f"Tokenizer {tokenizer} must be left out for a GGUF file: it is in it"
            )
        model, vocabulary, template = gguf_file.load_gguf(source)
        return LoadedModel(model=model, tokenizer=vocabulary, source=source, chat_template=template)
    _refuse_foreign(source, spec)
    if tokenizer == "":
        raise ModelFileError("Tokenizer must be a file, not ''")
    model = llama2c.load_model_file(source)
    vocab = model.config.vocab
    path = Path(tokenizer) if tokenizer is not None else llama2c.find_tokenizer(source, vocab)
    return LoadedModel(
        model=model, tokenizer=llama2c.load_tokenizer_file(path, vocab), source=source
    )


def _refuse_foreign(path: Path, spec: str) -> None:
    """Say what a file is that is none of ours."""
    start = file_start(path)
    if (
        path.suffix in (".pt", ".pth", ".pkl", ".ckpt")
        or start[:1] == b"\x80"
        or start == b"PK\3\4"
    ):
        what = "a pickle, which may run code"
    elif path.suffix in (".safetensors", ".json"):
        what = f"a {path.suffix} file"
    else:
        return
    raise ModelFileError(
        f"Model file {spec} must be a llama2.c file, a GGUF file, or the folder of a safetensors "
        f"file, not {what}"
    )
