"""Inspect: a task of its own, the gateway as the model `openai-api/local/NAME`.

What the policy withholds is a reply with the stop reason `content_filter`; the scorer reads its text like any other.
"""

from __future__ import annotations

import os
import tempfile

os.environ["LOCAL_BASE_URL"] = os.environ["OPENAI_BASE_URL"]
os.environ["LOCAL_API_KEY"] = os.environ["OPENAI_API_KEY"]

from inspect_ai import Task
from inspect_ai import eval as evaluate
from inspect_ai.dataset import Sample
from inspect_ai.scorer import includes
from inspect_ai.solver import generate

ANSWERS = {"What is the capital of France?": "Paris", "What is 2 plus 3?": "5", os.environ["WITHHELD"]: "K-1234"}
task = Task(
    dataset=[Sample(input=question, target=answer) for question, answer in ANSWERS.items()],
    solver=generate(),
    scorer=includes(),
)
with tempfile.TemporaryDirectory() as folder:
    log = evaluate(
        task,
        model=f"openai-api/local/{os.environ['MODEL']}",
        temperature=0,
        max_tokens=24,
        log_dir=folder,
        display="none",
    )[0]
    # Samples are read from the log where they are looked at.
    assert log.status == "success", log.error
    assert log.results is not None
    assert log.samples is not None
    reasons = [sample.output.stop_reason for sample in log.samples]
    assert reasons == ["stop", "stop", "content_filter"], reasons
    accuracy = log.results.scores[0].metrics["accuracy"].value
    assert 0 < accuracy < 1, log.samples
print(f"inspect: accuracy {accuracy:.2f} over {len(reasons)} questions, {reasons.count('content_filter')} withheld")
