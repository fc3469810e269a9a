"""The search itself: curves, gap, sweeps, decision, map (arXiv 2408.17003, section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from torch import Tensor

from safetylayers.errors import UsageError
from safetylayers.evaluate.log_odds import discriminating_openings
from safetylayers.locate.curves import Curve, PairAngles, drawn_curves, pair_angles, similarity_curves
from safetylayers.locate.decision import (
    Hits,
    Range,
    Sweep,
    bound_interval,
    lower_candidates,
    make_sweep,
    upper_candidates,
)
from safetylayers.locate.directions import difference_of_means, fit_probes, instruction_end
from safetylayers.locate.gap import LEAST_GROWTH, SHUFFLINGS, Gap, find_gap
from safetylayers.locate.refusals import Counter, OddsCounter, TextCounter, calibrate, refused
from safetylayers.locate.safety_map import MapRecord, SafetyMap
from safetylayers.locate.strength import find_strength
from safetylayers.prompts import PromptSet, Template, builtin, render
from safetylayers.records import ProgressCallback, Provenance, Rate
from safetylayers.stats import newcombe

if TYPE_CHECKING:
    from safetylayers.models import ChatModel

Mode = Literal["default", "faithful"]
DRAWN_PAIRS = 500
"""r in the paper, of each kind; for the faithful mode."""
GENERATED: dict[Mode, int] = {"default": 8, "faithful": 16}
"""Tokens; 4 to 8 already show a refusal (section 3.3)."""
FEWEST_PROMPTS = 10
SATURATED = 0.6
"""With more of the borderline prompts refused already, scaling up has little left to show: alpha goes down first."""
MOST_APART = 0.05
"""Share of the prompts by which counts from log-odds and from text may differ."""


@dataclass(frozen=True)
class _Unscaled:
    """What the model does by itself."""

    malicious: Hits
    normal: Hits
    borderline: Hits
    openings: tuple[str, ...]
    threshold: float


def locate(
    model: ChatModel,
    *,
    normal: PromptSet | None = None,
    malicious: PromptSet | None = None,
    borderline: PromptSet | None = None,
    base: ChatModel | None = None,
    mode: Mode = "default",
    template: Template = "chat",
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> SafetyMap:
    """Find a model's safety layers, or that it has none.

    Args:
        model: the aligned model.
        normal: by itself the built-in set's calibration split, like `malicious`.
        malicious: requests that it should refuse.
        borderline: the over-refusal set D_o; by itself the built-in set without its test split.
        base: the model before alignment, as a control: its gap must be clearly smaller.
        mode: "faithful" counts refusals on generated text for every candidate, as the paper does; "default" reads them
            from the opening's log-odds and generates only to confirm.
        template: how prompts are rendered.
        seed: of all draws.
        progress: told of each stage.

    Raises:
        MissingChatTemplateError: the tokenizer has none and `template` is "chat".
        UsageError: a prompt set has fewer than `FEWEST_PROMPTS`.
    """
    normal = normal or builtin("normal", "calibration")
    malicious = malicious or builtin("malicious", "calibration")
    borderline = borderline or builtin("borderline", "train") + builtin("borderline", "calibration")
    for prompts in (normal, malicious, borderline):
        if len(prompts) < FEWEST_PROMPTS:
            raise UsageError(
                f"{prompts.name}: only {len(prompts)} prompts.",
                mend=f"Locating needs at least {FEWEST_PROMPTS} of each kind; the paper takes 100.",
            )
    search = _Search(model, mode, template, seed, progress)
    return search.run(normal, malicious, borderline, base)


@dataclass(frozen=True)
class _Search:
    model: ChatModel
    mode: Mode
    template: Template
    seed: int
    progress: ProgressCallback | None

    def run(self, normal: PromptSet, malicious: PromptSet, borderline: PromptSet, base: ChatModel | None) -> SafetyMap:
        end = instruction_end(self.model, self.template)
        self._tell(0, "reading hidden states")
        normal_states, malicious_states = (self._states(self.model, s, (-1, end)) for s in (normal, malicious))
        pairs = pair_angles(normal_states[:, :, 0], malicious_states[:, :, 0])
        curves, gap = self._gap(pairs)
        self._tell(1, "asking the unscaled model")
        unscaled = self._unscaled(normal, malicious, borderline)
        probes = fit_probes(normal_states[:, :, 0], malicious_states[:, :, 0], self.seed)
        base_gap = self._gap(self._pairs(base, normal, malicious))[1] if base else None
        used = {"normal": normal, "malicious": malicious, "borderline": borderline}
        record = MapRecord(
            provenance=Provenance(
                model=self.model.name,
                model_hash=self.model.weights_hash,
                data={f"{role}: {prompts.name}": prompts.content_hash for role, prompts in used.items()},
                seed=self.seed,
            ),
            architecture=self.model.architecture,
            n_layers=self.model.n_layers,
            mode=self.mode,
            template=self.template,
            verdict="",
            curves=curves,
            gap=gap,
            base_gap=base_gap,
            malicious_refused=Rate.of(unscaled.malicious.tolist()),
            normal_refused=Rate.of(unscaled.normal.tolist()),
            borderline_refused=Rate.of(unscaled.borderline.tolist()),
            openings=unscaled.openings,
            probes=probes.scores,
        )
        reason = _why_none(record)
        found = record.model_copy(update={"verdict": reason} if reason else self._sweeps(record, unscaled, borderline))
        self._tell(4, "done")
        tensors = {
            "refusal_directions": difference_of_means(malicious_states[:, :, 0], normal_states[:, :, 0]),
            "harm_directions": difference_of_means(malicious_states[:, :, 1], normal_states[:, :, 1]),
            "probe_weights": probes.weights_LH,
            "probe_bias": probes.bias_L,
        }
        return SafetyMap(found, tensors)

    def _tell(self, done: int, what: str) -> None:
        if self.progress:
            self.progress(done, 4, what)

    def _render(self, prompts: PromptSet) -> list[str]:
        return render(prompts.texts, self.model.tokenizer, self.template)

    def _states(self, model: ChatModel, prompts: PromptSet, positions: Sequence[int]) -> Tensor:
        return model.hidden_states(render(prompts.texts, model.tokenizer, self.template), positions=positions)

    def _pairs(self, model: ChatModel, normal: PromptSet, malicious: PromptSet) -> PairAngles:
        return pair_angles(*(self._states(model, prompts, (-1,))[:, :, 0] for prompts in (normal, malicious)))

    def _gap(self, pairs: PairAngles) -> tuple[dict[str, Curve], Gap]:
        curves, degrees = similarity_curves(pairs), pairs.gap()
        if self.mode == "faithful":
            curves, degrees = drawn_curves(pairs, DRAWN_PAIRS, self.seed)
        draws = pairs.bootstrap_gaps(SHUFFLINGS, self.seed)
        return curves, find_gap(degrees, draws, pairs.shuffled_gaps(SHUFFLINGS, self.seed))

    def _unscaled(self, normal: PromptSet, malicious: PromptSet, borderline: PromptSet) -> _Unscaled:
        texts = [self._render(prompts) for prompts in (malicious, normal, borderline)]
        replies = self.model.generate([text for part in texts for text in part], max_new_tokens=GENERATED[self.mode])
        is_refusal = refused(replies)
        openings = discriminating_openings(self.model, replies, is_refusal.tolist())
        threshold = 0.0
        if openings:
            everything = OddsCounter(self.model, [text for part in texts for text in part], openings, 0.0)
            threshold = calibrate(everything.log_odds([(0, 0)], 1.0)[0], is_refusal)
        cuts = np.cumsum([len(part) for part in texts])[:-1]
        on_malicious, on_normal, on_borderline = np.split(is_refusal, cuts)
        return _Unscaled(on_malicious, on_normal, on_borderline, openings, threshold)

    def _sweeps(self, record: MapRecord, unscaled: _Unscaled, borderline: PromptSet) -> dict[str, object]:
        """Find alpha and both bounds; return what the map has to say of them."""
        texts = self._render(borderline)
        by_text = TextCounter(self.model, texts, GENERATED[self.mode])
        if self.mode == "default" and unscaled.openings:
            by_odds = OddsCounter(self.model, texts, unscaled.openings, unscaled.threshold)
            decision = self._decide(record.gap, unscaled, by_odds)
            on_text = decision.count_best(by_text)
            if decision.is_confirmed(on_text):
                return decision.findings("log-odds", on_text, self.model.n_layers, self.seed)
            self._tell(2, "log-odds and text disagree")
        decision = self._decide(record.gap, unscaled, by_text)
        return decision.findings("text", decision.count_best(by_text), self.model.n_layers, self.seed)

    def _decide(self, gap: Gap, unscaled: _Unscaled, counter: Counter) -> _Decision:
        self._tell(2, "sweeping the upper bound")
        uppers = upper_candidates(gap.onset, gap.smoothing, self.model.n_layers)
        tried, best = find_strength(
            counter,
            uppers,
            down_first=bool(unscaled.borderline.mean() > SATURATED),
            one_by_one=self.mode == "faithful",
        )
        upper, upper_hits = tried[best]
        self._tell(3, "sweeping the lower bound")
        lowers = lower_candidates(gap.onset, uppers[upper.chosen][1])
        lower_hits = counter.hits(lowers, upper.alpha)
        return _Decision(
            upper=upper,
            upper_hits=upper_hits,
            lower=make_sweep(lowers, lower_hits, upper.alpha),
            lower_hits=lower_hits,
            tried=tuple(sweep for sweep, _ in tried),
        )


@dataclass(frozen=True)
class _Decision:
    """Both sweeps, and the strengths that were tried for them."""

    upper: Sweep
    upper_hits: Hits
    lower: Sweep
    lower_hits: Hits
    tried: tuple[Sweep, ...]

    def findings(self, counted: str, on_text: dict[Range, int], layers: int, seed: int) -> dict[str, object]:
        """Return what the map has to say of them."""
        first, last = self.lower.candidates[self.lower.chosen]
        alpha = self.upper.alpha
        return {
            "first": first,
            "last": last,
            "alpha": alpha,
            "first_interval": bound_interval(list(self.lower.candidates), self.lower_hits, alpha, 0, seed),
            "last_interval": bound_interval(list(self.upper.candidates), self.upper_hits, alpha, 1, seed),
            "alpha_search": self.tried,
            "upper_sweep": self.upper,
            "lower_sweep": self.lower,
            "counted": counted,
            "confirmed": {f"{a}-{b}": count for (a, b), count in on_text.items()},
            "verdict": f"Safety layers {first} to {last} of 0 to {layers - 1}.",
        }

    def count_best(self, by_text: TextCounter) -> dict[Range, int]:
        """Count the chosen range and its runner-up on generated text."""
        ranges = [self.lower.candidates[index] for index in self._best_two()]
        hits = by_text.hits(ranges, self.lower.alpha)
        return {found: int(row.sum()) for found, row in zip(ranges, hits, strict=True)}

    def is_confirmed(self, on_text: dict[Range, int]) -> bool:
        """Whether text counts about as many refusals, and does not put the runner-up first."""
        counts = list(on_text.values())
        swept = [self.lower.counts[index] for index in self._best_two()]
        near = all(abs(a - b) <= MOST_APART * self.lower.total for a, b in zip(counts, swept, strict=True))
        sign = 1 if self.lower.alpha > 1 else -1
        return near and (len(counts) < 2 or swept[0] == swept[1] or sign * (counts[0] - counts[1]) >= 0)

    def _best_two(self) -> list[int]:
        others = [index for index in range(len(self.lower.candidates)) if index != self.lower.chosen]
        sign = 1 if self.lower.alpha > 1 else -1
        return [self.lower.chosen, *sorted(others, key=lambda index: -sign * self.lower.counts[index])[:1]]


def _why_none(record: MapRecord) -> str:
    """Return why the model has no safety layers; empty where it may have some."""
    gap, base = record.gap, record.base_gap
    normal, malicious = record.normal_refused, record.malicious_refused
    least, most = newcombe(normal.count, normal.total, malicious.count, malicious.total)
    if least <= 0:
        return (
            f"No safety layers: the model does not refuse. It refuses {record.malicious_refused} of malicious and "
            f"{record.normal_refused} of normal prompts (difference at most {100 * most:.0f} points)."
        )
    if not gap.opens:
        return (
            f"No safety layers: the angular gap grows by {gap.peak_growth:.1f} degrees only. It takes "
            f"{LEAST_GROWTH:.0f}, and more than the {gap.null_growth:.1f} of shuffled labels."
        )
    if base and gap.peak_growth - base.peak_growth < LEAST_GROWTH:
        return (
            f"No safety layers: the gap grows by {gap.peak_growth:.1f} degrees, in the base model by "
            f"{base.peak_growth:.1f}. Alignment has added too little."
        )
    return ""
