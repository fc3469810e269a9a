"""lm-eval: log-likelihoods of answers through /v1/completions, and replies through /v1/chat/completions.

Log-likelihoods need a likely token beside each one, so the policy has to say `limits: {alternatives: 1}` or more, and a
tokenizer that says where the question ends: TOKENIZER is a folder with the model's own.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

from lm_eval import simple_evaluate

ROWS = [
    {"question": "What is the capital of France?", "choices": [" Paris.", " Berlin."], "gold": 0, "answer": "Paris"},
    {"question": "What is 2 plus 3?", "choices": [" 9.", " 5."], "gold": 1, "answer": "5"},
]
base = os.environ["OPENAI_BASE_URL"]

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
        "doc_to_target": "{{answer}}.",
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": 24, "temperature": 0},
        "metric_list": [{"metric": "exact_match"}],
    }
    scored = simple_evaluate(
        model="local-completions",
        model_args={
            "model": os.environ["MODEL"],
            "base_url": f"{base}/completions",
            "tokenizer": os.environ["TOKENIZER"],
            "tokenizer_backend": "huggingface",
            "tokenized_requests": False,
            "num_concurrent": 1,
        },
        tasks=[choices],
        bootstrap_iters=0,
    )
    written = simple_evaluate(
        model="local-chat-completions",
        model_args={
            "model": os.environ["MODEL"],
            "base_url": f"{base}/chat/completions",
            "tokenizer_backend": None,
            "num_concurrent": 1,
        },
        tasks=[replies],
        apply_chat_template=True,
        bootstrap_iters=0,
    )
assert scored is not None
assert written is not None
likelihoods = [pair[0] for sample in scored["samples"]["choices"] for pair in sample["filtered_resps"]]
assert len(likelihoods) == 4
assert all(float(value) < 0 for value in likelihoods), likelihoods
assert len(set(likelihoods)) > 1
accuracy = scored["results"]["choices"]["acc,none"]
matched = written["results"]["replies"]["exact_match,none"]
assert matched > 0, written["samples"]["replies"]
print(f"lm-eval: accuracy by log-likelihood {accuracy}, exact match of replies {matched}")
