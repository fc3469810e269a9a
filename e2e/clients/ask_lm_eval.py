"""lm-eval: log-likelihoods of answers through /v1/completions, and replies through /v1/chat/completions.

Log-likelihoods need a likely token beside each one, so the policy has to say `limits: {alternatives: 1}` or more. They
need the model's own tokenizer as well (TOKENIZER, a folder): lm-eval counts by it where an answer begins. Where it sets
a beginning token and `add_bos_token` is left out, it counts wrong; so each number is held against the gateway's own.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import requests
from lm_eval import simple_evaluate

ROWS = [
    {"question": "What is the capital of France?", "choices": ["Paris.", "Berlin."], "gold": 0, "answer": "Paris."},
    {"question": "What is 2 plus 3?", "choices": ["9.", "5."], "gold": 1, "answer": "5."},
]
BASE, MODEL = os.environ["OPENAI_BASE_URL"], os.environ["MODEL"]


def likelihood(question: str, answer: str) -> float:
    """Return the log-likelihood of an answer, as the gateway itself scores it."""
    body = {"model": MODEL, "prompt": question + answer, "echo": True, "logprobs": 0, "max_tokens": 0}
    headers = {"authorization": f"Bearer {os.environ['OPENAI_API_KEY']}"}
    told = requests.post(f"{BASE}/completions", json=body, headers=headers, timeout=60).json()["choices"][0]["logprobs"]
    pairs = zip(told["token_logprobs"], told["text_offset"], strict=True)
    return sum(logprob for logprob, offset in pairs if offset >= len(question))


with tempfile.TemporaryDirectory() as folder:
    rows = Path(folder, "rows.jsonl")
    rows.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    data = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(rows)}}, "test_split": "test"}
    choices = {
        "task": "choices",
        **data,
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "gold",
        "metric_list": [{"metric": "acc"}],
    }
    replies = {
        "task": "replies",
        **data,
        "output_type": "generate_until",
        "doc_to_text": "{{question}}",
        "doc_to_target": "{{answer}}",
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": 24, "temperature": 0},
        "metric_list": [{"metric": "exact_match"}],
    }
    scored = simple_evaluate(
        model="local-completions",
        model_args={
            "model": MODEL,
            "base_url": f"{BASE}/completions",
            "tokenizer": os.environ["TOKENIZER"],
            "tokenizer_backend": "huggingface",
            "tokenized_requests": False,
            "add_bos_token": True,
        },
        tasks=[choices],
        bootstrap_iters=0,
    )
    written = simple_evaluate(
        model="local-chat-completions",
        model_args={"model": MODEL, "base_url": f"{BASE}/chat/completions"},
        tasks=[replies],
        apply_chat_template=True,
        bootstrap_iters=0,
    )
assert scored is not None
assert written is not None
samples = scored["samples"]["choices"]
assert len(samples) == len(ROWS)
for sample in samples:
    question, answers = sample["doc"]["question"], sample["doc"]["choices"]
    for answer, (found, _) in zip(answers, sample["filtered_resps"], strict=True):
        own = likelihood(question, f" {answer}")  # lm-eval puts a space between them
        assert abs(float(found) - own) < 1e-3, (question, answer, found, own)
accuracy = scored["results"]["choices"]["acc,none"]
matched = written["results"]["replies"]["exact_match,none"]
assert accuracy > 0, samples
assert matched > 0, written["samples"]["replies"]
print(f"lm-eval: accuracy by log-likelihood {accuracy}, exact match of replies {matched}")
