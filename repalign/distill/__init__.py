"""Distillation between architectures: distillers, the stages they may use, and the rules that choose them."""
