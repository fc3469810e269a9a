"""Where replies come from."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from safetylayers.oversee.words import Ask, Piece


@dataclass(frozen=True, slots=True)
class Canary:
    """Whether the monitors inside the model are alive."""

    alive: bool
    detail: str
    """What was seen, for people."""


class Engine(Protocol):
    """A model that can be asked, watched and stopped."""

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models that can be asked."""

    @property
    def watched_by(self) -> str | None:
        """What watches inside the model, in words for people; None where nothing does."""

    @property
    def steers(self) -> bool:
        """Whether the gate can turn a reply into a refusal."""

    async def open(self) -> None:
        """Make ready."""

    async def close(self) -> None:
        """End everything that runs and let go of what is held."""

    def reply(self, ask: Ask) -> AsyncGenerator[Piece]:
        """Make one reply, piece by piece. Closing the generator ends the generation at its next token.

        Raises:
            BusyError: too many wait already.
            EngineError: the reply cannot be made or broke off; what came before is incomplete.
        """

    def refuse(self, ask_id: str) -> None:
        """Let the gate turn a running reply into a refusal, from its next token."""

    def halt(self) -> int:
        """End everything that runs or waits, at its next token; return how many. May be called from any thread."""

    async def canary(self) -> Canary:
        """Ask the monitors about prompts whose answer is known."""
