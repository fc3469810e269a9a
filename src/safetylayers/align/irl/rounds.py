"""Inverse reinforcement learning from demonstrations: what somebody who replies like this is after.

Good behaviour alone is given, and no choices. In turns, a reward learns to prefer what was demonstrated to what the
policy replies now, and the policy learns to follow that reward without going far (arXiv 2405.17888;
arXiv 2405.15624). Telling the two apart is a choice by Bradley and Terry, so at its end the reward is that of maximum
entropy (Ziebart et al. 2008): it is known up to a shift a prompt, and up to its scale.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from pydantic import Field

from safetylayers.align.policy import PolicyResult, align_policy
from safetylayers.align.policy.data import PolicyData
from safetylayers.align.reward import ValueReward, learn_reward
from safetylayers.align.scoring import BayesianScorer, ModelsScorer, Scorer
from safetylayers.errors import DataError, UsageError
from safetylayers.finetune.plan import claim
from safetylayers.models import ChatModel
from safetylayers.prompts import ExampleSet, Pair, PairSet
from safetylayers.prompts.rendering import render_messages
from safetylayers.records import ProgressCallback, Provenance, Rate, Record

if TYPE_CHECKING:
    from safetylayers.locate import SafetyMap

Kind = Literal["bayesian", "trained"]
KINDS: tuple[str, ...] = get_args(Kind)
PLAN, RECORD = "irl-plan.json", "result.json"


class RewardStep(Record):
    """How a reward is learned in each round."""

    kind: Kind = "bayesian"
    """On hidden states of the model that is started from; or by training a copy of its weights."""
    layers: tuple[int, ...] = ()
    """bayesian: whose hidden states are read."""
    steps: int = Field(default=200, ge=1)
    """trained: of training, like the rest below."""
    learning_rate: float = Field(default=2e-4, gt=0)
    lora_rank: int = Field(default=16, ge=0)
    batch_size: int = Field(default=16, ge=1)


class PolicyStep(Record):
    """How the policy follows it."""

    method: Literal["grpo", "rloo"] = "grpo"
    beta: float = Field(default=0.05, gt=0)
    """Above 0: a policy that may go anywhere leaves what the reward has seen."""
    penalty: float = Field(default=1.0, ge=0)
    replies: int = Field(default=8, ge=2)
    steps: int = Field(default=100, ge=1)
    batch_size: int = Field(default=8, ge=1)
    learning_rate: float = Field(default=2e-5, gt=0)
    lora_rank: int = Field(default=16, ge=0)
    max_new_tokens: int = Field(default=64, ge=1)


class IrlPlan(Record):
    """Everything that decides what comes out."""

    rounds: int = Field(ge=1)
    samples: int = Field(ge=1)
    """Replies that the policy draws to each demonstrated request, in each round."""
    reward: RewardStep
    policy: PolicyStep
    seed: int
    model_hash: str
    data_hash: str


class Round(Record):
    """One reward step and one policy step."""

    pairs: int
    """A demonstration against a sample, of this round and those before."""
    told: Rate | None
    """Held-out pairs in which the reward tells the demonstration; none where it was trained without holding out."""
    same: Rate
    """Samples that say word for word what was demonstrated; they are left out."""
    policy: PolicyResult


class IrlResult(Record):
    """A reward and a policy, from demonstrations."""

    plan: IrlPlan
    rounds: tuple[Round, ...]
    provenance: Provenance


def learn_from_demonstrations(
    model: ChatModel,
    demonstrations: ExampleSet,
    *,
    output: Path,
    rounds: int = 3,
    samples: int = 2,
    reward: RewardStep | None = None,
    policy: PolicyStep | None = None,
    gold: Scorer | None = None,
    watch: PolicyData | None = None,
    map: SafetyMap | None = None,  # noqa: A002 - the word of the whole project
    seed: int = 0,
    resume: bool = True,
    progress: ProgressCallback | None = None,
) -> IrlResult:
    """Alternate reward and policy steps; each round's reward and policy are kept in `output/round-K`.

    Args:
        model: that is started from.
        demonstrations: requests with the replies of somebody who does as is wanted.
        output: new or empty.
        rounds: of one reward and one policy step.
        samples: replies that the policy draws to each request in each round; the reward learns from all rounds' ones.
        reward: how a reward is learned; by itself Bayesian, on the map's layers.
        policy: how it is followed.
        gold: a reward by which the policy is watched and nothing is optimised.
        watch: requests to watch on.
        map: the model's safety map, whose layers a Bayesian reward reads by itself.
        seed: of everything that is drawn.
        resume: go on from an earlier run in `output`.
        progress: told of every step.

    Raises:
        UsageError: a setting makes no sense, or `output` holds something else.
        DataError: the policy says what was demonstrated, word for word: there is nothing to tell apart.
        NonFiniteLossError: a loss became NaN or infinite.
        OutputError: there is no room.
    """
    step = _with_layers(reward or RewardStep(), map, model)
    plan = IrlPlan(
        rounds=rounds, samples=samples, reward=step, policy=policy or PolicyStep(), seed=seed,
        model_hash=model.weights_hash, data_hash=demonstrations.content_hash,
    )  # fmt: skip
    _check_lengths(demonstrations, model, plan.policy.max_new_tokens)
    claim(output, plan, resume=resume, name=PLAN, what="inverse-reinforcement-learning")
    if not resume:
        for folder in output.glob("round-*"):
            shutil.rmtree(folder)
    if (output / RECORD).exists():
        return IrlResult.read(output / RECORD)
    work = _Alternation(model, demonstrations, plan, output, gold, watch, progress)
    found = [work.turn(number) for number in range(rounds)]
    provenance = Provenance(
        model=model.name, model_hash=model.weights_hash,
        data={demonstrations.name: demonstrations.content_hash}, seed=seed,
    )  # fmt: skip
    result = IrlResult(plan=plan, rounds=tuple(found), provenance=provenance)
    result.write(output / RECORD)
    return result


def _check_lengths(demonstrations: ExampleSet, model: ChatModel, longest: int) -> None:
    """Refuse demonstrations that the policy cannot come to: a reward would tell them by their length alone."""
    said = model.tokenizer([example.response for example in demonstrations], add_special_tokens=False).input_ids
    if long := sum(len(tokens) >= longest for tokens in said):
        raise UsageError(
            f"{long} of {len(said)} demonstrations are longer than the {longest} tokens that the policy may draw.",
            mend=f"Allow it at least {max(map(len, said)) + 1} (--tokens), or leave long ones out.",
        )


def _with_layers(step: RewardStep, safety_map: SafetyMap | None, model: ChatModel) -> RewardStep:
    if step.kind == "trained" or step.layers:
        return step
    if safety_map is None:
        raise UsageError("A Bayesian reward reads layers.", mend="Give a safety map with --map, or --layers.")
    safety_map.check(model)
    first, last = safety_map.range
    return step.model_copy(update={"layers": tuple(range(first, last + 1))})


@dataclass
class _Alternation:
    model: ChatModel
    demonstrations: ExampleSet
    plan: IrlPlan
    output: Path
    gold: Scorer | None
    watch: PolicyData | None
    progress: ProgressCallback | None
    pairs: tuple[Pair, ...] = ()
    current: ChatModel | None = None
    """The policy so far."""

    def turn(self, number: int) -> Round:
        """Take one reward and one policy step."""
        folder = self.output / f"round-{number + 1}"
        same = self._gather(self.current or self.model, number)
        pairs = PairSet(f"demonstrations against samples, round {number + 1}", self.pairs)
        scorer, told = self._reward(pairs, folder / "reward", number)
        step = self.plan.policy
        # Each from the beginning: a policy that has once come to a single reply draws nothing to choose between.
        made = align_policy(
            self.model, self.demonstrations, output=folder / "policy", method=step.method,
            reward=scorer, gold=self.gold, watch=self.watch, beta=step.beta, penalty=step.penalty,
            replies=step.replies, max_new_tokens=step.max_new_tokens, lora_rank=step.lora_rank,
            learning_rate=step.learning_rate, steps=step.steps, batch_size=step.batch_size, patience=0,
            seed=self.plan.seed + number, progress=self.progress,
        )  # fmt: skip
        self.current = ChatModel.load(folder / "policy", dtype=self.model.dtype, device=str(self.model.device))
        return Round(pairs=len(pairs), told=told, same=same, policy=made)

    def _gather(self, policy: ChatModel, number: int) -> Rate:
        """Draw replies, and set the demonstrations against them; return how many say the same."""
        shown = [example for example in self.demonstrations for _ in range(self.plan.samples)]
        texts = [render_messages(list(example.messages[:-1]), policy.tokenizer) for example in shown]
        replies = policy.sample(
            texts, max_new_tokens=self.plan.policy.max_new_tokens, seed=self.plan.seed + number, progress=self.progress
        )
        against = against_samples(self.demonstrations, shown_replies=replies, samples=self.plan.samples)
        self.pairs = (*self.pairs, *against)
        if not self.pairs:
            raise DataError(
                "The policy replies as was demonstrated, word for word, or not at all: nothing can be told apart.",
                mend="Give other demonstrations, or start from another model.",
            )
        return Rate.of([said == example.response.strip() for said, example in zip(replies, shown, strict=True)])

    def _reward(self, pairs: PairSet, folder: Path, number: int) -> tuple[Scorer, Rate | None]:
        step = self.plan.reward
        seed = self.plan.seed + number
        if step.kind == "bayesian":
            if not _is_of(folder, pairs):
                learned = learn_reward(self.model, pairs, layers=step.layers, seed=seed, progress=self.progress)
                learned.reward.save(folder)
            reward = ValueReward.load(folder)
            return BayesianScorer(reward, self.model), next(iter(reward.record.values.values())).accuracy
        from safetylayers.align.modelling import RewardModel, train_reward_model

        train_reward_model(
            self.model, pairs, output=folder, lora_rank=step.lora_rank, learning_rate=step.learning_rate,
            steps=step.steps, batch_size=step.batch_size, seed=seed, progress=self.progress,
        )  # fmt: skip
        return ModelsScorer((RewardModel.load(folder, device=str(self.model.device)),)), None


def _is_of(folder: Path, pairs: PairSet) -> bool:
    """Whether a folder holds the reward that was learned from these very pairs, before an interruption."""
    if not (folder / "result.json").exists():
        return False
    return pairs.content_hash in ValueReward.load(folder).record.provenance.data.values()


def against_samples(demonstrations: ExampleSet, shown_replies: Sequence[str], samples: int) -> tuple[Pair, ...]:
    """Return each demonstration against each of its samples, but for samples that say the same or nothing.

    Args:
        demonstrations: D of them.
        shown_replies: D x samples, those to the first demonstrated request first.
        samples: to each request.
    """
    found = []
    for index, said in enumerate(shown_replies):
        example = demonstrations.examples[index // samples]
        if said.strip() and said.strip() != example.response.strip():
            found.append(Pair(example.messages[:-1], example.response.strip(), said))
    return tuple(found)
