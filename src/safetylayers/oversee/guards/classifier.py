"""Any sequence classifier in the transformers format, on this machine.

What it sees: a request in parts of `request` characters, a reply in windows of `every` characters with what came
before, without the conversation; a window longer than the classifier can read is read in overlapping parts, none of it
cut off. What it holds back: what has not come to a whole window. What gets past it: what the classifier was not trained
to know, and harm that no single window shows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pydantic import Field

from safetylayers.errors import GuardError, UnsafeWeightsError
from safetylayers.oversee.guards.base import Finding, Passage, Verdict
from safetylayers.oversee.guards.threads import ModelThread
from safetylayers.oversee.guards.windows import WindowSettings, windows

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_BATCH = 16


class ClassifierSettings(WindowSettings):
    """Settings of a `ClassifierGuard`."""

    source: str = Field(min_length=1)
    """Folder or hub id of the classifier, with safetensors."""
    labels: Mapping[str, str] = Field(min_length=1)
    """Those of its labels that mean harm -> the kind of finding, as policies name it."""
    threshold: float = Field(default=0.5, gt=0, le=1)
    """A kind is found from this probability on."""
    overlap: int = Field(default=32, ge=0)
    """Tokens that two parts of a long window share."""
    device: str = "cpu"


class ClassifierGuard:
    """Finds what a classifier labels as harm. It is loaded when it is first needed, or by `open`."""

    def __init__(self, name: str, settings: ClassifierSettings) -> None:
        self.name = name
        self.kinds = tuple(dict.fromkeys(settings.labels.values()))
        self._settings = settings
        self._thread: ModelThread[_Classifier] = ModelThread(name, partial(_load, name, settings))

    async def open(self) -> None:
        """Load the classifier now. Raises what `check` would."""
        await self._thread.ask(lambda _classifier: None)

    async def check(self, passage: Passage) -> Verdict:
        """Read all windows that are whole.

        Raises:
            GuardError: the classifier cannot be loaded, or gives no number.
            UnsafeWeightsError: its weights are pickled.
        """
        shown = windows(passage, self._settings)
        if not shown:
            return Verdict(len(passage.text) if passage.final else passage.start)
        texts = [window.text for window in shown]
        scores = await self._thread.ask(lambda classifier: classifier.scores(texts))
        findings = [
            Finding(kind, window.start, window.end, score, reason=f"A classifier finds: {kind}.")
            for window, found in zip(shown, scores, strict=True)
            for kind, score in found.items()
            if score >= self._settings.threshold
        ]
        return Verdict(shown[-1].end, tuple(findings))

    async def aclose(self) -> None:
        """Let go of the classifier."""
        self._thread.close()


class _Classifier(NamedTuple):
    """A classifier that is loaded."""

    guard: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    columns: Mapping[str, list[int]]
    """Kind -> its labels' places."""
    overlap: int

    def scores(self, texts: list[str]) -> list[dict[str, float]]:
        """Return, for each text, each kind's highest probability in any part. Raises GuardError."""
        limit = min(self.tokenizer.model_max_length, getattr(self.model.config, "max_position_embeddings", 2**20))
        encoded = self.tokenizer(
            texts, truncation=True, max_length=limit, stride=min(self.overlap, limit // 4), padding=True,
            return_overflowing_tokens=True, return_tensors="pt",
            split_special_tokens=True,  # none may come from the text
        )  # fmt: skip
        owners = encoded.pop("overflow_to_sample_mapping").tolist()
        found: list[dict[str, float]] = [dict.fromkeys(self.columns, 0.0) for _ in texts]
        for owner, row in zip(owners, self._probabilities(encoded), strict=True):
            for kind, columns in self.columns.items():
                found[owner][kind] = max(found[owner][kind], self._joined([row[column] for column in columns]))
        return found

    def _probabilities(self, encoded: Mapping[str, Tensor]) -> list[list[float]]:
        import torch

        parts = len(encoded["input_ids"])
        rows: list[list[float]] = []
        with torch.inference_mode():
            for start in range(0, parts, _BATCH):
                batch = {key: value[start : start + _BATCH].to(self.model.device) for key, value in encoded.items()}
                logits_BC = self.model(**batch).logits.double()
                rows += (logits_BC.sigmoid() if self._each_alone else logits_BC.softmax(-1)).tolist()
        if not all(math.isfinite(number) for row in rows for number in row):
            raise GuardError(f"{self.guard}: the classifier gives no number.", mend="Its weights may be damaged.")
        return rows

    @property
    def _each_alone(self) -> bool:
        """Whether each label has a probability of its own, and not a share of one."""
        config = self.model.config
        return config.problem_type == "multi_label_classification" or config.num_labels == 1

    def _joined(self, probabilities: list[float]) -> float:
        """Return the probability of one label or another: shares add up, independent ones have their highest."""
        return max(probabilities) if self._each_alone else min(1.0, sum(probabilities))


def _load(guard: str, settings: ClassifierSettings) -> _Classifier:
    """Load a classifier. Raises GuardError or UnsafeWeightsError."""
    from safetensors import SafetensorError
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    if Path(settings.source).is_dir() and not any(Path(settings.source).glob("*.safetensors")):
        raise UnsafeWeightsError(
            f"{guard}: no safetensors in {settings.source}. A pickle runs whatever code is in it, so none is loaded.",
            mend="Convert it where you trust it, with save_pretrained(FOLDER).",
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(settings.source)
        model = AutoModelForSequenceClassification.from_pretrained(settings.source, use_safetensors=True)
        model = model.to(settings.device)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise GuardError(
            f"{guard}: {settings.source} cannot be loaded as a classifier ({str(error).splitlines()[0]}).",
            mend="Give a transformers folder with safetensors, or a hub id that this machine can reach.",
        ) from error
    if not tokenizer.is_fast:
        raise GuardError(f"{guard}: {settings.source} has a slow tokenizer.", mend="Convert it to a fast one.")
    model.train(False)
    if model.config.pad_token_id is None:
        # Batches need one; a decoder-only classifier finds a text's last token by it.
        model.config.pad_token_id = tokenizer.pad_token_id
    return _Classifier(guard, model, tokenizer, _columns(guard, model, settings.labels), settings.overlap)


def _columns(guard: str, model: PreTrainedModel, labels: Mapping[str, str]) -> dict[str, list[int]]:
    """Return each kind's places in the classifier's output. Raises GuardError where it has no such label."""
    known = {str(label): int(index) for index, label in (model.config.id2label or {}).items()}
    unknown = [label for label in labels if label not in known]
    if unknown:
        raise GuardError(
            f"{guard}: the classifier has no label {unknown[0]!r}.", mend=f"Its labels: {', '.join(known)}."
        )
    columns: dict[str, list[int]] = {}
    for label, kind in labels.items():
        columns.setdefault(kind, []).append(known[label])
    return columns
