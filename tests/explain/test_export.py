"""Explanations in other tools' forms."""

from __future__ import annotations

import csv
import io

import pytest

from safetylayers.errors import UsageError
from safetylayers.explain import Explainer, Explanation
from safetylayers.explain.export import as_csv, as_neuronpedia, nnsight_name, transformer_lens_name
from safetylayers.models import ChatModel
from support import ARCHITECTURES, random_chat_model


@pytest.fixture(scope="module")
def explanation(explainer: Explainer) -> Explanation:
    return explainer.explain('=HYPERLINK("x") a, bomb', methods=("held-gradient", "occlusion"), faithfulness=False)


def test_a_table_has_a_row_a_word_and_a_column_a_method(explanation: Explanation) -> None:
    head, *rows = csv.reader(io.StringIO(as_csv(explanation)))
    assert head == ["word", "held-gradient", "occlusion"]
    assert [row[0] for row in rows] == ['\'=HYPERLINK("x")', "a,", "bomb"]
    assert [float(row[2]) for row in rows] == list(explanation.scores[1].saliency.words)


def test_an_activation_has_a_value_a_token_and_the_largest(explanation: Explanation) -> None:
    found = as_neuronpedia(explanation)
    assert len(found["tokens"]) == len(found["values"])
    assert found["maxValue"] == max(found["values"]) == found["values"][found["maxValueTokenIndex"]]
    assert as_neuronpedia(explanation, "occlusion")["values"] == list(explanation.scores[1].saliency.tokens)
    with pytest.raises(UsageError, match="no scores by 'magic'"):
        as_neuronpedia(explanation, "magic")


def test_names_are_those_of_the_other_tools(llama: ChatModel) -> None:
    assert transformer_lens_name(3) == "blocks.3.hook_resid_post"
    assert transformer_lens_name(0, "attention") == "blocks.0.hook_attn_out"
    assert nnsight_name(llama, 2) == "model.layers.2.output"
    assert nnsight_name(llama, 2, "attention") == "model.layers.2.self_attn.output"
    assert nnsight_name(llama, 2, "mlp") == "model.layers.2.mlp.output"
    with pytest.raises(UsageError, match="no component"):
        transformer_lens_name(0, "nose")  # type: ignore[arg-type]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_has_its_own_names(architecture: str) -> None:
    model = random_chat_model(architecture)
    for component in ("residual", "attention", "mlp"):
        path = nnsight_name(model, 1, component).removesuffix(".output")
        model.model.get_submodule(path)
