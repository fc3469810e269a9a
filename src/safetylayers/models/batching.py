"""Work through many sequences in batches, halving the batch when memory runs out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from safetylayers.errors import ModelError
from safetylayers.records import ProgressCallback

Result = TypeVar("Result")


def run_batched(
    lengths: Sequence[int],
    batch_size: int,
    work: Callable[[list[int]], Sequence[Result]],
    *,
    what: str,
    progress: ProgressCallback | None = None,
) -> list[Result]:
    """Call `work` with indices of items of like length; return its results in the items' own order.

    Args:
        lengths: of each item, in tokens.
        batch_size: at most so many items at once.
        work: takes indices, returns one result for each.
        what: the name of the work, for `progress`.
        progress: told after each batch.

    Raises:
        ModelError: memory runs out with a single item.
    """
    order = sorted(range(len(lengths)), key=lambda index: lengths[index], reverse=True)
    results: dict[int, Result] = {}
    done = 0
    while done < len(order):
        indices = order[done : done + batch_size]
        try:
            results.update(zip(indices, work(indices), strict=True))
        except (torch.OutOfMemoryError, RuntimeError, MemoryError) as error:
            if not _out_of_memory(error):
                raise
            if batch_size == 1:
                raise ModelError(
                    f"Out of memory with a single sequence of {lengths[indices[0]]} tokens.",
                    mend="Use shorter prompts, a smaller dtype (--dtype bfloat16) or a larger machine.",
                ) from error
            batch_size = max(1, batch_size // 2)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            continue
        done += len(indices)
        if progress:
            progress(done, len(order), what)
    return [results[index] for index in range(len(lengths))]


def _out_of_memory(error: BaseException) -> bool:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return "out of memory" in str(error).lower() or "can't allocate memory" in str(error).lower()
