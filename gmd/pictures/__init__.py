"""Pictures of a training and of cases, drawn from what a run has recorded."""
