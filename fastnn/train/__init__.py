"""Training: the Trainer, its callbacks, checkpoints and metrics.

    trainer = fastnn.train.Trainer(model, fastnn.optim.Adam(model.parameters(), 1e-3), seed=0)
    history = trainer.fit(train, epochs=20, validation=validation, batch_size=32)
    print(trainer.evaluate(test))

A plain loop of one's own over a Loader (zero_grad, forward, backward, step) does the same, bit for bit.
"""

from typing import TYPE_CHECKING

from ..elsewhere import absent
from .activation_table import ActivationStatistics, LayerActivations
from .activations import activation_statistics
from .averaged import average_views
from .bad_step import reproduce
from .callbacks import Callback, EarlyStopping, HistoryFile, ModelCheckpoint
from .checkpoint import Snapshot, Trained, load_model, save_model
from .confusion import confusion_matrix
from .diverged import Diverged
from .ensemble import Ensemble
from .features import features
from .find_rate import find_rate
from .frozen_parts import freeze, unfreeze
from .heads import replace_head
from .history import History
from .interrupt import Interrupted
from .metrics import accuracy, top5_accuracy, top_k
from .op_by_op import Finding
from .per_class import ClassReport
from .pretrained import Loaded, load_pretrained
from .rate_search import RateSearch
from .report import report_html
from .stages import Stage, stages
from .tensorboard import TensorBoard
from .trainer import Trainer
from .transfer import Transferred, transfer
from .transfer_plan import TransferPlan, plan_transfer
from .update_ratios import UpdateRatios
from .views import View, five_crops, multi_scale, six_views, ten_crops
from .weights import show_weights, weight_images
from .why_slow import WhySlow

__all__ = [
    "ActivationStatistics",
    "Callback",
    "ClassReport",
    "Diverged",
    "EarlyStopping",
    "Ensemble",
    "Finding",
    "History",
    "HistoryFile",
    "Interrupted",
    "LayerActivations",
    "Loaded",
    "ModelCheckpoint",
    "RateSearch",
    "Snapshot",
    "Stage",
    "TensorBoard",
    "Trained",
    "Trainer",
    "TransferPlan",
    "Transferred",
    "UpdateRatios",
    "View",
    "WhySlow",
    "accuracy",
    "activation_statistics",
    "average_views",
    "confusion_matrix",
    "features",
    "find_rate",
    "five_crops",
    "freeze",
    "load_model",
    "load_pretrained",
    "multi_scale",
    "plan_transfer",
    "replace_head",
    "report_html",
    "reproduce",
    "save_model",
    "show_weights",
    "six_views",
    "stages",
    "ten_crops",
    "top5_accuracy",
    "top_k",
    "transfer",
    "unfreeze",
    "weight_images",
]

if not TYPE_CHECKING:  # which knows the names that there are
    __getattr__ = absent(__name__)
