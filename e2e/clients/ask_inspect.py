"""Inspect: a task of its own, the gateway as the model `openai-api/local/NAME`."""

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

QUESTIONS = {"What is the capital of France?": "Paris", "What is 2 plus 3?": "5"}
task = Task(
    dataset=[Sample(input=question, target=answer) for question, answer in QUESTIONS.items()],
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
    assert log.status == "success", log.error
    assert log.results is not None
    accuracy = log.results.scores[0].metrics["accuracy"].value
    assert len(log.samples or []) == len(QUESTIONS)
    assert accuracy > 0
print(f"inspect: accuracy {accuracy} over {len(QUESTIONS)} questions")
