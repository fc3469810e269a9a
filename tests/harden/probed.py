"""A safety map that holds probes, for what asks nothing else of one."""

from __future__ import annotations

from safetylayers.locate import SafetyMap
from safetylayers.locate.curves import Curve
from safetylayers.locate.directions import fit_probes
from safetylayers.locate.gap import Gap
from safetylayers.locate.safety_map import MapRecord
from safetylayers.models import ChatModel
from safetylayers.prompts import builtin, render
from safetylayers.records import Provenance, Rate


def probed_map(model: ChatModel, count: int = 60) -> SafetyMap:
    """Probes of so many prompts of each kind, with made-up curves."""
    states = [
        model.hidden_states(render(builtin(name, "calibration").texts[:count], model.tokenizer))[:, :, 0]
        for name in ("normal", "malicious")
    ]
    probes = fit_probes(states[0], states[1], seed=0)
    flat = (0.5,) * model.n_layers
    record = MapRecord(
        provenance=Provenance(model=model.name, model_hash=model.weights_hash),
        architecture=model.architecture,
        n_layers=model.n_layers,
        mode="default",
        template="chat",
        verdict="Made up.",
        curves={kind: Curve(mean=flat, deviation=flat) for kind in ("N-N", "M-M", "N-M")},
        gap=Gap(degrees=flat, deviation=flat, peak_growth=9.0, null_growth=1.0, onset=1, smoothing=2),
        malicious_refused=Rate(count=9, total=10),
        normal_refused=Rate(count=1, total=10),
        probes=probes.scores,
    )
    return SafetyMap(record, {"probe_weights": probes.weights_LH, "probe_bias": probes.bias_L})
