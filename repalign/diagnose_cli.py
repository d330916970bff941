"""The command `repalign diagnose`: options in, the verdict and a folder out. It holds no logic of its own."""

from pathlib import Path
from typing import Annotated

import typer

from repalign.terminal import command_line, track


def diagnose(
    teacher: Annotated[str, typer.Option(help="Classifier that shall teach, as in pocket:resnet or resnet50@file.pt.")],
    student: Annotated[
        str, typer.Option(help="Classifier that shall learn, best trained a little: pocket:vit@file.pt.")
    ],
    data: Annotated[
        str,
        typer.Option(
            help="Pictures that neither was trained on: a folder with one sub-folder a class, a manifest with a column "
            "label, train/ and val/ folders (test/ is never looked at), torchvision:NAME, or any without labels."
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="Folder to write; default: a new name in this folder.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the diagnosis that --out names.")] = False,
    pictures: Annotated[int, typer.Option(help="Use a seeded subset of this many pictures.")] = 2000,
    rule: Annotated[
        str | None, typer.Option(help="What chooses stages: gap, lag, knee, all or logits; all rules are shown.")
    ] = None,
    tau: Annotated[float | None, typer.Option(help="Of the rule gap: 1 − CKA above which a stage is kept.")] = None,
    groups: Annotated[
        str, typer.Option(help="What is exchangeable: own (as the data say), folder, label or none.")
    ] = "own",
    permutations: Annotated[
        int, typer.Option(min=0, help="Arrangements of the pictures, or groups, behind each p; 0 for no test.")
    ] = 199,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures in one forward pass.")] = 32,
    workers: Annotated[int | None, typer.Option(min=1, help="Threads that decode pictures.")] = None,
    skip_unreadable: Annotated[
        bool, typer.Option("--skip-unreadable", help="Go on without pictures that can't be decoded, and list them.")
    ] = False,
    cache: Annotated[bool, typer.Option("--cache/--no-cache", help="Keep features for the next run.")] = True,
) -> None:
    """Find where teacher and student part, and recommend what to distil, with reasons and a distill.toml."""
    from repalign.diagnosing import Ask, Settings, closing_lines, diagnose_to_folder

    given = {"rule": rule, "tau": tau}
    settings = Settings(
        pictures=pictures, permutations=permutations, seed=seed,
        **{k: v for k, v in given.items() if v is not None},  # type: ignore[arg-type]  both have their types
    )  # fmt: skip
    ask = Ask(
        teacher, student, data, out, force, settings, groups, device, batch_size, workers, skip_unreadable, cache,
        command=command_line(),
    )  # fmt: skip
    print("\n".join(closing_lines(diagnose_to_folder(ask, track))))  # plain: rich would read brackets as markup
