"""Models from a folder, from the hub, or the practice model. Safetensors only: loading a pickle runs the code in it."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch

from safetylayers.errors import ModelError, UnsafeWeightsError, UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PRACTICE_MODELS = ("tiny", "tiny-base")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl")
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Loaded(NamedTuple):
    """A model with its tokenizer."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


def load(
    source: str | Path,
    *,
    dtype: str | torch.dtype | None,
    device: str | None,
    revision: str | None,
    trust_remote_code: bool,
) -> Loaded:
    """Load a causal language model and its tokenizer, ready to be read.

    Raises:
        UnsafeWeightsError: its weights are pickled.
        ModelError: it cannot be found or loaded.
        UsageError: there is no such dtype or device.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where = _resolve(source)
    place = _checked(device) if device else _best_device()
    try:
        tokenizer = AutoTokenizer.from_pretrained(where, revision=revision, trust_remote_code=trust_remote_code)
        model = AutoModelForCausalLM.from_pretrained(
            where,
            revision=revision,
            trust_remote_code=trust_remote_code,
            use_safetensors=True,
            dtype=_dtype(dtype, place),
            device_map="auto" if place == "auto" else None,
        )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise ModelError(
            f"{source}: cannot be loaded as a language model: {str(error).splitlines()[0]}",
            mend="Give a transformers folder with safetensors, a hub id that this machine can reach, or 'tiny'.",
        ) from error
    if place != "auto":
        model = model.to(torch.device(place))  # type: ignore[arg-type]  # its stub names no device
    return Loaded(model, tokenizer)


def folder_of(source: str | Path) -> Path | None:
    """Return the folder that a model comes from, or None where it is the hub's."""
    if str(source) in PRACTICE_MODELS:
        return Path(str(files("safetylayers"))) / "tiny" / "weights" / str(source)
    return Path(source) if Path(source).is_dir() else None


def _resolve(source: str | Path) -> str:
    if str(source) in PRACTICE_MODELS:
        folder = folder_of(source)
        if folder is None or not folder.is_dir():
            raise ModelError(
                f"The practice model {str(source)!r} is not part of this installation.",
                mend="Build it: python -m safetylayers.tiny.build",
            )
        return str(folder)
    folder = Path(source)
    if folder.is_dir():
        _refuse_pickles(folder)
    elif folder.is_absolute() or str(source).startswith((".", "~")):
        raise ModelError(f"{source}: no such folder.", mend="Check the path.")
    return str(source)


def _refuse_pickles(folder: Path) -> None:
    if any(folder.glob("*.safetensors")):
        return
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    if pickles:
        raise UnsafeWeightsError(
            f"{folder}: its weights are pickled ({pickles[0]}); loading a pickle runs whatever code is in it.",
            mend="Convert it where you trust it: AutoModelForCausalLM.from_pretrained(...).save_pretrained(FOLDER).",
        )


def _checked(device: str) -> str:
    """Return the device, if there is one of that name. Raises UsageError."""
    if device == "auto":
        return device
    try:
        torch.empty(0, device=torch.device(device))
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError(
            f"There is no device {device!r} here ({str(error).splitlines()[0]}).",
            mend="Use cpu, cuda, cuda:0, mps or auto, or leave --device out.",
        ) from error
    return device


def _best_device() -> str:
    if torch.cuda.is_available():
        if (rank := os.environ.get("LOCAL_RANK")) is not None:  # one of several processes, with a card each
            return f"cuda:{rank}"
        # Several cards, or one that may be too small, are accelerate's business.
        return "auto"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _dtype(asked: str | torch.dtype | None, device: str) -> torch.dtype:
    if isinstance(asked, torch.dtype):
        return asked
    if asked is None:
        # CPUs compute bfloat16 slowly; graphics cards hold twice as large a model in it.
        return torch.float32 if device == "cpu" else torch.bfloat16
    if asked not in _DTYPES:
        raise UsageError(f"There is no dtype {asked!r}.", mend=f"Use one of: {', '.join(_DTYPES)}.")
    return _DTYPES[asked]
