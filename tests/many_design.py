"""The small study that the tests of studies share: two networks, one that does not exist, two conditions."""

from repalign.errors import RepalignError

DESIGN = """
title = "Who keeps its geometry?"
data = "photos"
groups = "none"
controls = ["identity", "grey"]
metrics = ["cka_linear", "rsa"]
tests = ["mmd2"]
permutations = 19
choices = ["None of this is real."]
[[encoders]]
name = "python:tinynets:net"
family = "CNN"
[[encoders]]
name = "python:tinynets:nothing"
family = "ViT"
[[encoders]]
name = "python:tinynets:dead"
family = "windowed"
[[conditions]]
id = "cat60"
filter = "cat:fov_deg=60"
[[conditions]]
id = "red"
filter = "red_removal:amount=0.5"
controls = false
"""
SMALL = (
    DESIGN[: DESIGN.index('[[encoders]]\nname = "python:tinynets:dead"')]
    + DESIGN[DESIGN.index('[[conditions]]\nid = "red') :]
)
SLUGS = ["python-tinynets-net", "python-tinynets-dead"]
TABLES = ("alignment.csv", "ranking.csv", "controls.csv", "tests.csv", "layers.csv", "map.csv")


def refuse(comparison, track, known):
    raise RepalignError(f"{comparison.a} is not computed")
