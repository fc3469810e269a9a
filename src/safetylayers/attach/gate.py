"""The gate: from scores to open or closed, token by token.

A token is of the prompt, the prompt's end (the last token of the template before a reply), or of a reply. Only the
prompt's end and reply tokens can open the gate. What counts, each against its own threshold, all in log-odds:

prompt   the score at the prompt's end, for the whole reply
mean     the exponential mean of the reply's scores
peak     the highest of the reply's scores

`risk` is the log-odds above the threshold that is nearest to being passed. The gate opens at a risk of 0 and closes
below minus `release`. An open gate whose reply does not become a refusal within `patience` tokens ends the reply.

The arithmetic is float64 on the host: a few numbers a token, the same with a cache and without. Shapes: B rows, T
tokens, C channels, K heads, G guarding heads, E tokens of the prompt's ending.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from safetylayers.attach.control import NO_ORDER, Order
from safetylayers.records import Record

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Tokens = NDArray[np.int64]

HARM, REFUSAL = "harm", "refusal"
PROMPT, PROMPT_END, REPLY = 0, 1, 2


class Thresholds(Record):
    """Calibrated scores above which a head opens the gate, in log-odds."""

    prompt: float
    mean: float
    peak: float


class HeadCalibration(Record):
    """From a head's mean score over the layers to log-odds, and what opens the gate (Platt 1999)."""

    prompt_scale: float = 1.0
    prompt_offset: float = 0.0
    reply_scale: float = 1.0
    reply_offset: float = 0.0
    thresholds: Thresholds | None = None
    """None for a head that is only watched."""


class GateSettings(Record):
    """How the gate behaves between open and closed."""

    decay: float = Field(default=0.8, ge=0, lt=1)
    """Share of the exponential mean that stays from one reply token to the next."""
    release: float = Field(default=1.0, ge=0)
    """Log-odds below the thresholds at which an open gate closes."""
    weakest: float = Field(default=1.0, gt=0)
    """Strength of the correction at a risk of 0."""
    strongest: float = Field(default=1.25, gt=0)
    """Strength at a risk of `ramp` and above."""
    ramp: float = Field(default=4.0, gt=0)
    """Log-odds over which the strength grows."""
    patience: int = Field(default=16, ge=1)
    """Tokens that may follow an opening without a refusal; then the reply is ended."""


@dataclass(frozen=True)
class Rules:
    """Everything that decides, for all rows alike."""

    heads: tuple[str, ...]
    calibration: dict[str, HeadCalibration]
    settings: GateSettings
    ending: tuple[int, ...]
    """Tokens that end every prompt; empty where prompts have no fixed ending."""
    ends_of_text: tuple[int, ...]
    """Tokens that end a reply; the first one is what a stop makes the next token."""

    @cached_property
    def guards(self) -> list[int]:
        """Places of the heads that open the gate."""
        return [k for k, name in enumerate(self.heads) if self.calibration[name].thresholds]

    @cached_property
    def refusal(self) -> int | None:
        """Place of the refusal head."""
        return self.heads.index(REFUSAL) if REFUSAL in self.heads else None

    @cached_property
    def scales(self) -> tuple[Floats, Floats, Floats, Floats]:
        """Scale and offset at the prompt's end, then in a reply: [K] each."""
        found = [self.calibration[name] for name in self.heads]
        return (
            np.array([c.prompt_scale for c in found]),
            np.array([c.prompt_offset for c in found]),
            np.array([c.reply_scale for c in found]),
            np.array([c.reply_offset for c in found]),
        )

    @cached_property
    def limits(self) -> tuple[Floats, Floats, Floats]:
        """Thresholds at the prompt's end, of the mean and of the peak: [G] each."""
        found = [t for name in self.heads if (t := self.calibration[name].thresholds)]
        return np.array([t.prompt for t in found]), np.array([t.mean for t in found]), np.array([t.peak for t in found])


@dataclass(frozen=True)
class State:
    """All that is remembered of each row. Every field's first axis is rows; none is ever written to."""

    names: NDArray[np.object_]
    seen: Tokens
    """Tokens so far, padding left out: [B]."""
    weight: Floats
    weighted: Floats
    """Sums behind the attention-weighted means: [B, C]."""
    tail: Tokens
    """The last tokens, for finding the prompt's ending: [B, E - 1]."""
    begun: Flags
    """Whether a prompt's end was seen: [B]."""
    in_reply: Flags
    prompt_risk: Floats
    mean: Floats
    """[B, G]; NaN before the reply's first token."""
    peak: Floats
    """[B, G]"""
    open: Flags
    unrefused: Tokens
    """Reply tokens since the gate opened that were no refusal."""
    stopped: Flags

    @classmethod
    def new(cls, names: Sequence[object], channels: int, rules: Rules) -> State:
        """Return the state of rows before their first token."""
        rows, guards = len(names), len(rules.guards)
        named = np.empty(rows, dtype=object)
        named[:] = names
        return cls(
            names=named,
            seen=np.zeros(rows, dtype=np.int64),
            weight=np.zeros((rows, channels)),
            weighted=np.zeros((rows, channels)),
            tail=np.full((rows, max(len(rules.ending) - 1, 0)), -1, dtype=np.int64),
            begun=np.zeros(rows, dtype=bool),
            in_reply=np.zeros(rows, dtype=bool),
            prompt_risk=np.full(rows, -np.inf),
            mean=np.full((rows, guards), np.nan),
            peak=np.full((rows, guards), -np.inf),
            open=np.zeros(rows, dtype=bool),
            unrefused=np.zeros(rows, dtype=np.int64),
            stopped=np.zeros(rows, dtype=bool),
        )

    def select(self, rows: NDArray[np.int64]) -> State:
        """Return these rows' state, in this order."""
        return State(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


class Inputs(NamedTuple):
    """What one forward pass brings."""

    values: Floats
    """[B, T, S, C], S attached layers."""
    queries: Floats | None
    """The same; None for heads without pools."""
    tokens: Tokens | None
    """[B, T]; None where the model was given embeddings."""
    real: Flags
    """False at padding: [B, T]."""
    orders: Sequence[Order] | None
    """One a row; None where there is none."""

    def first(self, count: int) -> Inputs:
        """Return the first `count` tokens."""
        columns = np.s_[:, :count]
        return self._replace(
            values=self.values[columns],
            queries=None if self.queries is None else self.queries[columns],
            tokens=None if self.tokens is None else self.tokens[columns],
            real=self.real[columns],
        )

    def select(self, rows: NDArray[np.int64]) -> Inputs:
        """Return these rows, in this order."""
        return Inputs(
            self.values[rows],
            None if self.queries is None else self.queries[rows],
            None if self.tokens is None else self.tokens[rows],
            self.real[rows],
            None if self.orders is None else [self.orders[row] for row in rows],
        )


class Steps(NamedTuple):
    """What the gate did in each token of a pass: [B, T] each, but for scores [B, T, S, K]."""

    scores: Floats
    kinds: NDArray[np.int64]
    risk: Floats
    open: Flags
    would_open: Flags
    strength: Floats
    stopped: Flags


def advance(state: State, inputs: Inputs, rules: Rules) -> tuple[State, Steps]:
    """Read the tokens of one pass; return the state after them, and what the gate did in each."""
    rows, tokens = inputs.real.shape
    scores_BTSK, weight, weighted = _pooled(state, inputs, len(rules.heads))
    is_end, tail = _prompt_ends(state, inputs, rules)
    ends_text = np.isin(inputs.tokens, rules.ends_of_text) if inputs.tokens is not None else np.zeros_like(is_end)
    mean_BTK = scores_BTSK.mean(axis=2)
    walk = _Walk(state, rules, inputs.orders)
    # Nothing can happen before the first prompt's end: the columns until then are passed over.
    relevant = is_end.any(axis=0) | bool(state.in_reply.any())
    start = int(relevant.argmax()) if relevant.any() else tokens
    steps = Steps(
        scores_BTSK,
        np.zeros((rows, tokens), dtype=np.int64),
        np.full((rows, tokens), -np.inf),
        np.zeros((rows, tokens), dtype=bool),
        np.zeros((rows, tokens), dtype=bool),
        np.zeros((rows, tokens)),
        np.zeros((rows, tokens), dtype=bool),
    )
    for t in range(start, tokens):
        walk.step(mean_BTK[:, t], is_end[:, t], ends_text[:, t], inputs.real[:, t])
        steps.kinds[:, t], steps.risk[:, t], steps.open[:, t] = walk.kind, walk.risk, walk.acts
        steps.would_open[:, t], steps.strength[:, t], steps.stopped[:, t] = walk.open, walk.strength, walk.stopped
    after = State(
        names=state.names,
        seen=state.seen + inputs.real.sum(axis=1),
        weight=weight,
        weighted=weighted,
        tail=tail,
        begun=walk.begun,
        in_reply=walk.in_reply,
        prompt_risk=walk.prompt_risk,
        mean=walk.mean,
        peak=walk.peak,
        open=walk.open,
        unrefused=walk.unrefused,
        stopped=walk.stopped,
    )
    return after, steps


def _pooled(state: State, inputs: Inputs, heads: int) -> tuple[Floats, Floats, Floats]:
    """Return scores [B, T, S, K], and the sums behind them after the last token."""
    rows, tokens, layers, channels = inputs.values.shape
    scores = inputs.values
    weight, weighted = state.weight, state.weighted
    if inputs.queries is not None:
        weights = np.exp(inputs.queries) * inputs.real[:, :, None, None]
        before = (rows, 1, layers, channels)
        totals = weight.reshape(before) + weights.cumsum(axis=1)
        sums = weighted.reshape(before) + (weights * inputs.values).cumsum(axis=1)
        # At padding before the first token nothing has been summed up yet.
        scores = sums / np.maximum(totals, np.finfo(np.float64).tiny)
        weight, weighted = totals[:, -1].reshape(rows, -1), sums[:, -1].reshape(rows, -1)
    return scores.reshape(rows, tokens, layers, heads, -1).sum(axis=-1), weight, weighted


def _prompt_ends(state: State, inputs: Inputs, rules: Rules) -> tuple[Flags, Tokens]:
    """Return which tokens end a prompt [B, T], and the last tokens for the next pass.

    A row whose first tokens hold no ending, or whose tokens are not known, has its prompt's end at the last of them: a
    prompt without the template is scored all the same.
    """
    rows, tokens = inputs.real.shape
    width = len(rules.ending)
    if inputs.tokens is None or not width:
        is_end, tail = np.zeros((rows, tokens), dtype=bool), state.tail
    else:
        known = np.where(inputs.real, inputs.tokens, -1)
        window = np.concatenate([state.tail, known], axis=1)
        is_end = np.ones((rows, tokens), dtype=bool)
        for place, token in enumerate(rules.ending):
            is_end &= window[:, place : place + tokens] == token
        tail = window[:, window.shape[1] - width + 1 :]
    lacking = ~state.begun & ~is_end.any(axis=1)
    if lacking.any():
        is_end[lacking, -1] = True
    return is_end, tail


class _Walk:
    """The state while it goes from token to token."""

    def __init__(self, state: State, rules: Rules, orders: Sequence[Order] | None) -> None:
        self.rules = rules
        self.begun, self.in_reply, self.prompt_risk = state.begun, state.in_reply, state.prompt_risk
        self.mean, self.peak, self.open = state.mean, state.peak, state.open
        self.unrefused, self.stopped = state.unrefused, state.stopped
        self.orders = orders if orders is not None else [NO_ORDER] * len(state.begun)
        self.shift = np.array([order.shift for order in self.orders])
        self.ordered = orders is not None

    def step(self, scores_BK: Floats, is_end: Flags, ends_text: Flags, real: Flags) -> None:
        rules, settings = self.rules, self.rules.settings
        is_reply = self.in_reply & real & ~is_end
        self.kind = np.where(is_end, PROMPT_END, np.where(is_reply, REPLY, PROMPT))
        prompt_scale, prompt_offset, reply_scale, reply_offset = rules.scales
        prompt_limit, mean_limit, peak_limit = rules.limits
        reply_odds = scores_BK * reply_scale + reply_offset
        if is_end.any():
            odds = (scores_BK * prompt_scale + prompt_offset)[:, rules.guards]
            self._restart(is_end, (odds - prompt_limit).max(axis=1, initial=-np.inf))
        if is_reply.any():
            odds, told = reply_odds[:, rules.guards], is_reply[:, None]
            smooth = np.where(np.isnan(self.mean), odds, settings.decay * self.mean + (1 - settings.decay) * odds)
            self.mean = np.where(told, smooth, self.mean)
            self.peak = np.where(told, np.maximum(self.peak, odds), self.peak)
        within = np.fmax(self.mean - mean_limit, self.peak - peak_limit).max(axis=1, initial=-np.inf)
        self.risk = np.maximum(self.prompt_risk, within) - self.shift
        eligible = is_end | is_reply
        self.open = np.where(eligible, self.risk >= np.where(self.open, -settings.release, 0.0), self.open)
        self._act(eligible)
        if rules.refusal is not None:
            refuses = reply_odds[:, rules.refusal] >= 0
            self.unrefused = np.where(self.acts & is_reply, np.where(refuses, 0, self.unrefused + 1), self.unrefused)
            self.stopped = self.stopped | (self.acts & is_reply & (self.unrefused >= settings.patience))
        self.begun = self.begun | is_end
        self.in_reply = (self.in_reply | is_end) & ~(ends_text & is_reply)

    def _restart(self, is_end: Flags, risk: Floats) -> None:
        """Begin a new reply where a prompt has ended."""
        self.prompt_risk = np.where(is_end, risk, self.prompt_risk)
        self.mean = np.where(is_end[:, None], np.nan, self.mean)
        self.peak = np.where(is_end[:, None], -np.inf, self.peak)
        self.unrefused = np.where(is_end, 0, self.unrefused)
        self.stopped = self.stopped & ~is_end

    def _act(self, eligible: Flags) -> None:
        """Decide where the residual stream is changed, and by how much: the scores' doing, then the orders'."""
        settings = self.rules.settings
        self.acts = self.open & eligible
        grown = np.clip(self.risk / settings.ramp, 0.0, 1.0)
        strength = settings.weakest + (settings.strongest - settings.weakest) * grown
        if self.ordered:
            refuse = np.array([order.refuse for order in self.orders])
            observe = np.array([order.observe for order in self.orders])
            self.acts = (self.acts & ~observe) | (refuse & eligible)
            strength = np.where(refuse, settings.strongest, strength)
            self.stopped = self.stopped & ~observe
        self.strength = np.where(self.acts, strength, 0.0)
