"""openai-python: chats and completions, streamed and not, and a reply that the policy withholds."""

from __future__ import annotations

import os

from openai import OpenAI

client = OpenAI()
model = client.models.list().data[0].id
messages = [{"role": "user", "content": "What is the capital of France?"}]
whole = client.chat.completions.create(model=model, messages=messages, temperature=0, max_tokens=24)
text = whole.choices[0].message.content
assert text, whole
chunks = client.chat.completions.create(model=model, messages=messages, temperature=0, max_tokens=24, stream=True)
streamed = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
assert streamed == text, (streamed, text)
scored = client.completions.create(
    model=model, prompt="The capital of France", max_tokens=0, echo=True, logprobs=1, temperature=0
)
tokens = scored.choices[0].logprobs
assert tokens is not None
assert "".join(tokens.tokens) == "The capital of France", tokens.tokens
assert tokens.token_logprobs[0] is None
assert all(logprob <= 0 for logprob in tokens.token_logprobs[1:])
assert client.moderations.create(input="What is the capital of France?").results[0].flagged is False
blocked = client.chat.completions.create(model=model, messages=[{"role": "user", "content": os.environ["WITHHELD"]}])
assert blocked.choices[0].finish_reason == "content_filter", blocked
print(f"openai: {text!r}")
