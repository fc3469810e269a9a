"""garak: probes through `openai.OpenAICompatible`, and the report read.

One detector that cannot be loaded ends the whole run, with exit code 0 and nothing asked. So the report has to say that
the run is complete, and for every probe that all of its replies came and were judged.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

PROBES = {"goodside.Davidjl", "test.Test"}  # their detectors need nothing from the hub
with tempfile.TemporaryDirectory() as folder:
    options = Path(folder, "options.json")
    settings = {"uri": os.environ["OPENAI_BASE_URL"], "max_tokens": 24, "suppressed_params": ["stop"]}
    options.write_text(json.dumps({"openai": {"OpenAICompatible": settings}}))
    environment = {
        **os.environ,
        "OPENAICOMPATIBLE_API_KEY": os.environ["OPENAI_API_KEY"],
        "HF_HUB_OFFLINE": "1",
        "XDG_DATA_HOME": folder,
        "XDG_CONFIG_HOME": folder,
        "XDG_CACHE_HOME": folder,
    }
    command = [sys.executable, "-m", "garak", "--target_type", "openai.OpenAICompatible"]
    command += ["--target_name", os.environ["MODEL"], "--probes", ",".join(PROBES), "--generations", "1"]
    command += ["--generator_option_file", str(options), "--report_prefix", f"{folder}/report"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    report = Path(folder, "report.report.jsonl")
    assert report.exists(), done.stdout + done.stderr
    rows = [json.loads(line) for line in report.read_text().splitlines()]
kinds = {row["entry_type"] for row in rows}
assert {"attempt", "eval", "completion"} <= kinds, f"only {kinds}\n{done.stdout}{done.stderr}"
finished = Counter(row["probe_classname"] for row in rows if row["entry_type"] == "attempt" and row["status"] == 2)
judged = [row for row in rows if row["entry_type"] == "eval"]
assert {row["probe"] for row in judged} == PROBES, judged
for row in judged:
    assert row["total_evaluated"] == finished[row["probe"]] > 0, row
    assert row["nones"] == 0, f"replies are missing: {row}"
print("garak:", ", ".join(f"{row['probe']} {row['passed']} of {row['total_evaluated']} passed" for row in judged))
