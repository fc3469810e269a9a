"""The verdict token by token: what a monitor reads while a reply is made, as a record that a log can keep.

Shapes: T tokens of the reply, L layers, H hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from safetylayers.errors import UsageError
from safetylayers.explain.verdict import probe_scores
from safetylayers.records import Provenance, Record

if TYPE_CHECKING:
    from safetylayers.explain.explainer import Explainer


class TokenVerdict(Record):
    """What the model is at when it has read one token of its reply."""

    text: str
    logprob: float
    """Of this token after all that stands before it."""
    refusal: float
    """Along the refusal direction, mean over the watched layers: 0 as after normal prompts, 1 as after malicious."""
    probe: float | None = None
    """The map's probes, mean over the watched layers, log-odds; with a map."""


class ReplyTrace(Record):
    """A prompt's reply, token by token."""

    schema_version: Literal[1] = 1
    provenance: Provenance
    prompt: str
    reply: str
    layers: tuple[int, ...]
    """That were watched: the safety layers, without them all."""
    tokens: tuple[TokenVerdict, ...]


def trace_reply(explainer: Explainer, prompt: str, reply: str | None = None, *, max_new_tokens: int = 64) -> ReplyTrace:
    """Return the verdict after each token of a reply: one pass over prompt and reply.

    Args:
        explainer: of the model.
        prompt: as its user typed it.
        reply: that is looked at, by itself the model's own greedy one.
        max_new_tokens: longest reply that is made.

    Raises:
        UsageError: the prompt or the reply is empty.
    """
    model, reading = explainer.model, explainer.read(prompt)
    if reply is None:
        (reply,) = model.generate_after([reading.token_ids], max_new_tokens=max_new_tokens)
    said: list[int] = model.tokenizer(reply, add_special_tokens=False).input_ids
    if not said:
        raise UsageError("The reply is empty: there is nothing to trace.", mend="Give a reply, or another prompt.")
    found = explainer.found
    layers = range(found.range[0], found.range[1] + 1) if found and found.found else range(model.n_layers)
    logprobs_T, states_TLH = _read(explainer, reading.token_ids, said, layers)
    refusal_T = explainer.scales.refusal(states_TLH, layers).mean(1)
    probe_T: Sequence[float | None] = [None] * len(said)
    if found:
        probe_T = probe_scores(found, states_TLH, layers).mean(1).tolist()
    return ReplyTrace(
        provenance=explainer.provenance(prompt),
        prompt=prompt,
        reply=reply,
        layers=tuple(layers),
        tokens=tuple(
            TokenVerdict(text=model.tokenizer.decode([token]), logprob=logprob, refusal=refusal, probe=probe)
            for token, logprob, refusal, probe in zip(said, logprobs_T, refusal_T.tolist(), probe_T, strict=True)
        ),
    )


def _read(
    explainer: Explainer, asked: Sequence[int], said: Sequence[int], layers: Sequence[int]
) -> tuple[list[float], Tensor]:
    """Return each reply token's log-probability, and the states after it: [T, L, H]."""
    model, T = explainer.model, len(said)
    batch = model.batch_of([[*asked, *said]])
    with model.capture(layers) as states:
        logprobs_TV = model.next_logprobs(batch, T + 1)[0, :-1]
    found = torch.stack([states[layer][0, -T:].float().cpu() for layer in layers], dim=1)
    return logprobs_TV[range(T), list(said)].tolist(), found
