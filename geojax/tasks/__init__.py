"""Tasks: what a model is asked. See `geojax.tasks.task`."""

from geojax.tasks import climate, coords, date
from geojax.tasks.task import (
  Task,
  all_metrics,
  best_metric,
  compare,
  create_tasks,
  example_losses,
  known,
  label_names,
  load_extensions,
  register,
)

__all__ = [
  "Task",
  "all_metrics",
  "best_metric",
  "climate",
  "compare",
  "coords",
  "create_tasks",
  "date",
  "example_losses",
  "known",
  "label_names",
  "load_extensions",
  "register",
]
