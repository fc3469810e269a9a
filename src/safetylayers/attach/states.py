"""Hidden states of rows at the attached layers, read once and kept on disk, so that heads train without the model.

One partial forward pass a row: the layers above the last attached one are not run. The file's size is known before the
first pass; a run that was interrupted goes on with the next batch. Shapes: N tokens of all rows, S attached layers, H
hidden.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from safetylayers.attach.rows import RowSet
from safetylayers.errors import OutputError
from safetylayers.prompts import Template, render
from safetylayers.prompts.prompt_set import content_hash
from safetylayers.records import ProgressCallback, Record

if TYPE_CHECKING:
    from safetylayers.models import ChatModel

LONGEST = 1024
"""Tokens of a row; what exceeds them is cut off."""
SAVE_EVERY = 20
_LARGEST = 65_504.0
"""Of float16, in which states are kept; the few outliers beyond it are clamped."""


class _Progress(Record):
    """How far a file has been filled."""

    fingerprint: str
    done: int
    """Rows, longest first."""


@dataclass(frozen=True)
class States:
    """Every row's hidden states."""

    values_NSH: NDArray[np.float16]
    starts: tuple[int, ...]
    """Where each row begins among the N tokens; one more, where the last one ends."""
    prompt_lengths: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.prompt_lengths)

    def length(self, row: int) -> int:
        """Return how many tokens a row has."""
        return self.starts[row + 1] - self.starts[row]

    def gather(self, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return the rows' states one after another, float32 [S, tokens, H], and which row each belongs to [tokens]."""
        parts = [np.asarray(self.values_NSH[self.starts[row] : self.starts[row + 1]]) for row in rows]
        joined = torch.from_numpy(np.concatenate(parts)).float().transpose(0, 1).contiguous()
        return joined, torch.arange(len(rows)).repeat_interleave(torch.tensor([len(part) for part in parts]))


def read_states(
    model: ChatModel,
    rows: RowSet,
    layers: Sequence[int],
    template: Template,
    folder: Path,
    progress: ProgressCallback | None = None,
) -> States:
    """Read the rows' states, or what is missing of them.

    Args:
        model: whose states they are.
        rows: requests with or without replies.
        layers: the attached ones, ascending.
        template: how requests are rendered.
        folder: gets `states.bin` and how far it has been filled.
        progress: told after each batch.

    Raises:
        OutputError: the disk cannot hold them.
    """
    asked = model.tokenizer(render([r.prompt for r in rows.rows], model.tokenizer, template), add_special_tokens=False)
    replied = model.tokenizer([row.reply for row in rows.rows], add_special_tokens=False)
    tokens = [(a + b)[:LONGEST] for a, b in zip(asked.input_ids, replied.input_ids, strict=True)]
    starts = tuple(accumulate(map(len, tokens), initial=0))
    shape = (starts[-1], len(layers), model.hidden_size)
    fingerprint = content_hash([[model.weights_hash, str(list(layers))], *[list(map(str, row)) for row in tokens]])
    done = _done(folder, fingerprint, 2 * shape[0] * shape[1] * shape[2])
    values = _open(folder / "states.bin", shape, fresh=done == 0)
    order = sorted(range(len(tokens)), key=lambda row: len(tokens[row]), reverse=True)
    for number, start in enumerate(range(done, len(order), model.batch_size), start=1):
        batch = order[start : start + model.batch_size]
        _fill(values, model, [tokens[row] for row in batch], [starts[row] for row in batch], layers)
        reached = start + len(batch)
        if number % SAVE_EVERY == 0 or reached == len(order):
            values.flush()
            _Progress(fingerprint=fingerprint, done=reached).write(folder / "states.json")
        if progress:
            progress(reached, len(order), "reading hidden states")
    lengths = tuple(min(len(a), LONGEST) for a in asked.input_ids)
    return States(values, starts, lengths)


def _done(folder: Path, fingerprint: str, size: int) -> int:
    path, states = folder / "states.json", folder / "states.bin"
    if not (path.exists() and states.exists() and states.stat().st_size == size):
        return 0
    found = _Progress.read(path)
    return found.done if found.fingerprint == fingerprint else 0


def _open(
    path: Path, shape: tuple[int, int, int], *, fresh: bool
) -> np.memmap[tuple[int, int, int], np.dtype[np.float16]]:
    """Map the file into memory, in its full size."""
    needed = 2 * shape[0] * shape[1] * shape[2]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if fresh:
            # First what says that the states are whole: another run's word must not vouch for this one's.
            path.with_suffix(".json").unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            room = shutil.disk_usage(path.parent).free
            if needed > room:
                raise OutputError(
                    f"{path.parent}: {needed / 2**30:.1f} GiB of hidden states do not fit into {room / 2**30:.1f} GiB.",
                    mend="Free some room, give fewer rows, attach fewer layers, or choose another folder with -o.",
                )
        return np.memmap(path, dtype=np.float16, mode="w+" if fresh else "r+", shape=shape)
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror}).", mend="Choose another folder with -o."
        ) from error


def _fill(
    values: NDArray[np.float16],
    model: ChatModel,
    tokens: Sequence[list[int]],
    starts: Sequence[int],
    layers: Sequence[int],
) -> None:
    batch = model.batch_of(tokens)
    with model.stop_after(layers[-1]), model.capture(layers) as found:
        model.next_token_logits(batch)
    states = (
        torch.stack([found[layer].float().cpu() for layer in layers], dim=2).clamp(-_LARGEST, _LARGEST).half().numpy()
    )
    for row, (start, ids) in enumerate(zip(starts, tokens, strict=True)):
        values[start : start + len(ids)] = states[row, -len(ids) :]
