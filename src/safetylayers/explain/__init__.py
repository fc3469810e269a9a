"""Why a model refused, and where inside: attention, saliency, lens, patching (see docs/concepts/explaining.md)."""
