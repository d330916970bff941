"""How sure is a score: intervals, tests and stability, all from resampling stimuli or groups without replacement."""
