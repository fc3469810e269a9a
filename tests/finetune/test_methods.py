"""Names of methods, and the options that only some of them take."""

from __future__ import annotations

from itertools import permutations

import pytest

from safetylayers.errors import UsageError
from safetylayers.finetune import Method, MethodOptions, parse_method
from safetylayers.finetune.options import OPTIONS


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("full", Method()),
        ("sppft", Method(protects_map=True)),
        ("freeze:2-3-lora-kl", Method(block=(2, 3), adapter="lora", objective="kl")),
        ("sppft-safelora", Method(protects_map=True, adapter="safelora")),
        ("full-mix", Method(objective="mix")),
    ],
)
def test_a_name_is_freezing_adapter_and_objective(name: str, expected: Method) -> None:
    assert parse_method(name) == expected


def test_every_order_of_the_parts_is_the_same_method() -> None:
    names = {parse_method("-".join(parts)).name for parts in permutations(("sppft", "lora", "constrained"))}
    assert names == {"sppft-lora-constrained"}
    assert parse_method("full-kl").name == "kl"


@pytest.mark.parametrize(
    "name", ["sppft-full", "kl-mix", "lora-safelora", "sppft--kl", "-kl", "kl-", "freeze:1-2-sppft"]
)
def test_two_of_a_kind_and_stray_hyphens_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="There is no method"):
        parse_method(name)


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_belongs_to_its_part_of_a_method_alone(name: str) -> None:
    option = OPTIONS[name]
    given = MethodOptions(**{name: option.default})
    assert given.resolve(parse_method(f"sppft-{option.part}"))[name] == option.default
    with pytest.raises(UsageError, match=f"belongs to the method {option.part}, not to lora"):
        given.resolve(parse_method("lora"))


def test_defaults_are_filled_in() -> None:
    assert MethodOptions(proximal=0.5).resolve(parse_method("lisa")) == {
        "safety_steps": OPTIONS["safety_steps"].default, "user_steps": OPTIONS["user_steps"].default, "proximal": 0.5
    }  # fmt: skip
    assert MethodOptions().resolve(parse_method("full")) == {}


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("mix", MethodOptions(safety_share=1.0)),
        ("mix", MethodOptions(safety_share=float("nan"))),
        ("lisa", MethodOptions(user_steps=0)),
        ("kl", MethodOptions(kl_weight=float("inf"))),
        ("kl", MethodOptions(kl_at="logits")),
        ("safelora", MethodOptions(project_below=2)),
    ],
)
def test_numbers_that_make_no_sense_are_usage_errors(method: str, options: MethodOptions) -> None:
    with pytest.raises(UsageError, match=r"makes no sense|cannot be"):
        options.resolve(parse_method(method))
