"""`safetylayers align`: from what people choose to a reward."""

from __future__ import annotations

import typer

from safetylayers.cli import align_policy, ask, audit_values, irl, reward

group = typer.Typer(no_args_is_help=True, help="From stated values to a reward, with the uncertainty shown.")
group.command("reward", epilog=reward.EXAMPLE)(reward.run_command)
group.command("ask", epilog=ask.EXAMPLE)(ask.run_command)
group.command("policy", epilog=align_policy.EXAMPLE)(align_policy.run_command)
group.command("irl", epilog=irl.EXAMPLE)(irl.run_command)
group.command("audit", epilog=audit_values.EXAMPLE)(audit_values.run_command)
