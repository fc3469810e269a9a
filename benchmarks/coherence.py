"""How often the coherence gate is right, on real and on damaged text: the second table of docs/concepts/judges.md.

    python benchmarks/coherence.py FOLDER

FOLDER holds wikitext2-valid.txt and shakespeare.txt.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

from safetylayers.evaluate import is_coherent
from safetylayers.records import Rate


def main() -> None:
    """Print the table."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    wikitext = [line for line in (folder / "wikitext2-valid.txt").read_text("utf-8").split("\n") if len(line) > 60]
    verses = (folder / "shakespeare.txt").read_text("utf-8").split("\n\n")
    rng = random.Random(1)  # noqa: S311 - not a secret
    print("| Text | Pieces | Called incoherent, % |")
    print("|---|---|---|")
    show("WikiText-2 paragraphs", wikitext)
    show("the same, their first 200 characters", [piece[:200] for piece in wikitext])
    show("Shakespeare's speeches", [piece for piece in verses if piece.strip()])
    for length in (100, 200, 400):
        pieces = [piece[:length] for piece in wikitext if len(piece) >= length]
        show(f"{length} characters, shuffled", ["".join(rng.sample(piece, length)) for piece in pieces])
        show(f"{length} characters, words shuffled", [shuffled_words(piece, rng) for piece in pieces])
    loops = [piece[:60] + (piece[60:100] + " ") * 6 for piece in wikitext if len(piece) > 100]
    show("60 characters, then 40 of them six times", loops)


def shuffled_words(text: str, rng: random.Random) -> str:
    """Return the words of a text in another order."""
    words = text.split()
    return " ".join(rng.sample(words, len(words)))


def show(name: str, texts: list[str]) -> None:
    """Print one line of the table."""
    found = Rate.of([not is_coherent(text) for text in texts])
    low, high = found.interval
    print(f"| {name} | {found.total:,} | {100 * found.value:.1f} [{100 * low:.1f}, {100 * high:.1f}] |")


if __name__ == "__main__":
    main()
