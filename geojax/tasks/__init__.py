"""Tasks: what a model is asked. See `geojax.tasks.task`."""

from geojax.tasks import climate, coords, date
from geojax.tasks.registry import (
  create_tasks,
  known,
  load_extensions,
  register,
)
from geojax.tasks.targets import Target, describe, one_class
from geojax.tasks.task import (
  LinearForm,
  Task,
  all_metrics,
  best_metric,
  compare,
  example_losses,
  label_names,
  mean_log_odds,
  mean_logits,
  mean_outputs,
  tabulate,
)

__all__ = [
  "LinearForm",
  "Target",
  "Task",
  "all_metrics",
  "best_metric",
  "climate",
  "compare",
  "coords",
  "create_tasks",
  "date",
  "describe",
  "example_losses",
  "known",
  "label_names",
  "load_extensions",
  "mean_log_odds",
  "mean_logits",
  "mean_outputs",
  "one_class",
  "register",
  "tabulate",
]
