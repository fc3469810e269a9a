"""What the practice model learns from: a small world of questions, request forms, and public prompts if at hand."""
