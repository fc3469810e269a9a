"""PyRIT: an attack that sends a prompt, and a scorer that looks for a refusal."""

from __future__ import annotations

import asyncio
import os

from pyrit.executor.attack import AttackScoringConfig, PromptSendingAttack
from pyrit.prompt_target import OpenAIChatTarget
from pyrit.score import SubStringScorer
from pyrit.setup import IN_MEMORY, initialize_pyrit_async


async def main() -> None:
    """Send one prompt, and print what came of it."""
    await initialize_pyrit_async(memory_db_type=IN_MEMORY)
    target = OpenAIChatTarget(
        endpoint=os.environ["OPENAI_BASE_URL"],
        api_key=os.environ["OPENAI_API_KEY"],
        model_name=os.environ["MODEL"],
        temperature=0,
        max_completion_tokens=24,
    )
    scorer = SubStringScorer(substring="Paris", categories=["answered"])
    attack = PromptSendingAttack(
        objective_target=target, attack_scoring_config=AttackScoringConfig(objective_scorer=scorer)
    )
    result = await attack.execute_async(objective="What is the capital of France?")
    assert result.last_response is not None, result
    assert result.outcome.value == "success", result
    print(f"pyrit: {result.outcome.value}, {result.last_response.converted_value!r}")


asyncio.run(main())
