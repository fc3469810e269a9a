"""What is asked of a model: prompt sets, fine-tuning examples, and their rendering by a chat template."""

from safetylayers.prompts.builtin import BUILTIN_NAMES, SPLITS, builtin
from safetylayers.prompts.examples import Example, ExampleSet, load_examples
from safetylayers.prompts.loading import load_prompts
from safetylayers.prompts.pairs import Pair, PairSet, load_pairs
from safetylayers.prompts.prompt_set import Prompt, PromptSet
from safetylayers.prompts.rendering import TEMPLATES, Template, render
from safetylayers.prompts.values import Value, Values, load_values

__all__ = [
    "BUILTIN_NAMES",
    "SPLITS",
    "TEMPLATES",
    "Example",
    "ExampleSet",
    "Pair",
    "PairSet",
    "Prompt",
    "PromptSet",
    "Template",
    "Value",
    "Values",
    "builtin",
    "load_examples",
    "load_pairs",
    "load_prompts",
    "load_values",
    "render",
]
