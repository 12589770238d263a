"""Errors that a user can fix; messages name the cause and the remedy."""


class TrainingError(Exception):
  """A run cannot start or continue."""


class ConfigError(TrainingError):
  """A config is invalid, or does not fit its workdir or data set."""


class DatasetError(TrainingError):
  """A data set is missing, or lacks something that the run needs."""


class AgreementError(TrainingError):
  """The processes of a run differ, or some of them cannot start."""


class NonFiniteError(TrainingError):
  """A loss, gradient or parameter is not finite."""


class OutOfMemoryError(TrainingError):
  """A device has too little memory for a step."""


class CheckpointError(TrainingError):
  """A checkpoint cannot be written or read."""


class WorkdirBusyError(TrainingError):
  """Another run is training in the workdir, or it cannot be written."""


class Interrupted(Exception):
  """The run was stopped and saved its state; not a failure."""
