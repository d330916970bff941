"""The report of a study of many encoders under several conditions, from its folder and nothing else."""
