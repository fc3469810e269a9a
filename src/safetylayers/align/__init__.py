"""From stated values to a reward to a policy, with the uncertainty shown."""
