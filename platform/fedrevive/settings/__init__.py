"""Everything a user can set: frozen pydantic models, one file per section. Imports neither torch nor ray."""

from fedrevive.settings.experiment import ExperimentConfig

__all__ = ["ExperimentConfig"]
