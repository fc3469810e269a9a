"""garak: a probe through `openai.OpenAICompatible`, and its report read.

garak ends with exit code 0 also where a probe had no detector and nothing was judged, so the report is what counts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

PROBES = "test.Test,goodside.Davidjl"
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
    command += ["--target_name", os.environ["MODEL"], "--probes", PROBES, "--generations", "1"]
    command += ["--generator_option_file", str(options), "--report_prefix", f"{folder}/report"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    report = Path(folder, "report.report.jsonl")
    assert report.exists(), done.stdout + done.stderr
    rows = [json.loads(line) for line in report.read_text().splitlines()]
attempts = [row for row in rows if row.get("entry_type") == "attempt"]
judged = [row for row in rows if row.get("entry_type") == "eval"]
assert attempts, "nothing was asked"
assert judged, "nothing was judged"
for row in judged:
    total = row.get("total") or row.get("total_evaluated")
    assert total, row
    print(f"garak: {row['probe']} by {row['detector']}: {row['passed']} of {total} passed")
