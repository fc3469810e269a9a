"""What the practice model learns from: a small made-up world, request forms, and public prompts where they are at hand."""
