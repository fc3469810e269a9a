"""What a policy run was asked to do, and what came of it."""

from __future__ import annotations

from typing import Any, Literal, get_args

from pydantic import Field, ValidationError

from safetylayers.align.policy.holding import Hold
from safetylayers.align.trl_settings import processes
from safetylayers.errors import UsageError
from safetylayers.records import Provenance, Record

Method = Literal["sft", "dpo", "grpo", "rloo"]
METHODS: tuple[str, ...] = get_args(Method)
ONLINE = ("grpo", "rloo")
"""Methods that learn from the policy's own replies."""


class PolicyPlan(Record):
    """Everything that decides a policy's weights."""

    method: Method
    hold: Hold
    block: tuple[int, int] | None
    """First and last layer of the map, where `hold` needs it."""
    beta: float = Field(ge=0)
    """How much moving away from the reference costs."""
    penalty: float = Field(ge=0)
    """How many standard deviations a reward is lowered by."""
    lora_rank: int = Field(ge=0)
    learning_rate: float = Field(gt=0, allow_inf_nan=False)
    steps: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    replies: int = Field(ge=2)
    """Drawn for each prompt, by online methods."""
    max_new_tokens: int = Field(ge=1)
    max_length: int = Field(ge=8)
    seed: int
    model_hash: str
    data_hash: str
    reward_hash: str = ""
    watch_hash: str = ""
    """Of the prompts that it is watched on: it decides where a run stops."""
    gold_hash: str = ""
    watch_every: int = Field(ge=1)
    patience: int = Field(ge=0)
    max_kl: float | None = Field(default=None, gt=0)


class Look(Record):
    """A policy during training: its replies, drawn at temperature 1, to prompts that it does not learn from."""

    step: int
    kl: float
    """Mean of log P(reply) - log P(reply) of the reference, in nats a reply."""
    kl_error: float
    """Standard error of that."""
    proxy: float | None = None
    """Mean reward by what is optimised, without its penalty."""
    deviation: float | None = None
    """How unsure that is, on average."""
    gold: float | None = None
    """Mean reward by what is not optimised."""
    gold_error: float | None = None
    refused: float
    """Share of replies that refuse."""
    silent: float = 0.0
    """Share of replies without a word."""
    cut: float = 0.0
    """Share that had not come to their end at the longest that is drawn."""
    tokens: float
    """Mean length of a reply."""


class PolicyResult(Record):
    """A trained policy."""

    plan: PolicyPlan
    rows: int
    """That were learned from."""
    left_out: int = 0
    """Pairs between whose replies the reward is not sure, or rows that are too long."""
    steps: int
    """Taken, at most the plan's."""
    stopped: str = ""
    """Why before the plan's end."""
    kept_step: int
    """Whose weights these are: the best look's, or the last step's where nothing was watched."""
    losses: tuple[float, ...]
    """Of every step."""
    looks: tuple[Look, ...] = ()
    held: tuple[str, ...] = ()
    """Tensors proved to be bitwise what they were."""
    provenance: Provenance


def planned(**settings: Any) -> PolicyPlan:
    """Return the plan of these settings. Raises UsageError where one makes no sense."""
    try:
        return PolicyPlan(**settings)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise UsageError(f"{name} of {first['input']} makes no sense: {first['msg']}.", mend="Change it.") from error


def check_watching(*, watched: bool, gold: bool, max_kl: float | None) -> None:
    """Refuse what is only seen by watching, where nothing is watched. Raises UsageError."""
    if watched and processes() > 1:
        raise UsageError("Several processes cannot watch.", mend="Leave --watch out, and evaluate the result.")
    if watched:
        return
    for given, name in ((gold, "A gold reward"), (max_kl is not None, "max_kl")):
        if given:
            where = "Train in one process, or leave it out." if processes() > 1 else "Give requests with --watch."
            raise UsageError(f"{name} is for watching, and nothing is watched.", mend=where)


def check_method(method: str, has_reward: bool) -> None:
    """Refuse a method that there is not, or that lacks what it needs. Raises UsageError."""
    if method not in METHODS:
        raise UsageError(f"There is no method {method!r}.", mend=f"Use one of: {', '.join(METHODS)}.")
    if method in ONLINE and not has_reward:
        raise UsageError(
            f"{method} needs a reward.", mend="Learn one with `safetylayers align reward`, and give it with --reward."
        )
    if method == "sft" and has_reward:
        raise UsageError(
            "sft imitates replies and takes no reward.", mend="Leave --reward out, or use dpo, grpo or rloo."
        )
