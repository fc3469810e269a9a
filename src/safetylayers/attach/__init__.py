"""Built-in safety layers: heads, gate, trace and control port on a model's decoder layers."""

from safetylayers.attach.api import attach, load_attached
from safetylayers.attach.attached import Attached
from safetylayers.attach.control import Control, Order, Orders
from safetylayers.attach.correction_training import CorrectionTraining
from safetylayers.attach.export import export_adapter
from safetylayers.attach.gate import GateSettings, HeadCalibration, Thresholds
from safetylayers.attach.guarded import GuardedModel
from safetylayers.attach.head_training import HeadTraining
from safetylayers.attach.health import Revalidation, examine, revalidate
from safetylayers.attach.known import KnownLayers
from safetylayers.attach.layers import LayersRecord, SafetyLayers, has_layers
from safetylayers.attach.rows import LabelledRow, RowSet, builtin_rows, load_rows, rows_of
from safetylayers.attach.trace import TokenTrace, TraceCallback
from safetylayers.attach.training import Training, train_layers
from safetylayers.attach.untrained import from_map

__all__ = [
    "Attached",
    "Control",
    "CorrectionTraining",
    "GateSettings",
    "GuardedModel",
    "HeadCalibration",
    "HeadTraining",
    "KnownLayers",
    "LabelledRow",
    "LayersRecord",
    "Order",
    "Orders",
    "Revalidation",
    "RowSet",
    "SafetyLayers",
    "Thresholds",
    "TokenTrace",
    "TraceCallback",
    "Training",
    "attach",
    "builtin_rows",
    "examine",
    "export_adapter",
    "from_map",
    "has_layers",
    "load_attached",
    "load_rows",
    "revalidate",
    "rows_of",
    "train_layers",
]
