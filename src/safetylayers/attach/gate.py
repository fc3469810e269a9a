"""The gate: from scores to open or closed, token by token.

A token is of the prompt, the prompt's end (the last token of the template before a reply), or of a reply. Only the
prompt's end and reply tokens can open the gate. What counts, each against its own threshold, all in log-odds:

prompt   the score at the prompt's end, for the whole reply
mean     the exponential mean of the reply's scores
peak     the highest of the reply's scores

A reply lasts until the next prompt's end, also behind a token that ends the text: what is written there is read all the
same. A new prompt is judged anew if the reply before it had ended; otherwise the higher of both scores holds.

`risk` is the log-odds above the threshold that is nearest to being passed. The gate opens at a risk of 0 and closes
below minus `release`. An open gate whose reply does not become a refusal within `patience` tokens ends the reply.

All this is a few numbers a token on the host, in double precision, the same with a cache and without. While a reply is
written there is one token a row and pass, for which Python's own floats are faster than arrays of one.

Shapes: B rows, T tokens, S attached layers, C channels of a layer, K heads.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from safetylayers.attach.control import NO_ORDER, Order
from safetylayers.records import Record

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

HARM, REFUSAL = "harm", "refusal"
PROMPT, PROMPT_END, REPLY = 0, 1, 2
NEVER = float("-inf")


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
    patience: int = Field(default=48, ge=1)
    """Tokens, prefilled ones included, that may follow an opening without a refusal; then the reply is ended."""


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
    layers: int
    """How many are attached."""
    channels: int
    """Of each layer."""

    @cached_property
    def guards(self) -> list[tuple[int, HeadCalibration, Thresholds]]:
        """The heads that open the gate: place, calibration, thresholds."""
        found = [(k, self.calibration[name]) for k, name in enumerate(self.heads)]
        return [(k, known, known.thresholds) for k, known in found if known.thresholds]

    @cached_property
    def tail(self) -> int:
        """How many tokens of the past it takes to see a prompt's ending."""
        return max(len(self.ending) - 1, 0)

    @cached_property
    def joined(self) -> Floats:
        """What turns channels into scores, the mean over layers of the sum of a head's channels: [S * C, K]."""
        heads = len(self.heads)
        return np.tile(np.repeat(np.eye(heads), self.channels // heads, axis=0), (self.layers, 1)) / self.layers

    @cached_property
    def refusal(self) -> tuple[int, HeadCalibration] | None:
        """Place and calibration of the refusal head."""
        return (self.heads.index(REFUSAL), self.calibration[REFUSAL]) if REFUSAL in self.heads else None


@dataclass(slots=True)
class RowState:
    """What is remembered of a row."""

    name: Hashable
    seen: int = 0
    """Tokens so far, padding left out."""
    tail: tuple[int, ...] = ()
    """The last tokens, one fewer than the prompt's ending has."""
    begun: bool = False
    """Whether a prompt's end was seen."""
    ended: bool = False
    """Whether the reply has ended; more of it may follow all the same."""
    prompt_risk: float = NEVER
    means: list[float] = field(default_factory=list)
    """A number a guarding head; empty before the reply's first token."""
    peaks: list[float] = field(default_factory=list)
    open: bool = False
    unrefused: int = 0
    """Reply tokens since the gate opened that were no refusal."""
    stopped: bool = False

    def fork(self) -> RowState:
        """Return a copy to go on with; lists are replaced, never written to."""
        return RowState(
            self.name, self.seen, self.tail, self.begun, self.ended, self.prompt_risk, self.means, self.peaks,
            self.open, self.unrefused, self.stopped,
        )  # fmt: skip


@dataclass(frozen=True)
class State:
    """All that is remembered after some tokens; never written to."""

    rows: tuple[RowState, ...]
    weight: Floats
    weighted: Floats
    """Sums behind the attention-weighted means: [B, S * C]."""

    @classmethod
    def new(cls, names: Sequence[Hashable], channels: int) -> State:
        """Return the state of rows before their first token; channels of all layers together."""
        nothing = np.zeros((len(names), channels))
        return cls(tuple(RowState(name) for name in names), nothing, nothing)

    def select(self, rows: Sequence[int]) -> State:
        """Return these rows' state, in this order."""
        return State(tuple(self.rows[row] for row in rows), self.weight[rows], self.weighted[rows])

    def join(self, other: State) -> State:
        """Return these rows' state and behind it the other's."""
        weights, sums = (self.weight, other.weight), (self.weighted, other.weighted)
        return State(self.rows + other.rows, np.concatenate(weights), np.concatenate(sums))


class Inputs(NamedTuple):
    """What one forward pass brings."""

    values: Floats
    """[B, T, S, C]"""
    queries: Floats | None
    """The same; None for heads without pools."""
    tokens: list[list[int]] | None
    """[B][T]; None where the model was given embeddings."""
    real: Flags | None
    """False at padding: [B, T]; None without any."""
    orders: Sequence[Order] | None
    """One a row; None where there is none."""

    def first(self, count: int) -> Inputs:
        """Return the first `count` tokens."""
        return self._replace(
            values=self.values[:, :count],
            queries=None if self.queries is None else self.queries[:, :count],
            tokens=None if self.tokens is None else [row[:count] for row in self.tokens],
            real=None if self.real is None else self.real[:, :count],
        )

    def select(self, rows: Sequence[int]) -> Inputs:
        """Return these rows, in this order."""
        return Inputs(
            self.values[rows],
            None if self.queries is None else self.queries[rows],
            None if self.tokens is None else [self.tokens[row] for row in rows],
            None if self.real is None else self.real[rows],
            None if self.orders is None else [self.orders[row] for row in rows],
        )


class Step(NamedTuple):
    """What the gate did in a token."""

    kind: int
    risk: float
    open: bool
    would_open: bool
    strength: float
    stopped: bool


QUIET = Step(PROMPT, NEVER, open=False, would_open=False, strength=0.0, stopped=False)
"""A token that cannot open the gate."""


@dataclass(frozen=True, slots=True)
class Steps:
    """What the gate did in a pass."""

    parts: Floats
    """What each channel says: [B, T, S * C]."""
    taken: list[dict[int, Step]]
    """Of each row, column -> step; columns that are left out are quiet."""
    any_open: bool
    """Whether anything is to be changed."""
    any_stopped: bool
    """Whether a text is to be ended."""

    def scores(self, layers: int, heads: int) -> Floats:
        """Return every head's score at every layer: [B, T, S, K]."""
        found: Floats = self.parts.reshape(*self.parts.shape[:2], layers, heads, -1).sum(axis=-1)
        return found

    def strengths(self) -> Floats:
        """Return the strength of each token's correction, 0 where the gate is closed: [B, T]."""
        return self._table([[(t, step.strength) for t, step in row.items()] for row in self.taken])

    def stops(self) -> Flags:
        """Return which tokens end their text: [B, T]."""
        return self._table([[(t, float(step.stopped)) for t, step in row.items()] for row in self.taken]) > 0

    def _table(self, rows: list[list[tuple[int, float]]]) -> Floats:
        table = np.zeros(self.parts.shape[:2])
        for row, cells in enumerate(rows):
            for column, value in cells:
                table[row, column] = value
        return table


def advance(state: State, inputs: Inputs, rules: Rules) -> tuple[State, Steps]:
    """Read the tokens of one pass; return the state after them, and what the gate did in each."""
    parts, weight, weighted = _pooled(state, inputs)
    scores_BTK = parts.reshape(-1, len(rules.joined)).dot(rules.joined).reshape(*parts.shape[:2], -1)
    rows, taken, any_open, any_stopped = [], [], False, False
    for b, before in enumerate(state.rows):
        row = before.fork()
        steps = _walk(row, b, inputs, scores_BTK, inputs.orders[b] if inputs.orders else NO_ORDER, rules)
        rows.append(row)
        taken.append(steps)
        for step in steps.values():
            any_open, any_stopped = any_open or step.open, any_stopped or step.stopped
    return State(tuple(rows), weight, weighted), Steps(parts, taken, any_open, any_stopped)


def _pooled(state: State, inputs: Inputs) -> tuple[Floats, Floats, Floats]:
    """Return what each channel says after each token [B, T, S * C], and the sums behind it after the last one."""
    rows, tokens = inputs.values.shape[:2]
    if inputs.queries is None:
        return inputs.values.reshape(rows, tokens, -1), state.weight, state.weighted
    weights = np.exp(inputs.queries)
    if inputs.real is not None:
        weights *= inputs.real[:, :, None, None]
    amounts = (weights * inputs.values).reshape(rows, tokens, -1)
    weights = weights.reshape(rows, tokens, -1)
    if tokens > 1:
        weights, amounts = weights.cumsum(axis=1), amounts.cumsum(axis=1)
    totals, sums = state.weight[:, None] + weights, state.weighted[:, None] + amounts
    if inputs.real is None:
        return sums / totals, totals[:, -1], sums[:, -1]
    # At padding before the first token nothing has been summed up yet.
    return sums / np.maximum(totals, np.finfo(np.float64).tiny), totals[:, -1], sums[:, -1]


def _walk(row: RowState, b: int, inputs: Inputs, scores_BTK: Floats, order: Order, rules: Rules) -> dict[int, Step]:
    """Let a row's state go through its tokens; nothing can happen before the first prompt's end."""
    count = scores_BTK.shape[1]
    columns = range(count) if inputs.real is None else np.flatnonzero(inputs.real[b]).tolist()
    tokens = None if inputs.tokens is None else inputs.tokens[b]
    if tokens is not None and inputs.real is not None:
        tokens = [tokens[t] for t in columns]
    ends = _prompt_ends(row, tokens, len(columns), rules.ending)
    begin = 0 if row.begun else min(ends, default=len(columns))
    last_end = max(ends, default=-1)
    taken = {}
    for place in range(begin, len(columns)):
        if row.ended and place < last_end and place not in ends:
            continue  # of the next prompt
        scores = scores_BTK[b, columns[place]].tolist()
        ends_text = tokens is not None and tokens[place] in rules.ends_of_text
        taken[columns[place]] = _step(row, scores, place in ends, ends_text, order, rules)
    row.seen += len(columns)
    if tokens is not None:
        row.tail = (*row.tail, *tokens)[-rules.tail :] if rules.tail else ()
    return taken


def _prompt_ends(row: RowState, tokens: list[int] | None, count: int, ending: tuple[int, ...]) -> list[int]:
    """Return which of a row's tokens end a prompt.

    A row whose first tokens hold no ending, or whose tokens are not known, has its prompt's end at the last of them: a
    prompt without the template is scored all the same.
    """
    ends: list[int] = []
    if tokens and ending:
        last = ending[-1]
        if len(tokens) > 1 or tokens[0] == last:
            window, known, width = (*row.tail, *tokens), len(row.tail), len(ending)
            ends = [
                place - known
                for place in range(max(known, width - 1), len(window))
                if window[place] == last and window[place + 1 - width : place + 1] == ending
            ]
    return ends if ends or row.begun or not count else [count - 1]


def _step(row: RowState, scores: list[float], is_end: bool, ends_text: bool, order: Order, rules: Rules) -> Step:
    """Take one token of a row into its state."""
    settings = rules.settings
    if is_end:
        risks = [c.prompt_scale * scores[k] + c.prompt_offset - t.prompt for k, c, t in rules.guards]
        risk = _highest(risks)
        # An ending in the middle of a reply may be its writer's doing: it takes nothing back.
        row.prompt_risk = risk if row.ended or not row.begun else _highest([row.prompt_risk, risk])
        if row.ended:
            row.means, row.peaks, row.unrefused, row.open, row.stopped = [], [], 0, False, False
        within = NEVER
    else:
        within = _read_reply(row, scores, rules)
    risk = _highest([row.prompt_risk, within]) - order.shift
    if math.isnan(risk):
        risk = math.inf  # a score that is no number proves nothing harmless
    row.open = risk >= (-settings.release if row.open else 0.0)
    acts = (row.open and not order.observe) or order.refuse
    strength = 0.0
    if acts:
        grown = 1.0 if order.refuse else min(max(risk / settings.ramp, 0.0), 1.0)
        strength = settings.weakest + (settings.strongest - settings.weakest) * grown
    if acts and not is_end and rules.refusal:
        k, known = rules.refusal
        row.unrefused = 0 if known.reply_scale * scores[k] + known.reply_offset >= 0 else row.unrefused + 1
        row.stopped = row.stopped or row.unrefused >= settings.patience
    row.begun, row.ended = True, not is_end and (row.ended or ends_text)
    stopped = row.stopped and (order.refuse or not order.observe)
    return Step(PROMPT_END if is_end else REPLY, risk, acts, row.open, strength, stopped)


def _read_reply(row: RowState, scores: list[float], rules: Rules) -> float:
    """Take a reply token's scores into mean and peak; return the risk that the reply holds."""
    odds = [c.reply_scale * scores[k] + c.reply_offset for k, c, _ in rules.guards]
    if row.means:
        decay = rules.settings.decay
        row.means = [decay * mean + (1 - decay) * value for mean, value in zip(row.means, odds, strict=True)]
        row.peaks = [max(peak, value) for peak, value in zip(row.peaks, odds, strict=True)]
    else:
        row.means = row.peaks = odds
    risks = []
    for mean, peak, (_, _, limits) in zip(row.means, row.peaks, rules.guards, strict=True):
        risks += [mean - limits.mean, peak - limits.peak]
    return _highest(risks)


def _highest(risks: list[float]) -> float:
    """Return the highest risk; one that is no number is higher than any."""
    for risk in risks:
        if risk != risk:  # noqa: PLR0124 - only what is no number differs from itself
            return risk
    return max(risks, default=NEVER)
