"""Training a cohort: K networks of one group, side by side.

`trainer.train` is the entry; `cohort.CohortRun` is the loop over epochs and `step.TrainingStep` one
step of it, where ε enters.
"""
