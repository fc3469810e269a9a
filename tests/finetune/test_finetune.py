"""What moves, what stays, what survives a kill."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from safetylayers.errors import DataError, FrozenTensorError, NonFiniteLossError, OutputError, UsageError
from safetylayers.finetune import FinetuneResult, finetune, parse_method
from safetylayers.finetune.data import IGNORED, encode
from safetylayers.finetune.freezing import check_unmoved, fingerprint
from safetylayers.models import ChatModel, projections
from safetylayers.prompts import Example, ExampleSet
from support import random_chat_model

EXAMPLES = ExampleSet("toy", tuple(Example.of(f"Say {word}", f"{word}!") for word in "abcdefgh"))


def run(output: Path, method: str, model: ChatModel | None = None, **changes: object) -> FinetuneResult:
    settings: dict[str, object] = {"max_steps": 6, "batch_size": 2, "learning_rate": 1e-2, "lora_rank": 2, **changes}
    settings.setdefault("data", EXAMPLES)
    return finetune(model or random_chat_model("Llama"), method=method, output=output, **settings)  # type: ignore[arg-type]


def moved_layers(before: ChatModel, folder: Path) -> list[int]:
    after = ChatModel.load(folder, device="cpu")
    return [
        index
        for index, (old, new) in enumerate(zip(before.layers, after.layers, strict=True))
        if not all(torch.equal(p, q) for p, q in zip(projections(old).values(), projections(new).values(), strict=True))
    ]


@pytest.mark.parametrize("architecture", ["Llama", "GPTNeoX", "Mixtral"])
def test_a_frozen_block_stays_bitwise_and_the_rest_moves(tmp_path: Path, architecture: str) -> None:
    model = random_chat_model(architecture)
    result = run(tmp_path, "freeze:1-2", model)
    assert result.frozen_layers == (1, 2)
    assert result.frozen_count == sum(len(projections(layer)) for layer in model.layers[1:3])
    assert moved_layers(model, tmp_path) == [0, 3]


def test_full_fine_tuning_moves_every_layer_but_not_the_model_it_was_given(tmp_path: Path) -> None:
    model = random_chat_model("Llama")
    before = model.weights_hash
    run(tmp_path, "full", model)
    assert moved_layers(model, tmp_path) == [0, 1, 2, 3]
    assert model.fresh_weights_hash() == before


def test_adapters_do_not_touch_protected_layers(tmp_path: Path) -> None:
    from safetylayers.finetune.adapters import with_adapters

    model = random_chat_model("Llama")
    adapted = with_adapters(random_chat_model("Llama"), (1, 2), rank=2, seed=0)
    places = {name for name, _ in adapted.named_parameters() if "lora" in name}
    assert places
    assert not any(".layers.1." in name or ".layers.2." in name for name in places)
    run(tmp_path, "lora", model)
    assert moved_layers(model, tmp_path) == [0, 1, 2, 3]


class KilledError(RuntimeError):
    """Stands for a process that dies."""


def test_a_killed_run_resumes_to_the_same_weights(tmp_path: Path) -> None:
    run(tmp_path / "whole", "freeze:1-2", save_every=2)

    def die(done: int, total: int, what: str) -> None:
        if done == 5:
            raise KilledError

    with pytest.raises(KilledError):
        run(tmp_path / "killed", "freeze:1-2", save_every=2, progress=die)
    assert not (tmp_path / "killed" / "result.json").exists()
    steps: list[int] = []
    run(tmp_path / "killed", "freeze:1-2", save_every=2, progress=lambda done, total, what: steps.append(done))
    assert steps == [5, 6]
    whole, resumed = (ChatModel.load(tmp_path / name, device="cpu") for name in ("whole", "killed"))
    assert whole.weights_hash == resumed.weights_hash


def test_a_finished_run_is_not_run_again(tmp_path: Path) -> None:
    first = run(tmp_path, "full")
    assert run(tmp_path, "full", progress=lambda done, total, what: pytest.fail("it ran")) == first


def test_a_loss_that_is_no_number_stops_the_run(tmp_path: Path) -> None:
    model = random_chat_model("Llama")
    with torch.no_grad():
        model.model.get_output_embeddings().weight.fill_(float("inf"))
    with pytest.raises(NonFiniteLossError, match="at step 1; there is no checkpoint yet"):
        run(tmp_path, "full", model)
    assert not (tmp_path / "result.json").exists()


def test_the_card_says_what_was_held_still(tmp_path: Path) -> None:
    result = run(tmp_path, "freeze:1-2")
    card = (tmp_path / "README.md").read_text()
    assert f"projections of layers 1 to 2: {result.frozen_count} tensors, proved bitwise unchanged" in card


def test_a_moved_tensor_is_named() -> None:
    model = random_chat_model("Llama").model
    name = next(name for name, _ in model.named_parameters())
    before = fingerprint(model, [name])
    check_unmoved(model, before)
    with torch.no_grad():
        model.get_parameter(name)[0, 0] += 1
    with pytest.raises(FrozenTensorError, match=name):
        check_unmoved(model, before)


@pytest.mark.parametrize("name", ["sppf", "freeze:3-1", "freeze:a-b", ""])
def test_an_unknown_method_is_answered_with_the_choices(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_method(name)
    assert "sppft-lora" in caught.value.mend


def test_settings_that_make_no_sense_are_usage_errors(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs the model's safety map"):
        run(tmp_path, "sppft")
    with pytest.raises(UsageError, match="no layer 9"):
        run(tmp_path, "freeze:2-9")
    with pytest.raises(UsageError, match="learning rate"):
        run(tmp_path, "full", learning_rate=float("nan"))
    with pytest.raises(DataError, match="nothing to learn"):
        run(tmp_path, "full", max_length=4)
    for name, value in {
        "max_steps": 0,
        "batch_size": 0,
        "lora_rank": 0,
        "save_every": 0,
        "epochs": float("nan"),
    }.items():
        with pytest.raises(UsageError, match="makes no sense"):
            run(tmp_path, "full", **{name: value})
    assert not list(tmp_path.iterdir())


class AnyMap:
    """A map of layers 1 to 2 for whatever model."""

    range = (1, 2)

    def check(self, model: ChatModel) -> None:
        """Accept it."""


@pytest.mark.parametrize("method", ["sppft", "sppft-lora"])
@pytest.mark.parametrize("scope", ["projections", "layers"])
def test_the_maps_layers_stay_and_the_rest_moves(tmp_path: Path, method: str, scope: str) -> None:
    model = random_chat_model("Llama")
    result = run(tmp_path, method, model, map=AnyMap(), scope=scope)
    kept = ChatModel.load(tmp_path, device="cpu").model
    assert result.frozen_names
    assert all(torch.equal(model.model.get_parameter(n), kept.get_parameter(n)) for n in result.frozen_names)
    assert moved_layers(model, tmp_path) == [0, 3]


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_checkpoint_that_a_kill_cut_short_is_passed_over(tmp_path: Path, method: str) -> None:
    whole = run(tmp_path / "whole", method, save_every=2)

    def die(done: int, total: int, what: str) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed", method, save_every=2, progress=die)
    last = tmp_path / "killed" / "checkpoints" / "checkpoint-4"
    (last / "trainer_state.json").unlink()
    next(last.glob("*.safetensors")).write_bytes(b"")
    resumed = run(tmp_path / "killed", method, save_every=2)
    assert resumed.final_loss == whole.final_loss
    first, second = (ChatModel.load(tmp_path / name, device="cpu") for name in ("whole", "killed"))
    assert first.weights_hash == second.weights_hash


def test_another_run_does_not_go_on_from_this_one(tmp_path: Path) -> None:
    run(tmp_path, "full", save_every=2)
    with pytest.raises(UsageError, match="method was full, is freeze:1-2"):
        run(tmp_path, "freeze:1-2")
    with pytest.raises(UsageError, match=r"learning_rate was 0\.01"):
        run(tmp_path, "full", learning_rate=1e-3)
    assert run(tmp_path, "freeze:1-2", resume=False).method == "freeze:1-2"
    assert moved_layers(random_chat_model("Llama"), tmp_path) == [0, 3]


@pytest.mark.parametrize("room", [20_000, 200_000])
def test_a_full_disk_is_an_output_error(tmp_path: Path, room: int) -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        with pytest.raises(OutputError, match="cannot be saved"):
            run(tmp_path, "full", save_every=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_the_length_limit_costs_is_counted(tmp_path: Path) -> None:
    long = (Example.of("hi", "x" * 200), Example.of("y" * 200, "z"))
    result = run(tmp_path, "full", data=ExampleSet("long", (*long, *EXAMPLES)), max_length=40)
    assert (result.rows, result.truncated, result.left_out) == (9, 1, 1)


def test_the_loss_is_on_the_reply_and_its_end_alone() -> None:
    tokenizer = random_chat_model("Llama").tokenizer
    (row,) = encode(ExampleSet("one", (Example.of("Hi", "Yes"),)), tokenizer, 64).rows
    learnt = [label for label in row["labels"] if label != IGNORED]
    assert tokenizer.decode(learnt) == "Yes<|end|>"
    assert row["input_ids"][-len(learnt) :] == learnt


def test_files_that_are_no_run_s_are_not_written_over(tmp_path: Path) -> None:
    model = random_chat_model("Llama")
    folder = model.save(tmp_path / "model")
    with pytest.raises(UsageError, match="not from a fine-tuning run"):
        run(folder, "full", model)
    assert ChatModel.load(folder).weights_hash == model.weights_hash


def test_another_dtype_is_another_run(tmp_path: Path) -> None:
    folder = random_chat_model("Llama").save(tmp_path / "model")
    run(tmp_path / "out", "full", ChatModel.load(folder))
    with pytest.raises(UsageError, match="dtype was float32, is bfloat16"):
        run(tmp_path / "out", "full", ChatModel.load(folder, dtype="bfloat16"))


def test_a_finished_run_leaves_no_checkpoints(tmp_path: Path) -> None:
    run(tmp_path, "full", save_every=2)
    assert not (tmp_path / "checkpoints").exists()
    assert (tmp_path / "model.safetensors").exists()
