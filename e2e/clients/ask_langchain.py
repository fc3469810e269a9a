"""langchain-openai: streamed and not."""

from __future__ import annotations

import os

from langchain_openai import ChatOpenAI

chat = ChatOpenAI(model=os.environ["MODEL"], temperature=0, max_tokens=24)
text = chat.invoke("What is the capital of France?").content
assert text
streamed = "".join(chunk.content for chunk in chat.stream("What is the capital of France?"))
assert streamed == text, (streamed, text)
print(f"langchain-openai: {text!r}")
