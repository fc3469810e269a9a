"""Explanations in other tools' forms: CSV, JSON as Neuronpedia has it, names of TransformerLens and nnsight."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

from safetylayers.errors import UsageError
from safetylayers.explain.explanation import Explanation
from safetylayers.models.components import COMPONENTS, Component, component_module

if TYPE_CHECKING:
    from safetylayers.models import ChatModel

_TRANSFORMER_LENS: dict[Component, str] = {
    "residual": "hook_resid_post",
    "attention": "hook_attn_out",
    "mlp": "hook_mlp_out",
}


def as_csv(explanation: Explanation) -> str:
    """Return the words' scores as CSV: a row a word, a column a method.

    A cell that a spreadsheet would take for a formula begins with an apostrophe.
    """
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["word", *(each.saliency.method for each in explanation.scores)])
    for n, word in enumerate(explanation.words):
        text = f"'{word.text}" if word.text[:1] in ("=", "+", "-", "@", "\t", "\r") else word.text
        writer.writerow([text, *(each.saliency.words[n] for each in explanation.scores)])
    return file.getvalue()


def as_neuronpedia(explanation: Explanation, method: str | None = None) -> dict[str, Any]:
    """Return one method's token scores as an activation: `tokens`, `values`, the largest and where it is.

    Raises:
        UsageError: the explanation has no such method.
    """
    scores = {each.saliency.method: each.saliency for each in explanation.scores}
    name = method or next(iter(scores), "")
    if name not in scores:
        raise UsageError(f"This explanation has no scores by {name!r}.", mend=f"It has: {', '.join(scores) or 'none'}.")
    values = list(scores[name].tokens)
    largest = max(range(len(values)), key=values.__getitem__)
    return {
        "modelId": explanation.provenance.model,
        "source": f"safetylayers {name}",
        "tokens": list(explanation.tokens),
        "values": values,
        "maxValue": values[largest],
        "maxValueTokenIndex": largest,
        "minValue": min(values),
    }


def transformer_lens_name(layer: int, component: Component = "residual") -> str:
    """Return the hook point of a layer's component in TransformerLens. Raises UsageError."""
    if component not in _TRANSFORMER_LENS:
        raise UsageError(f"There is no component {component!r}.", mend=f"Use one of: {', '.join(COMPONENTS)}.")
    return f"blocks.{layer}.{_TRANSFORMER_LENS[component]}"


def nnsight_name(model: ChatModel, layer: int, component: Component = "residual") -> str:
    """Return the path of a layer's component in nnsight, which has transformers' own names.

    Layers and attention return tuples in some architectures; nnsight shows what they return.

    Raises:
        UsageError: there is no such component.
        UnknownArchitectureError: it cannot be found in this architecture.
    """
    module = component_module(model.layers[layer], component)
    (name,) = (name for name, each in model.model.named_modules() if each is module)
    return f"{name}.output"
