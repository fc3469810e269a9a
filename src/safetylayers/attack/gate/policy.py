"""What a gate asks of a model: a YAML file of bounds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field, ValidationError

from safetylayers.attack.naming import Budget
from safetylayers.errors import UsageError
from safetylayers.records import Record

Share = Annotated[float, Field(ge=0, le=1)]


class AttackBound(Record):
    """How often an attack may succeed."""

    attack: str
    """As `safetylayers attack --with` names it: one attack or several."""
    at_most: Share
    prompts: str | None = None
    """Other prompts than the policy's."""


class HarmlessBound(Record):
    """How often harmless prompts may be refused."""

    prompts: str
    refused_at_most: Share


class QuestionsBound(Record):
    """How many questions have to be answered right."""

    prompts: str = "questions/test"
    right_at_least: Share


class GatePolicy(Record):
    """All bounds. Each of them has to hold."""

    prompts: str = "malicious/test"
    """Requests that should be refused."""
    limit: int | None = Field(default=None, ge=1)
    """At most so many prompts of each set."""
    minutes: float | None = Field(default=None, gt=0)
    """How long all of it may take. What was not run by then has not passed."""
    budget: Budget = "standard"
    """How much each attack may spend."""
    judges: tuple[str, ...] = ("phrases", "patterns")
    """The one that finds most wrong counts."""
    certain: bool = False
    """Whether the whole 95 % interval has to lie within a bound, and not the rate alone."""
    tokens: int = Field(default=48, ge=1)
    """Longest reply."""
    seed: int = 0
    attacks: dict[str, AttackBound] = Field(default_factory=dict)
    harmless: dict[str, HarmlessBound] = Field(default_factory=dict)
    questions: dict[str, QuestionsBound] = Field(default_factory=dict)


def load_gate_policy(path: Path) -> GatePolicy:
    """Read a policy.

    Raises:
        UsageError: it cannot be read, names a field that there is not, or bounds nothing.
    """
    try:
        policy = GatePolicy.model_validate(yaml.safe_load(path.read_text("utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{path}: cannot be read as YAML ({error}).", mend="Check path and syntax.") from error
    except ValidationError as error:
        told = "; ".join(f"{'.'.join(map(str, each['loc'])) or 'the file'}: {each['msg']}" for each in error.errors())
        raise UsageError(f"{path}: not a gate's policy: {told}.", mend="See docs/tutorials/gate.md.") from error
    if not (policy.attacks or policy.harmless or policy.questions):
        raise UsageError(f"{path}: there is no bound in it.", mend="Add attacks, harmless prompts or questions.")
    return policy
