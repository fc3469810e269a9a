"""Language models that a guard puts a question to: behind a server, or on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from pydantic import Field

from safetylayers.oversee.guards.endpoint import Endpoint, EndpointSettings
from safetylayers.oversee.guards.settings import GuardSettings
from safetylayers.oversee.guards.threads import ModelThread

if TYPE_CHECKING:
    from safetylayers.models import ChatModel

Turns = list[dict[str, str]]
"""Messages with role and content, as chat templates and servers take them."""

MAX_TOKENS = 48
"""Of an answer; a verdict is shorter."""


class Answering(Protocol):
    """A language model that answers."""

    async def open(self) -> None:
        """Make ready."""

    async def answer(self, turns: Turns) -> str:
        """Return what the model says, greedily."""

    async def aclose(self) -> None:
        """Let go of what is held."""


class Served:
    """A model behind an OpenAI-compatible server (`POST /v1/chat/completions`)."""

    def __init__(self, guard: str, settings: EndpointSettings) -> None:
        self._settings = settings
        self._endpoint = Endpoint(guard, settings)

    async def open(self) -> None:
        """Nothing is needed before the first question."""

    async def answer(self, turns: Turns) -> str:
        """Ask the server. Raises GuardError where it does not answer, or not to the end."""
        body = {"model": self._settings.model, "messages": turns, "temperature": 0, "max_tokens": MAX_TOKENS}
        answer = await self._endpoint.post("chat/completions", body)
        try:
            choice = answer["choices"][0]
            content: Any = choice["message"]["content"]
            complete = choice.get("finish_reason") == "stop"
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise self._endpoint.error("does not answer with a message") from error
        if not isinstance(content, str) or not complete:
            raise self._endpoint.error("does not answer to the end")
        return content

    async def aclose(self) -> None:
        """Close all connections."""
        await self._endpoint.aclose()


class LocalSettings(GuardSettings):
    """A model on this machine."""

    source: str = Field(min_length=1)
    """Folder or hub id, with safetensors and a chat template."""
    device: str | None = None
    """Where it runs; by itself the best there is."""


class LocalModel:
    """A model on this machine, loaded when it is first needed, or by `open`."""

    def __init__(self, guard: str, settings: LocalSettings) -> None:
        self._settings = settings
        self._thread: ModelThread[ChatModel] = ModelThread(guard, self._load)

    def _load(self) -> ChatModel:
        from safetylayers.models import ChatModel

        return ChatModel.load(self._settings.source, device=self._settings.device)

    async def open(self) -> None:
        """Load the model now. Raises ModelError."""
        await self._thread.ask(lambda _model: None)

    async def answer(self, turns: Turns) -> str:
        """Ask the model. Raises ModelError where it cannot be loaded or has no chat template."""

        def work(model: ChatModel) -> str:
            from safetylayers.prompts.rendering import render_messages

            return model.generate([render_messages(turns, model.tokenizer)], max_new_tokens=MAX_TOKENS)[0]

        return await self._thread.ask(work)

    async def aclose(self) -> None:
        """Let go of the model."""
        self._thread.close()
