"""The report of a distillation: what training changed, and what the student's stages came to."""
