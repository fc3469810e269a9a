"""Orders: given from anywhere, obeyed at the next token."""

from __future__ import annotations

import queue
import threading

import pytest
import torch
from transformers.generation.streamers import BaseStreamer

from safetylayers.attach import Attached, Control, GateSettings, TokenTrace, attach
from safetylayers.errors import UsageError
from safetylayers.models import ChatModel
from safetylayers.prompts import render
from support import random_chat_model, safety_layers

NEVER, ALWAYS = 1e6, -1e6
END = 3


@pytest.fixture
def model() -> ChatModel:
    return random_chat_model("Llama", max_position_embeddings=512)


def generate(model: ChatModel, rows: int = 1, tokens: int = 12, **options: object) -> torch.Tensor:
    batch = model.tokenize(render(["Hi"] * rows, model.tokenizer))
    output: torch.Tensor = model.model.generate(
        input_ids=batch.input_ids, attention_mask=batch.attention_mask, max_new_tokens=tokens, do_sample=False,
        eos_token_id=END, pad_token_id=0, **options,
    )  # fmt: skip
    return output[:, batch.input_ids.shape[1] :]


class Meter(BaseStreamer):
    """Tells of every token as it comes."""

    def __init__(self) -> None:
        self.seen: queue.Queue[int] = queue.Queue()
        self.values: list[int] = []

    def put(self, value: torch.Tensor) -> None:
        if value.dim() == 1:  # the prompt comes first, as a matrix
            self.values.append(int(value))
            self.seen.put(len(self.values))

    def end(self) -> None:
        self.seen.put(-1)


def run_until(attached: Attached, tokens: int, order: str) -> tuple[int, list[int], list[TokenTrace]]:
    """Give an order while another thread generates; return tokens seen before it, all tokens, and the trace."""
    meter, seen = Meter(), list[TokenTrace]()
    attached.trace = seen.extend
    worker = threading.Thread(target=generate, args=(attached.model, 1, 200), kwargs={"streamer": meter})
    worker.start()
    while meter.seen.get(timeout=30) < tokens:
        pass
    getattr(attached.control, order)()
    before = len(meter.values)
    worker.join(timeout=60)
    assert not worker.is_alive()
    return before, meter.values, seen


def test_a_stop_from_another_thread_ends_the_reply_within_one_token_100_times_of_100(model: ChatModel) -> None:
    for time in range(100):
        with attach(model, safety_layers(model, threshold=NEVER)) as attached:
            before, values, _ = run_until(attached, 1 + time % 7, "stop")
        # The token that was being computed when the order came may still follow; then comes the end.
        assert values[-1] == END
        assert len(values) <= before + 2


def test_refuse_from_another_thread_opens_the_gate_within_one_token(model: ChatModel) -> None:
    for time in range(20):
        with attach(model, safety_layers(model, threshold=NEVER)) as attached:
            _, _, seen = run_until(attached, 1 + time % 7, "refuse")
        obeyed = [trace for trace in seen if trace.orders]
        assert obeyed
        assert all(trace.open for trace in obeyed)
        assert not any(trace.open for trace in seen if not trace.orders)


def test_orders_to_one_row_leave_the_others_alone(model: ChatModel) -> None:
    bare = generate(model, rows=3)
    with attach(model, safety_layers(model, threshold=NEVER)) as attached:
        attached.control.stop(row=1)
        output = generate(model, rows=3)
    assert output[1, 0] == END
    assert torch.equal(output[[0, 2]], bare[[0, 2]])


def test_rows_are_called_by_their_names(model: ChatModel) -> None:
    seen: list[TokenTrace] = []
    with attach(model, safety_layers(model, threshold=NEVER), trace=seen.extend) as attached:
        attached.control.refuse("second")
        with attached.rows(["first", "second"]):
            generate(model, rows=2)
        with attached.rows(["first", "second"]), pytest.raises(UsageError, match="2 names for 3 rows"):
            generate(model, rows=3)
        with pytest.raises(UsageError, match="share a name"), attached.rows(["a", "a"]):
            pass
    assert {trace.row for trace in seen if trace.open} == {"second"}


def test_lower_thresholds_open_the_gate_and_higher_ones_close_it(model: ChatModel) -> None:
    seen: list[TokenTrace] = []
    with attach(model, safety_layers(model, threshold=50.0), trace=seen.extend) as attached:
        generate(model)
        assert not any(trace.open for trace in seen)
        attached.control.shift_thresholds(-100.0)
        seen.clear()
        generate(model)
        assert all(trace.open for trace in seen if trace.kind != "prompt")
        attached.control.shift_thresholds(100.0)
        seen.clear()
        generate(model)
        assert not any(trace.open for trace in seen)


def test_observing_changes_nothing_and_tells_what_would_have_been_done(model: ChatModel) -> None:
    bare = generate(model)
    seen: list[TokenTrace] = []
    with attach(model, safety_layers(model, threshold=ALWAYS), trace=seen.extend) as attached:
        attached.control.observe_only()
        assert torch.equal(generate(model), bare)
        assert all(trace.would_open and not trace.open for trace in seen if trace.kind != "prompt")
        attached.control.observe_only(on=False)
        assert not torch.equal(generate(model), bare)


def test_observing_does_not_overrule_a_person_who_stops_or_refuses(model: ChatModel) -> None:
    with attach(model, safety_layers(model, threshold=NEVER)) as attached:
        attached.control.observe_only()
        attached.control.stop()
        assert generate(model)[0, 0] == END


def test_orders_can_be_taken_back(model: ChatModel) -> None:
    bare = generate(model, rows=2)
    with attach(model, safety_layers(model, threshold=NEVER)) as attached:
        attached.control.stop(row=0)
        attached.control.refuse()
        attached.control.clear(row=0)
        assert not torch.equal(generate(model, rows=2), bare)
        attached.control.clear()
        assert torch.equal(generate(model, rows=2), bare)


def test_an_open_gate_without_a_refusal_ends_the_reply_after_its_patience(model: ChatModel) -> None:
    layers = safety_layers(model, threshold=ALWAYS, gate=GateSettings(patience=4))
    never_refuses = layers.record.calibration["refusal"].model_copy(update={"reply_scale": 1e-9, "reply_offset": -5.0})
    record = layers.record.model_copy(update={"calibration": layers.record.calibration | {"refusal": never_refuses}})
    with attach(model, type(layers)(record, layers.heads, layers.correction)):
        output = generate(model)
    assert output[0].tolist().index(END) == 4


def test_numbers_of_orders_rise_and_one_port_serves_several_models(model: ChatModel) -> None:
    control = Control()
    assert [control.stop(), control.clear(), control.refuse("x"), control.shift_thresholds(1.0)] == [1, 2, 3, 4]
    assert control.orders.for_row("x").refuse
    assert not control.orders.for_row("y").refuse
    other = random_chat_model("Llama", seed=1)
    control.stop()
    for one in (model, other):
        with attach(one, safety_layers(one, threshold=NEVER), control=control):
            assert generate(one)[0, 0] == END
