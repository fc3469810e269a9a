"""Training in small: on the practice model, with few rows and steps."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from safetylayers.attach import (
    Attached,
    CorrectionTraining,
    GateSettings,
    GuardedModel,
    HeadTraining,
    LabelledRow,
    RowSet,
    SafetyLayers,
    Training,
    attach,
    builtin_rows,
    examine,
    export_adapter,
    from_map,
    load_attached,
    revalidate,
    train_layers,
)
from safetylayers.attach.correction_training import train_correction
from safetylayers.attach.folder import check_output, save_with_model
from safetylayers.attach.rows import Split, with_replies
from safetylayers.attach.states import read_states
from safetylayers.errors import DataError, LayersError, NonFiniteLossError, OutputError, UsageError, WrongModelError
from safetylayers.locate import SafetyMap, locate
from safetylayers.models import ChatModel
from safetylayers.prompts import builtin, load_values, render

SMALL = Training(
    heads=HeadTraining(epochs=4, batch_size=64, pools=4),
    correction=CorrectionTraining(rank=8, steps=60, batch_size=12, longest_prefix=8),
    replies=60,
    measured=40,
)
FEW = {"malicious": builtin("malicious", "calibration").take(24), "normal": builtin("normal", "calibration").take(24)}


@pytest.fixture(scope="module")
def tiny() -> ChatModel:
    return ChatModel.load("tiny")


@pytest.fixture(scope="module")
def found(tiny: ChatModel) -> SafetyMap:
    return locate(tiny)


@pytest.fixture(scope="module")
def made(tiny: ChatModel, found: SafetyMap, tmp_path_factory: pytest.TempPathFactory) -> SafetyLayers:
    before = tiny.fresh_weights_hash()
    layers = train_layers(tiny, found, folder=tmp_path_factory.mktemp("work"), training=SMALL)
    assert tiny.fresh_weights_hash() == before
    return layers


def test_layers_are_attached_where_the_map_says(made: SafetyLayers, found: SafetyMap) -> None:
    first, last = found.range
    assert made.record.layers == tuple(range(first, last + 1))
    assert made.record.placed_by == "map"
    assert made.record.map_hash == found.content_hash


def test_trained_heads_tell_held_out_rows_apart_and_say_how_well(made: SafetyLayers) -> None:
    plain = next(
        score for score in made.record.scores if (score.head, score.kind, score.shift) == ("harm", "prompt end", "")
    )
    assert plain.auroc > 0.75
    shifts = {score.shift for score in made.record.scores}
    assert {"base64", "jailbreak template", "polite (trained on)", "states moved by 0.1, trained without"} <= shifts


def test_an_open_gate_turns_replies_into_refusals(tiny: ChatModel, made: SafetyLayers) -> None:
    health = examine(tiny, made, **FEW)
    assert health.corrected.value > 0.8
    assert health.auroc > 0.85


def test_thresholds_keep_normal_replies_bitwise_as_they_were(tiny: ChatModel, made: SafetyLayers) -> None:
    texts = render(builtin("normal", "calibration").texts, tiny.tokenizer)
    bare = tiny.generate(texts, max_new_tokens=32)
    guarded = GuardedModel(tiny, made).generate(texts, max_new_tokens=32)
    assert sum(one != other for one, other in zip(bare, guarded, strict=True)) <= 0.01 * len(texts)


def test_the_same_seed_gives_the_same_layers_also_after_an_interruption(
    tiny: ChatModel, found: SafetyMap, made: SafetyLayers, tmp_path: Path
) -> None:
    class StoppedError(Exception):
        pass

    def interrupt(done: int, _total: int, what: str) -> None:
        if what == "training the correction" and done == 55:
            raise StoppedError

    with pytest.raises(StoppedError):
        train_layers(tiny, found, folder=tmp_path, training=SMALL, progress=interrupt)
    steps: list[int] = []
    again = train_layers(
        tiny, found, folder=tmp_path, training=SMALL,
        progress=lambda done, _total, what: steps.append(done) if what == "training the correction" else None,
    )  # fmt: skip
    assert steps[0] == 51
    for one, other in ((again.heads, made.heads), (again.correction, made.correction)):
        for name, tensor in one.state_dict().items():
            assert torch.equal(tensor, other.state_dict()[name]), name
    assert again.record.calibration == made.record.calibration


def test_a_folder_with_layers_is_the_plain_model_to_transformers_and_the_guarded_one_to_us(
    tiny: ChatModel, made: SafetyLayers, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    save_with_model(tiny, made, tmp_path / "guarded")
    plain = ChatModel(AutoModelForCausalLM.from_pretrained(tmp_path / "guarded"), tiny.tokenizer)
    assert plain.weights_hash == tiny.weights_hash
    attached = load_attached(tmp_path / "guarded")
    texts = render(builtin("malicious", "calibration").texts[:20], tiny.tokenizer)
    assert attached.model.generate(texts) == GuardedModel(tiny, made).generate(texts)
    attached.detach()
    assert attached.model.generate(texts) == tiny.generate(texts)


def test_a_folder_with_another_model_is_not_written_over(tiny: ChatModel, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"precious")
    with pytest.raises(UsageError, match="holds another model"):
        check_output(tiny, tmp_path)


def test_layers_are_revalidated_on_weights_that_changed(tiny: ChatModel, made: SafetyLayers) -> None:
    changed = ChatModel(copy.deepcopy(tiny.model), tiny.tokenizer, name="changed")
    with torch.no_grad():
        changed.model.lm_head.weight.mul_(1.001)
    with pytest.raises(WrongModelError, match="--revalidate"):
        attach(changed, made)
    held, layers = revalidate(changed, made)
    assert held.verdict in ("holds", "recalibrated")
    with attach(changed, layers) as attached:
        assert isinstance(attached, Attached)
    with torch.no_grad():
        changed.layers[0].mlp.down_proj.weight.normal_(std=0.5)
    changed.__dict__.pop("weights_hash")
    broken, _ = revalidate(changed, made)
    assert broken.verdict == "retrain"


def test_layers_that_were_never_examined_cannot_be_revalidated(tiny: ChatModel, made: SafetyLayers) -> None:
    with pytest.raises(UsageError, match="examined on other prompts"):
        revalidate(tiny, made, **FEW)
    bare = replace(made, record=made.record.model_copy(update={"health": None}))
    with pytest.raises(LayersError, match="never examined"):
        revalidate(tiny, bare, **FEW)


def test_a_map_alone_makes_layers_that_watch_and_steer(tiny: ChatModel, found: SafetyMap) -> None:
    layers = from_map(tiny, found)
    assert not layers.record.trained
    assert layers.record.health
    assert layers.record.health.auroc > 0.9
    with attach(tiny, found) as attached:
        assert attached.layers.record.layers == layers.record.layers


def test_a_model_without_safety_layers_gets_them_where_heads_tell_most(tmp_path: Path) -> None:
    base = ChatModel.load("tiny-base")
    layers = train_layers(base, locate(base), folder=tmp_path, training=SMALL)
    assert layers.record.placed_by == "heads"
    assert layers.record.health
    assert layers.record.health.corrected.value > 0.5


def test_named_values_get_heads_of_their_own(tiny: ChatModel, found: SafetyMap, tmp_path: Path) -> None:
    texts = {name: builtin(name, "train").texts[:120] for name in ("malicious", "normal")}
    values = {"calm": {"description": "d", "examples": {"against": texts["malicious"], "within": texts["normal"]}}}
    (tmp_path / "values.yaml").write_text(json.dumps({"version": 1, "values": values}))
    layers = train_layers(
        tiny, found, builtin_rows(), folder=tmp_path / "work", values=load_values(tmp_path / "values.yaml"),
        training=replace(SMALL, correction=replace(SMALL.correction, steps=2)),
    )  # fmt: skip
    assert layers.record.heads == ("harm", "refusal", "calm")
    assert layers.record.calibration["calm"].thresholds


def test_a_disk_that_cannot_hold_the_states_is_told_before_anything_is_written(
    tiny: ChatModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    monkeypatch.setattr("shutil.disk_usage", lambda _path: shutil._ntuple_diskusage(1, 1, 1))
    with pytest.raises(OutputError, match="do not fit"):
        read_states(tiny, RowSet("one", (LabelledRow("Hi", harmful=False),)), [0], "chat", tmp_path)
    assert not (tmp_path / "states.bin").exists()


def test_states_of_other_rows_are_read_anew(tiny: ChatModel, tmp_path: Path) -> None:
    one = RowSet("rows", (LabelledRow("Hi", harmful=False), LabelledRow("Say it", harmful=True, reply="No.")))
    first = read_states(tiny, one, [0, 1], "chat", tmp_path)
    assert first.length(1) > first.prompt_lengths[1]
    kept = first.gather([0, 1])[0].clone()
    other = RowSet("rows", (LabelledRow("Yes", harmful=False), *one.rows[1:]))
    second = read_states(tiny, other, [0, 1], "chat", tmp_path).gather([0, 1])[0]
    assert not torch.equal(second, kept)
    again = read_states(tiny, one, [0, 1], "chat", tmp_path).gather([0, 1])[0]
    torch.testing.assert_close(again, kept)


def test_what_cannot_be_trained_is_said(tiny: ChatModel, found: SafetyMap, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no layers"):
        train_layers(tiny, found, folder=tmp_path, layers=[3, 10], training=SMALL)
    with pytest.raises(UsageError, match="makes no sense"):
        train_layers(tiny, found, folder=tmp_path, training=replace(SMALL, false_positives=1.5))
    harmless = [LabelledRow("Hi", harmful=False)]
    with pytest.raises(DataError, match="no harmful request"):
        train_correction(tiny, 1, harmless, "chat", SMALL.correction, GateSettings(), tmp_path)
    broken = ChatModel(copy.deepcopy(tiny.model), tiny.tokenizer)
    with torch.no_grad():
        broken.layers[5].mlp.down_proj.weight.fill_(float("nan"))
    harmful = [LabelledRow("Do harm", harmful=True)]
    with pytest.raises(NonFiniteLossError, match="at step 0"):
        train_correction(broken, 1, harmful, "chat", SMALL.correction, GateSettings(), tmp_path / "broken")


def test_a_value_that_no_row_teaches_is_refused(tiny: ChatModel, found: SafetyMap, tmp_path: Path) -> None:
    rows = builtin_rows().rows
    taught = RowSet("rows", (replace(rows[0], values={"calm": True}), *rows[1:]))
    with pytest.raises(DataError, match="calm"):
        train_layers(tiny, found, taught, folder=tmp_path, training=SMALL)


def test_half_read_states_are_not_taken_for_whole_ones(tiny: ChatModel, tmp_path: Path) -> None:
    rows = RowSet("rows", tuple(LabelledRow(f"Say {index}", harmful=False) for index in range(30)))
    whole = read_states(tiny, rows, [0], "chat", tmp_path).gather(range(30))[0].clone()
    with (tmp_path / "states.bin").open("r+b") as file:
        file.truncate(100)
    torch.testing.assert_close(read_states(tiny, rows, [0], "chat", tmp_path).gather(range(30))[0], whole)


def test_an_adapter_refuses_by_itself_and_loads_into_a_plain_model(
    tiny: ChatModel, made: SafetyLayers, tmp_path: Path
) -> None:
    from peft import PeftModel

    rows = with_replies(Split.of(builtin_rows()).train, tiny, template="chat", most=80, seed=0).rows
    before = tiny.fresh_weights_hash()
    settings = CorrectionTraining(rank=8, steps=40, batch_size=8, learning_rate=2e-3, longest_prefix=8)
    student = export_adapter(tiny, made.record, rows, tmp_path / "adapter", settings=settings)
    assert tiny.fresh_weights_hash() == before
    begun = [text + "Sure, here is" for text in render(builtin("malicious", "train").texts[:30], tiny.tokenizer)]
    refusals = [sum("sorry" in reply for reply in one.generate(begun)) for one in (tiny, student)]
    assert refusals[1] > refusals[0]
    plain = ChatModel.load("tiny")
    PeftModel.from_pretrained(plain.model, tmp_path / "adapter")
    assert plain.generate(begun) == student.generate(begun)
    with pytest.raises(DataError, match="no harmless requests with replies"):
        export_adapter(tiny, made.record, [row for row in rows if row.harmful], tmp_path / "none", settings=settings)
