"""Killing the gateway at any moment: nothing that was received is unlogged, and the log verifies.

python benchmarks/crash.py [--kills 50] [--clients 8] [--seed 0]

A gateway over SQLite is started, asked by streaming and other clients, killed with SIGKILL at a random moment, and
started again. After every kill: each piece of text that a client received, whole or not, is in a release entry; each
reply that arrived to its end has its request and release entries; the log verifies against all checkpoints of the
witness file. A kill is the end of the process and not of the machine: it shows nothing about lost power.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from oversee.gateway.crashing import crash
from oversee.servers import Upstream, running


def main() -> None:
    """Kill, look, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0, help="what the moments come from")
    options = parser.parse_args()
    upstream = Upstream()
    upstream.text, upstream.pause = " ".join(f"w{number}" for number in range(120)), 0.005
    with running(upstream.app) as address, tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        for record in crash(address, data, kills=options.kills, clients=options.clients, seed=options.seed):
            print(record, flush=True)
            if record.wrong:
                sys.exit("\n".join(record.wrong[:20]))
    if not any(seen.complete for seen in record.seen):
        sys.exit("no reply arrived to its end, so nothing was shown")


if __name__ == "__main__":
    main()
