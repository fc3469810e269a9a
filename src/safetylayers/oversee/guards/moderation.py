"""A moderation model behind an OpenAI-compatible server (`POST /v1/moderations`).

What it sees: a request in parts of `request` characters, a reply in windows of `every` characters with what came
before; the server reads the text without the conversation. What it holds back: what has not come to a whole window.
What gets past it: what the model behind the server does not know as harm, and harm that no single window shows. All
text is sent to that server.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from safetylayers.oversee.guards.base import Finding, Passage, Verdict
from safetylayers.oversee.guards.endpoint import Endpoint, EndpointSettings
from safetylayers.oversee.guards.windows import Window, WindowSettings, windows

FLAGGED = "flagged"


class ModerationSettings(EndpointSettings, WindowSettings):
    """Settings of a `ModerationGuard`."""

    thresholds: Mapping[str, Annotated[float, Field(gt=0, le=1)]] = {}
    """Category, as the server calls it -> the score from which it is a finding. What the server flags for other reasons
    is of kind "flagged"."""


class ModerationGuard:
    """Finds what a moderation model finds."""

    def __init__(self, name: str, settings: ModerationSettings) -> None:
        self.name = name
        self.kinds = tuple(dict.fromkeys((*settings.thresholds, FLAGGED)))
        self._settings = settings
        self._endpoint = Endpoint(name, settings)

    async def check(self, passage: Passage) -> Verdict:
        """Ask about all windows that are whole. Raises GuardError."""
        shown = windows(passage, self._settings)
        if not shown:
            return Verdict(len(passage.text) if passage.final else passage.start)
        texts = [window.text for window in shown]
        body = {"model": self._settings.model, "input": texts if len(texts) > 1 else texts[0]}
        answer = await self._endpoint.post("moderations", body)
        results = answer.get("results") if isinstance(answer, dict) else None
        if not isinstance(results, list) or len(results) != len(shown):
            raise self._endpoint.error("does not answer with one result for each text")
        findings = [
            found for window, result in zip(shown, results, strict=True) for found in self._read(window, result)
        ]
        return Verdict(shown[-1].end, tuple(findings))

    def _read(self, window: Window, result: Any) -> list[Finding]:
        """Turn one result into findings. Raises GuardError."""
        flagged = result.get("flagged") if isinstance(result, dict) else None
        if not isinstance(flagged, bool):
            raise self._endpoint.error("answers without saying whether a text is flagged")
        scores = {category: self._score(result, category) for category in self._settings.thresholds}
        found = [
            self._finding(window, category, score)
            for category, score in scores.items()
            if score >= self._settings.thresholds[category]
        ]
        if flagged and self._has_another_reason(result):
            found.append(self._finding(window, FLAGGED, None))
        return found

    def _score(self, result: dict[str, Any], category: str) -> float:
        scores = result.get("category_scores")
        score = scores.get(category) if isinstance(scores, dict) else None
        if not isinstance(score, int | float) or isinstance(score, bool) or not math.isfinite(score):
            raise self._endpoint.error(f"answers without a score of {category}")
        return float(score)

    def _has_another_reason(self, result: dict[str, Any]) -> bool:
        """Whether what the server flags is more than categories that the user has set thresholds for."""
        categories = result.get("categories")
        named = {name for name, flagged in categories.items() if flagged} if isinstance(categories, dict) else set()
        return not named or not named <= set(self._settings.thresholds)

    def _finding(self, window: Window, kind: str, score: float | None) -> Finding:
        return Finding(kind, window.start, window.end, score, reason=f"A moderation model finds: {kind}.")

    async def aclose(self) -> None:
        """Close all connections."""
        await self._endpoint.aclose()
