"""A policy: which guards and monitors read what, what follows from their findings, and what is allowed at all.

A policy is one YAML file. `default.yaml` in this room is the one that runs without a file, and documents every field.
"""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from safetylayers.errors import PolicyError
from safetylayers.oversee.guards.base import Stage
from safetylayers.oversee.policy.actions import Action
from safetylayers.records import Record

DEFAULT = Path(__file__).with_name("default.yaml")
OnError = Literal["block", "hold", "allow"]


class Limits(Record):
    """What a request may ask for, and how much of everything there may be at once."""

    body_bytes: int = Field(default=1_000_000, ge=1_000)
    """Of a request."""
    messages: int = Field(default=200, ge=1)
    """Turns of one conversation."""
    max_tokens: int = Field(default=2_048, ge=1)
    """Of one reply; requests that ask for more get this."""
    default_tokens: int = Field(default=256, ge=1)
    """Of a reply to a request that names no limit."""
    choices: int = Field(default=8, ge=1)
    """Replies to one request (n)."""
    alternatives: int = Field(default=0, ge=0, le=20)
    """Likely tokens that may be named beside each one (top_logprobs). They show what the model would say, and no guard
    reads them."""
    concurrent: int = Field(default=64, ge=1)
    """Requests at once; more are turned away."""
    reply_seconds: float = Field(default=300, gt=0)
    """How long one reply may take, review left out."""


class GuardRule(Record):
    """One guard: what it reads and what follows from its findings."""

    kind: str
    """A built-in guard or a plug-in: `safetylayers policy guards` lists them."""
    reads: tuple[Stage, ...] = ("input", "output")
    settings: dict[str, Any] = Field(default_factory=dict)
    """Of the guard itself."""
    action: Action = Action.BLOCK
    """For findings of kinds that `actions` does not name."""
    actions: dict[str, Action] = Field(default_factory=dict)
    """Kind of finding -> action."""
    on_error: OnError = "block"
    """What follows when the guard fails or takes too long."""
    timeout_seconds: float = Field(default=10, gt=0)
    shadow: bool = False
    """Whether its findings are only logged."""

    @field_validator("reads")
    @classmethod
    def _reads_something(cls, stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
        if not stages or len(set(stages)) != len(stages):
            raise ValueError("name input, output or both, each once")
        return stages

    def action_for(self, kind: str) -> Action:
        """Return what follows from a finding of this kind."""
        return self.actions.get(kind, self.action)


class MonitorRule(Record):
    """What follows when a monitor inside the model passes its threshold."""

    action: Action
    shadow: bool = False
    """Whether it is only logged."""

    @field_validator("action")
    @classmethod
    def _can_be_done(cls, action: Action) -> Action:
        if action is Action.REDACT:
            raise ValueError("a monitor says nothing about single words, so there is nothing to redact")
        if action is Action.REGENERATE:
            raise ValueError("the same prompt reads the same again; choose steer, hold or block")
        return action


class Monitors(Record):
    """The monitors inside the model: the attached safety layers, or the map's probes."""

    prompt: MonitorRule = MonitorRule(action=Action.STEER)
    """Judged at the prompt's end, before a token leaves."""
    reply: MonitorRule = MonitorRule(action=Action.STEER)
    """Judged at every token of the reply."""
    shift: float = 0.0
    """Added to the calibrated thresholds, in log-odds; below zero they are passed sooner."""
    unwatched: OnError = "allow"
    """What happens to requests to an engine in which nothing watches, as behind --upstream."""
    canary_seconds: float = Field(default=60, gt=0)
    """How often the monitors are asked about prompts whose answer is known; dead monitors mean restricted mode."""

    @property
    def steer(self) -> bool:
        """Whether the gate inside the model may act."""
        return any(rule.action is Action.STEER and not rule.shadow for rule in (self.prompt, self.reply))

    @model_validator(mode="after")
    def _one_gate(self) -> Self:
        actions = {Action.ALLOW if rule.shadow else rule.action for rule in (self.prompt, self.reply)}
        if Action.STEER in actions and Action.ALLOW in actions:
            raise ValueError(
                "one gate reads prompt and reply: it cannot steer for one, and allow or only log for the other"
            )
        return self


class ReviewRule(Record):
    """Review by people."""

    hold_seconds: float = Field(default=120, gt=0)
    """How long a held reply waits; then it is rejected."""
    sample: float = Field(default=0.0, ge=0, le=1)
    """Share of allowed replies that are kept for review after the fact."""


class Policy(Record):
    """All of a policy."""

    version: Literal[1]
    name: Annotated[str, Field(pattern=r"^[\w .-]{1,80}$")]
    limits: Limits = Limits()
    guards: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,40}$")], GuardRule] = Field(default_factory=dict)
    monitors: Monitors = Monitors()
    review: ReviewRule = ReviewRule()
    restricted: Literal["hold", "block"] = "hold"
    """What happens to replies while the mode is restricted."""
    attempts: int = Field(default=2, ge=1, le=10)
    """How often a reply is made at most, where the action is to regenerate."""
    blocked_text: str = "This reply was withheld by the operator's policy."
    """What callers read in place of a blocked reply."""
    log_texts: bool = True
    """Whether prompts and replies go, encrypted, into the audit log. Hashes of what left always do."""
    keep_days: int | None = Field(default=None, ge=1, le=36_500)
    """How long texts stay in the log and in the review queue; None for ever. What was decided always stays."""
    shadow: bool = False
    """Whether the whole policy is only tried: everything is logged and nothing is done."""

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        for name, rule in self.guards.items():
            actions = [rule.action, *rule.actions.values()]
            if "output" not in rule.reads and {Action.REGENERATE} & set(actions):
                raise ValueError(f"guards.{name}: a request cannot be regenerated; choose another action")
            if self.attempts == 1 and Action.REGENERATE in actions:
                raise ValueError(f"guards.{name}: to regenerate takes attempts of 2 or more")
        return self

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the policy with all its defaults written out: equal for equal policies."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def as_yaml(self) -> str:
        """Return the policy with all its defaults written out."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def parse_policy(text: str, *, source: str = "policy") -> Policy:
    """Read a policy from YAML.

    Raises:
        PolicyError: it is no YAML, or something in it is unknown, missing or contradicts itself; it says where.
    """
    try:
        return Policy.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        raise PolicyError(f"{source}{place}: this is no YAML.", mend="Check quotes and indentation there.") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise PolicyError(
            f"{source}: {place}: {first['msg']}.",
            mend="`safetylayers policy show` prints every field with its default.",
        ) from error


def load_policy(path: str | Path) -> Policy:
    """Read a policy file. Raises PolicyError."""
    try:
        text = Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise PolicyError(f"{path}: cannot be read ({reason}).", mend="Check the path.") from error
    return parse_policy(text, source=str(path))


def default_policy() -> Policy:
    """Return the policy that runs without a file."""
    return load_policy(DEFAULT)
