"""Running a study: Ray, workers, checkpoints, and one driver per study folder."""
