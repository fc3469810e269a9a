"""Times locating in the default mode against the faithful one, and compares what they decide.

    python benchmarks/locate.py            tiny, then a random Llama of 30 layers
    python benchmarks/locate.py --quick    tiny alone

On tiny both modes run whole. A random model does not refuse, so on the random Llama (30 layers, 576 wide) the sweeps
are run by themselves: the same candidate ranges, strengths and prompts through both counters. For both to see refusals,
an opening takes the place of refusal phrases: the most frequent first token of the random model's own replies.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from safetylayers.locate import locate
from safetylayers.locate.decision import Hits, Range, lower_candidates, make_sweep, upper_candidates
from safetylayers.locate.refusals import OddsCounter, calibrate
from safetylayers.locate.search import GENERATED
from safetylayers.models import ChatModel
from safetylayers.prompts import builtin, render

ONSET, SMOOTHING, ALPHAS = 10, 15, (1.05, 1.1, 1.15)
"""Of the random model's sweeps: about where the paper's models have them."""
PROMPTS = 60


def whole(name: str) -> None:
    """Locate in both modes."""
    seconds, found = {}, {}
    for mode in ("default", "faithful"):
        model, base = ChatModel.load(name), ChatModel.load("tiny-base")
        start = time.perf_counter()
        found[mode] = locate(model, base=base, mode=mode)
        seconds[mode] = time.perf_counter() - start
        print(f"{name}, {mode}: {seconds[mode]:.1f} s, {found[mode].verdict}")
    same = found["default"].range == found["faithful"].range
    print(f"{name}: {seconds['faithful'] / seconds['default']:.1f}x faster, same range: {same}")


def random_llama() -> ChatModel:
    """Return the random model, with tiny's tokenizer."""
    tokenizer = ChatModel.load("tiny").tokenizer
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=576, num_hidden_layers=30, num_attention_heads=9,
        num_key_value_heads=3, intermediate_size=1536, tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id, bos_token_id=None,
    )  # fmt: skip
    return ChatModel(LlamaForCausalLM(config), tokenizer, name="random Llama, 30 layers of 576")


class OpeningCounter:
    """The faithful counter with an opening in place of refusal phrases: it generates as many tokens."""

    def __init__(self, model: ChatModel, texts: Sequence[str], opening: str) -> None:
        """Take the model, its prompts and the opening."""
        self.model, self.texts, self.opening = model, texts, opening

    def hits(self, candidates: Sequence[Range], alpha: float) -> Hits:
        """Return opened so or not: [candidates, prompts]."""
        return np.stack([self._one(candidate, alpha) for candidate in candidates])

    def _one(self, candidate: Range, alpha: float) -> Hits:
        with self.model.scale(alpha, *candidate):
            return self.unscaled()

    def unscaled(self) -> Hits:
        """Return which replies open so."""
        replies = self.model.generate(self.texts, max_new_tokens=GENERATED["faithful"])
        return np.array([reply.startswith(self.opening) for reply in replies])


def sweeps(counter: OpeningCounter | OddsCounter, layers: int) -> tuple[list[Range], float]:
    """Run the sweeps of a search; return what they choose, and the seconds."""
    start = time.perf_counter()
    uppers = upper_candidates(ONSET, SMOOTHING, layers)
    chosen = [make_sweep(uppers, counter.hits(uppers, alpha), alpha) for alpha in ALPHAS]
    last = uppers[chosen[-1].chosen][1]
    lowers = lower_candidates(ONSET, last)
    lower = make_sweep(lowers, counter.hits(lowers, ALPHAS[-1]), ALPHAS[-1])
    return [uppers[c.chosen] for c in chosen] + [lowers[lower.chosen]], time.perf_counter() - start


def random_sweeps() -> None:
    """Run the sweeps of both modes on the random model."""
    model = random_llama()
    texts = render(builtin("borderline", "train").take(PROMPTS).texts, model.tokenizer)
    replies = model.generate(texts, max_new_tokens=1)
    opening, count = Counter(reply for reply in replies if reply).most_common(1)[0]
    slow = OpeningCounter(model, texts, opening)
    fast = OddsCounter(model, texts, [opening], 0.0)
    fast.threshold = calibrate(fast.log_odds([(0, 0)], 1.0)[0], slow.unscaled())
    print(f"{model.name}: {count} of {len(texts)} replies open with {opening!r}")
    chosen_fast, seconds_fast = sweeps(fast, model.n_layers)
    chosen_slow, seconds_slow = sweeps(slow, model.n_layers)
    print(f"default: {seconds_fast:.1f} s, chose {chosen_fast}")
    print(f"faithful: {seconds_slow:.1f} s, chose {chosen_slow}")
    print(f"{model.name}: {seconds_slow / seconds_fast:.1f}x faster, same choices: {chosen_fast == chosen_slow}")


if __name__ == "__main__":
    whole("tiny")
    if "--quick" not in sys.argv:
        random_sweeps()
