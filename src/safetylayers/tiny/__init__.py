"""The practice model: its corpus, its tokenizer, its training and its build."""
