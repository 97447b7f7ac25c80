"""Running a study: Ray, workers, checkpoints, signals, and one driver per study folder."""
