"""What a user can set right: messages say what is wrong and the way out."""


class TrainingError(Exception):
  """A run that cannot start or go on."""


class ConfigError(TrainingError):
  """A config that cannot be run, or not in this workdir."""


class DatasetError(TrainingError):
  """A data set that is not built, or lacks what the run needs."""


class NonFiniteError(TrainingError):
  """A loss, gradient or parameter is no finite number."""


class CheckpointError(TrainingError):
  """A checkpoint that cannot be written or read."""


class WorkdirBusyError(TrainingError):
  """A workdir in which another run is training."""


class Interrupted(Exception):
  """A run that was asked to stop and saved its state; no failure."""
