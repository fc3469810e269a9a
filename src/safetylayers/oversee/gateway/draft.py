"""A reply while it is made: its text, who has checked how much of it, and how much has left.

Guards read it together with the text that it goes on from (a raw prompt, or the beginning of a reply that the caller
gave), because what begins there may end in the reply. Places are counted in the reply; guards count from where that
text begins.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace

from safetylayers.oversee.gateway.redaction import redact
from safetylayers.oversee.guards.base import Finding, Passage, Verdict
from safetylayers.oversee.guards.ledger import Ledger
from safetylayers.oversee.policy.actions import Action
from safetylayers.oversee.policy.decision import (
    Decision,
    Ruling,
    passed,
    rule_on,
    rule_on_failure,
    rule_on_reading,
)
from safetylayers.oversee.policy.enforced import Checked, Enforced
from safetylayers.oversee.words import Finish, Message, Piece, Reading, Token

LEAD = 1000
"""Characters of what a reply goes on from that guards read with it."""


class Draft:
    """One reply of one attempt."""

    def __init__(
        self,
        enforced: Enforced,
        messages: tuple[Message, ...],
        *,
        goes_on_from: str = "",
        watched: bool = False,
        steers: bool = False,
        allowed: bool = False,
    ) -> None:
        """Begin with nothing.

        Args:
            enforced: the policy in force.
            messages: the conversation.
            goes_on_from: text that the reply continues.
            watched: whether monitors read along; then a reply without a reading is blocked.
            steers: whether the gate inside the model can act.
            allowed: whether an operator's word lets it pass, whatever is found.
        """
        self.enforced, self.messages = enforced, messages
        self.decision = Decision()
        self.text = ""
        self.released = 0
        """Characters of `text` that have left."""
        self.finish: Finish | None = None
        self.prompt_tokens: int | None = None
        self.echoed: tuple[Token, ...] = ()
        self.steered_tokens = 0
        self.strongest = 0.0
        self._watched, self._steers, self._allowed = watched, steers, allowed
        self._lead = goes_on_from[-LEAD:]
        self._guards = enforced.reading("output")
        self._ledger = Ledger(self._guards)
        self._read_to = dict.fromkeys(self._guards, 0)
        self._prompt_reading: Reading | None = None
        self._tokens: list[Token] = []
        self._ends: list[int] = []
        self._made = 0
        self._counted: int | None = None
        self._told: set[str] = set()

    def add(self, pieces: Sequence[Piece]) -> None:
        """Take in what the engine made, and rule on what the monitors saw in it."""
        for piece in pieces:
            if piece.prompt_tokens is not None:
                self.prompt_tokens = piece.prompt_tokens
            self.echoed = piece.echoed or self.echoed
            if piece.prompt_reading is not None:
                self._prompt_reading = piece.prompt_reading
                self._watch("prompt", piece.prompt_reading)
            self._take(piece)
            self.finish = piece.finish or self.finish
            if piece.completion_tokens is not None:
                self._counted = piece.completion_tokens
        self._ledger.see(len(self.text))
        if self.finish and self._watched and self._prompt_reading is None:
            self.decision.rulings.append(Ruling("monitor:prompt", "no-reading", Action.BLOCK))

    def _take(self, piece: Piece) -> None:
        place = len(self.text)
        self.text += piece.text
        self._made += len(piece.tokens)
        for token in piece.tokens:
            self._watch_token(token.reading)
        if "".join(token.text for token in piece.tokens) != piece.text:
            return  # tokens that do not spell the text would show what guards have not read
        for token in piece.tokens:
            place += len(token.text)
            self._tokens.append(token)
            self._ends.append(place)

    def _watch_token(self, reading: Reading | None) -> None:
        """Rule on what the monitors saw in a token.

        A token's risk is never below the prompt's. Where the prompt passed its threshold, only what is beyond that is
        the reply's own.
        """
        if reading is None:
            return
        if reading.open:
            self.steered_tokens += 1
            self.strongest = max(self.strongest, reading.strength)
        prompt = self._prompt_reading
        own = prompt is None or not passed(prompt) or prompt.risk is None or reading.risk is None
        if own or (prompt and prompt.risk is not None and reading.risk is not None and reading.risk > prompt.risk):
            self._watch("reply", reading)

    def _watch(self, place: str, reading: Reading) -> None:
        """Rule on a reading; of many that say the same, the first is kept."""
        ruling = rule_on_reading(self.enforced.policy, place, reading, steers=self._steers)
        if ruling and ruling.by not in self._told:
            self._told.add(ruling.by)
            self.decision.rulings.append(ruling)

    @property
    def completion_tokens(self) -> int:
        """How many tokens the reply has, as far as the engine says."""
        return self._counted if self._counted is not None else self._made

    @property
    def tokens(self) -> tuple[Token, ...]:
        """All tokens so far, for people who watch."""
        return tuple(self._tokens)

    @property
    def checked(self) -> dict[str, int]:
        """Guard -> how much of the reply it has read."""
        return {guard: max(0, place - len(self._lead)) for guard, place in self._read_to.items()}

    async def check(self) -> None:
        """Let every guard read what it has not checked yet, and rule on what it finds."""
        final = self.finish is not None
        text = self._lead + self.text
        passages = {
            guard: Passage("output", text, start, final, self.messages)
            for guard, start in self._read_to.items()
            if start < len(text) or final
        }
        for check in await self.enforced.check(passages):
            self._record(check)

    def _record(self, check: Checked) -> None:
        policy = self.enforced.policy
        if isinstance(check.answer, Verdict):
            self.decision.rulings += rule_on(policy, check.guard, self._placed(check.answer.findings))
            self._mark(check.guard, check.answer.checked)
        else:
            ruling = rule_on_failure(policy, check.answer)
            self.decision.rulings.append(ruling)
            if self._allowed or ruling.effective in (Action.ALLOW, Action.HOLD):
                self._mark(check.guard, len(self._lead) + len(self.text))  # to go on without it is somebody's word

    def _placed(self, findings: Sequence[Finding]) -> list[Finding]:
        """Return findings by their places in the reply; those that end before it are the caller's own text."""
        lead = len(self._lead)
        return [
            replace(found, start=max(0, found.start - lead), end=max(0, found.end - lead))
            for found in findings
            if found.start == found.end or found.end > lead
        ]

    def _mark(self, guard: str, read: int) -> None:
        self._read_to[guard] = read
        self._ledger.record(guard, max(0, read - len(self._lead)))

    @property
    def cleared(self) -> int:
        """How many characters may leave: all guards have read them, and no finding to be written over is cut in two."""
        cleared, before = self._ledger.cleared, -1
        while cleared != before:
            before = cleared
            for finding in self._redactions():
                if finding.start < cleared < finding.end:
                    cleared = finding.start
        return cleared

    def redacted(self, start: int, end: int) -> str:
        """Return a stretch of the reply with findings written over. Raises GuardError."""
        return redact(self.text, start, end, self._redactions())

    def _redactions(self) -> list[Finding]:
        return [] if self._allowed else self.decision.redactions()

    def tokens_between(self, start: int, end: int) -> tuple[Token, ...]:
        """Return the tokens whose text ends within a stretch, those left out that were written over."""
        first = bisect_right(self._ends, start) if start else 0  # tokens without text may come first
        covered = [(found.start, found.end) for found in self._redactions()]
        kept = []
        for place in range(first, bisect_right(self._ends, end)):
            ends = self._ends[place]
            begins = ends - len(self._tokens[place].text)
            if not any(begins < last and at < ends for at, last in covered):
                kept.append(self._tokens[place])
        return tuple(kept)

    def leave(self, end: int, *, last: bool) -> None:
        """Count a stretch as gone. Raises GuardError where a guard has not checked it, or the end is not the end."""
        self._ledger.release(end)
        if last:
            self._ledger.finish(len(self.text))
        self.released = end
