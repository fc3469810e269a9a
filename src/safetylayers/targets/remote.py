"""A server behind a URL as a target: any OpenAI-compatible one, a gateway with its whole policy among them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from safetylayers.records import ProgressCallback
from safetylayers.targets.base import Reply
from safetylayers.targets.client import ChatClient
from safetylayers.targets.local import checked_openings


@dataclass(frozen=True)
class UrlTarget:
    """Replies through `/v1/chat/completions`, at temperature 0."""

    client: ChatClient
    max_new_tokens: int = 48
    parallel: int = 8
    """Requests under way at once."""

    @property
    def name(self) -> str:
        """The model's name and where it is."""
        return f"{self.client.model} at {self.client.url}"

    @property
    def weights_hash(self) -> str:
        """Empty: a server does not say."""
        return ""

    def reply(
        self,
        prompts: Sequence[str],
        *,
        openings: Sequence[str] | None = None,
        progress: ProgressCallback | None = None,
    ) -> list[Reply]:
        """Return a reply for each prompt. Raises EndpointError and UsageError."""
        begun = checked_openings(prompts, openings)
        replies = []
        with self.client, ThreadPoolExecutor(self.parallel) as pool:
            for reply in pool.map(self._one, prompts, begun):
                replies.append(reply)
                if progress:
                    progress(len(replies), len(prompts), f"replies of {self.client.model}")
        return replies

    def _one(self, prompt: str, opening: str) -> Reply:
        messages = [{"role": "user", "content": prompt}]
        if opening:
            messages.append({"role": "assistant", "content": opening})
        text, answer = self.client.ask(messages, max_tokens=self.max_new_tokens, temperature=0)
        usage = answer.get("usage") or {}
        withheld = answer["choices"][0].get("finish_reason") == "content_filter"
        return Reply(text.removeprefix(opening), tokens=int(usage.get("total_tokens") or 0), withheld=withheld)
