"""What caused a refusal: the refused prompt beside one that is answered, heads taken out, a direction added."""

from __future__ import annotations

from typing import TYPE_CHECKING

from safetylayers.errors import UsageError
from safetylayers.explain.attribution import Attribution, attribute
from safetylayers.explain.counterparts import counterpart
from safetylayers.explain.heads import HeadEffect, rank_heads
from safetylayers.explain.patching import LayerPatching, Patching, patch, patch_layers
from safetylayers.explain.saliency import DEFAULT, METHODS, Explained
from safetylayers.explain.steering import DirectionAblation, DoseResponse, ablate_directions, dose_response
from safetylayers.explain.target import values_of
from safetylayers.explain.tokens import Reading
from safetylayers.prompts import builtin, render
from safetylayers.records import ProgressCallback, Record

if TYPE_CHECKING:
    from safetylayers.explain.explainer import Explainer

SHORTLIST = 10
"""Places that attribution patching proposes and patching confirms."""
HEADS = 20
"""That are kept."""
REFERENCE = 32
"""Built-in calibration prompts of each kind that set the unit of steering."""


class Causes(Record):
    """What changing the inside of the model does to its refusal of a prompt."""

    counterpart_made: bool
    """Whether the answered prompt was made of the refused one by filling words in, and by nobody's hand."""
    denoising: LayerPatching
    """How much of the refusal comes back where the refused prompt's activations are put into the other's run."""
    noising: LayerPatching
    """How much of it goes the other way round."""
    places: Patching
    """Denoising, each layer's output at each place."""
    shortlist: Attribution
    """Attention and MLP of all layers and places, by their gradients; the strongest ones confirmed by patching."""
    heads: tuple[HeadEffect, ...]
    """The strongest heads of the refused prompt's run."""
    doses: tuple[DoseResponse, ...]
    """The refusal direction of one layer added to its output: on the refused prompt, and on the other."""
    ablation: DirectionAblation
    """That direction taken out of the whole refused prompt's run."""


def find_causes(
    explainer: Explainer,
    prompt: str,
    against: str | None = None,
    *,
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> Causes:
    """Change the inside of the model, and see what becomes of a refusal.

    Args:
        explainer: of the model.
        prompt: one that is refused, or one that is not.
        against: its counterpart, of which the opposite is true; by itself one is made by filling words in.
        seed: of random directions.
        progress: told after each step.

    Raises:
        UsageError: both prompts are refused or both answered, or no counterpart can be made.
    """
    model, target = explainer.model, explainer.target
    given, other = explainer.read(prompt), _other(explainer, explainer.read(prompt), against)
    value, other_value = values_of(target, model, [given.token_ids, other.token_ids]).tolist()
    if (value > 0) == (other_value > 0):
        both = "refused" if value > 0 else "answered"
        raise UsageError(
            f"Both prompts are {both}: there is no refusal to put from one into the other.",
            mend="Give a prompt that is refused and a like one that is not.",
        )
    clean, answered = (given, other) if value > 0 else (other, given)
    found = explainer.found
    blocks = [found.range] if found and found.found else []
    layer = blocks[0][1] if blocks else model.n_layers // 2
    directions_LH = explainer.scales.refusal.directions_LH
    reference = [
        text for kind in ("malicious", "normal") for text in builtin(kind, "calibration").take(REFERENCE).texts
    ]
    rendered = render(reference, model.tokenizer, explainer.template)
    return Causes(
        counterpart_made=against is None,
        denoising=patch_layers(model, target, clean, answered, blocks=blocks, progress=progress),
        noising=patch_layers(model, target, clean, answered, way="noising", blocks=blocks, progress=progress),
        places=patch(model, target, clean, answered, components=("residual",), progress=progress),
        shortlist=attribute(
            model, target, clean, answered, components=("attention", "mlp"), top=SHORTLIST, progress=progress
        ),
        heads=rank_heads(model, target, clean, progress=progress)[:HEADS],
        doses=tuple(
            dose_response(
                model, target, each, layer, directions_LH[layer], reference=rendered, seed=seed, progress=progress
            )
            for each in (clean, answered)
        ),
        ablation=ablate_directions(model, target, clean, directions_LH[layer][None], seed=seed),
    )


def _other(explainer: Explainer, reading: Reading, against: str | None) -> Reading:
    """Return the counterpart. Raises UsageError where none can be made."""
    if against is not None:
        return explainer.read(against)
    scores = METHODS[DEFAULT](Explained(explainer.model, explainer.target, reading)).words
    refused = float(values_of(explainer.target, explainer.model, [reading.token_ids])[0]) > 0
    ranking = sorted(range(len(scores)), key=lambda n: scores[n], reverse=refused)
    made = counterpart(explainer.model, explainer.target, reading, ranking)
    if made is None:
        raise UsageError(
            "No counterpart can be made of this prompt: whatever words are filled in, the model does the same.",
            mend="Give a like prompt of which the opposite is true with --against.",
        )
    return made
