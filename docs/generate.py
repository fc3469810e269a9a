"""Write the pages that are made from the program itself: a page a command, and the safety map's schema.

python docs/generate.py            write them
python docs/generate.py --check    fail where one is out of date
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from typer.testing import CliRunner

from safetylayers.cli.app import COMMANDS, GROUPS, app
from safetylayers.locate.safety_map import MapRecord
from safetylayers.oversee.console import roles_page

DOCS = Path(__file__).parent
PLAIN = {
    "COLUMNS": "100",
    "TERMINAL_WIDTH": "100",
    "NO_COLOR": "1",
    "TERM": "dumb",
    "_TYPER_FORCE_DISABLE_TERMINAL": "1",
}


def pages() -> dict[Path, str]:
    """Return every generated page."""
    names = [command.run_command.__name__ for command in COMMANDS]
    links = [f"- [`safetylayers {name}`]({name}.md): {_summary(name)}" for name in names]
    links += [f"- [`safetylayers {name}`]({name}.md): {group.info.help}" for name, group in GROUPS.items()]
    found = {DOCS / "commands" / "index.md": "# Commands\n\n" + "\n".join(links) + "\n"}
    for name in names:
        found[DOCS / "commands" / f"{name}.md"] = f"# safetylayers {name}\n\n```text\n{_help(name)}\n```\n"
    for name, group in GROUPS.items():
        helps = "\n\n".join(f"```text\n{_help(name, str(command.name))}\n```" for command in group.registered_commands)
        found[DOCS / "commands" / f"{name}.md"] = f"# safetylayers {name}\n\n{group.info.help}\n\n{helps}\n"
    found[DOCS / "reference" / "roles.md"] = roles_page()
    schema = json.dumps(MapRecord.model_json_schema(mode="serialization"), indent=2)
    found[DOCS / "reference" / "map.schema.json"] = schema + "\n"
    return found


def _help(*names: str) -> str:
    output = CliRunner().invoke(app, [*names, "--help"], env=PLAIN, prog_name="safetylayers").output
    return "\n".join(line.rstrip() for line in output.strip("\n").splitlines())


def _summary(name: str) -> str:
    command = next(command for command in COMMANDS if command.run_command.__name__ == name)
    return (command.run_command.__doc__ or "").strip().splitlines()[0]


def main() -> int:
    """Write or check."""
    stale = []
    for path, text in pages().items():
        if "--check" not in sys.argv:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text("utf-8") != text:
            stale.append(path)
    for path in stale:
        sys.stderr.write(f"{path.relative_to(DOCS.parent)} is out of date: run python docs/generate.py\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
