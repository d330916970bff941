"""The command line: options in, one message or one table out. It holds no logic of its own.

Heavy imports happen inside the commands, so that `repalign --help` answers at once.
"""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from repalign.cache_cli import app as cache_app
from repalign.diagnose_cli import diagnose
from repalign.distill_cli import distill
from repalign.errors import RepalignError
from repalign.terminal import command_line, track

if TYPE_CHECKING:
    from repalign.study import Comparison

INTERRUPTED = 130  # what a shell reports after Ctrl-C

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="How alike are two representations, layer by layer, and how sure is that?",
    epilog="Add --debug to any command for the traceback of an error.",
)

app.add_typer(cache_app, name="cache")
app.command()(diagnose)
app.command()(distill)

Model = Annotated[
    str, typer.Option(help=r"Encoder: \[source:]name\[@weights], as in resnet50, pocket:vit, hf:org/name.")
]
Data = Annotated[
    str | None,
    typer.Option(
        help="Stimuli: a folder, a .csv manifest, an .npy or .npz array, shards, on disk or streamed (wds:…), a "
        "streamed Hugging Face data set (hfdata:…), or bundled:photos\\[:colour]."
    ),
]
Out = Annotated[Path | None, typer.Option(help="Study folder to write; default: a new name in this folder.")]
Force = Annotated[bool, typer.Option("--force", help="Replace the study that --out names.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]
Batch = Annotated[int, typer.Option(min=1, help="Pictures in one forward pass.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Threads that decode pictures.")]
SkipUnreadable = Annotated[
    bool,
    typer.Option("--skip-unreadable", help="Go on without pictures that can't be decoded; the study lists them."),
]


@app.command()
def compare(
    a: Model,
    b: Annotated[str | None, typer.Option(help="Second encoder; without it, A is compared with itself.")] = None,
    data: Data = None,
    data_b: Annotated[str | None, typer.Option(help="What B sees, paired with --data by relative name.")] = None,
    filter_: Annotated[
        str | None,
        typer.Option(
            "--filter", help="Compare A on the pictures with A on the filtered ones: cat:fov_deg=60, grey, blur:…"
        ),
    ] = None,
    filter_a: Annotated[str | None, typer.Option(help="The filter before A alone.")] = None,
    filter_b: Annotated[str | None, typer.Option(help="The filter before B alone.")] = None,
    controls: Annotated[
        str,
        typer.Option(
            help="Filters as strong as a second condition, to judge it by: all, none, or names, as in grey,noise."
        ),
    ] = "all",
    tests: Annotated[
        str, typer.Option(help="Two-sample tests of two conditions: names, or none.")
    ] = "mmd2,energy,sliced_wasserstein1",
    metric: Annotated[
        list[str] | None,
        typer.Option(help=r"name\[:key=value,…]; repeat for more. Default: cka_linear, cka_rbf, rsa."),
    ] = None,
    layers: Annotated[str, typer.Option(help="blocks, stages, or globs such as 'layer3.*,layer4.*'.")] = "blocks",
    interval: Annotated[
        str, typer.Option(help="jackknife, half (halves of the stimuli) or none: how sure each score is.")
    ] = "jackknife",
    permutations: Annotated[
        int, typer.Option(min=0, help="Arrangements of the stimuli, or groups, behind each p; 0 for no test.")
    ] = 999,
    groups: Annotated[
        str, typer.Option(help="What is exchangeable: own (as the data say), folder, label or none.")
    ] = "own",
    pairs: Annotated[
        str, typer.Option(help="between: only stimuli of different groups are compared; all: of one group too.")
    ] = "between",
    stability: Annotated[
        bool, typer.Option("--stability/--no-stability", help="Scores against number of stimuli, halves and pooling.")
    ] = True,
    pools: Annotated[
        str, typer.Option(help="Further poolings to compare the scores under, as in max,cls.")
    ] = "mean,max",
    layers_b: Annotated[str | None, typer.Option(help="The same for B, when it differs.")] = None,
    pool: Annotated[str, typer.Option(help="mean, cls, max, flatten or grid:k.")] = "mean",
    limit: Annotated[int | None, typer.Option(help="Use a seeded random subset of this many stimuli.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")] = 0,
    out: Out = None,
    force: Force = False,
    device: Device = "auto",
    batch_size: Batch = 32,
    workers: Workers = None,
    skip_unreadable: SkipUnreadable = False,
    allow_partial: Annotated[
        bool, typer.Option("--allow-partial", help="Accept @weights that fit the encoder only in part, and say so.")
    ] = False,
    save_features: Annotated[
        bool, typer.Option("--save-features", help="Keep A's features in the study, to be read as features:FILE.")
    ] = False,
    precision: Annotated[
        str, typer.Option(help="fp32, bf16, or auto: bf16 where it is faster and a sample shows that no score suffers.")
    ] = "auto",
    compiled: Annotated[bool, typer.Option("--compile", help="Run encoders through torch.compile.")] = False,
    memory: Annotated[
        str | None, typer.Option(help="What comparing may work in, as in 4GB; default: a quarter of what is free.")
    ] = None,
    max_pairwise: Annotated[
        int, typer.Option(help="Stimuli of which every pair is taken; of more, a seeded subset (linear CKA: all).")
    ] = 4096,
    cache: Annotated[bool, typer.Option("--cache/--no-cache", help="Keep features for the next run.")] = True,
) -> None:
    """Compare two encoders, or one under two conditions, layer by layer, and write a study with its report."""
    from repalign.controls import CONTROLS
    from repalign.infer.matrix import Plan
    from repalign.metrics import DEFAULT_METRICS
    from repalign.side import Options
    from repalign.study import Comparison

    options = Options(
        pool, layers, layers_b, limit, seed, device, batch_size, workers, skip_unreadable, allow_partial,
        _names(pools) if stability else (), groups, filter_, filter_a, filter_b, precision, compiled, memory,
        max_pairwise, cache,
    )  # fmt: skip
    plan = Plan(interval, n_permutations=permutations, seed=seed)
    chosen = tuple(metric or DEFAULT_METRICS)
    _run(
        Comparison(
            a, b, data, data_b, chosen, out, force, options, plan, stability, pairs,
            CONTROLS if controls == "all" else _names(controls), _names(tests),
            "all" if save_features else "none", command_line(),
        )
    )  # fmt: skip


@app.command()
def study(
    file: Annotated[Path, typer.Argument(help="The design, a .toml file; see docs/studies.md.")],
    data: Annotated[str | None, typer.Option(help="Other stimuli than the design's.")] = None,
    limit: Annotated[int | None, typer.Option(help="Another seeded random subset than the design's.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the study; default: repalign-NAME, after the design.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Compute every part again.")] = False,
    device: Annotated[str | None, typer.Option(help="Another device than the design's.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Pictures in one forward pass.")] = None,
    workers: Workers = None,
    skip_unreadable: SkipUnreadable = False,
    cache: Annotated[bool, typer.Option("--cache/--no-cache", help="Keep features for the next run.")] = True,
) -> None:
    """Run many encoders under many conditions; a study that was stopped goes on where it was."""
    from repalign.design import read_design
    from repalign.many import run_study
    from repalign.report.many.folder import read_many
    from repalign.report.many.table import ranking_table

    changes = {
        "data": data, "limit": limit, "device": device, "batch_size": batch_size, "workers": workers,
        "skip_unreadable": skip_unreadable or None, "cache": None if cache else False,
    }  # fmt: skip
    done = run_study(read_design(file, changes), out, force, command_line(), track)
    _print(ranking_table(read_many(done.folder)))
    if done.kept:
        there = f"{done.kept} of {done.parts} parts were there already, computed on the pictures as they were then"
        print(f"{there}; --force computes all again")
    if done.failed:
        several = "1 encoder" if len(done.failed) == 1 else f"{len(done.failed)} encoders"
        _stop(f"{several} failed: {'; '.join(f'{one.name}: {one.error}' for one in done.failed)}", 1, debug=False)


@app.command()
def demo(out: Out = None, force: Force = False, device: Device = "auto") -> None:
    """Compare two small trained networks on bundled photographs: no download, about a minute."""
    from repalign.side import Options
    from repalign.study import DEMO, Comparison

    a, b, data = DEMO
    options = Options(device=device, pools=("max",))
    _run(Comparison(a, b, data, out=out, force=force, options=options, command=command_line()))


@app.command()
def layers(
    model: Annotated[str, typer.Argument(help="Encoder, as for --a.")],
    choice: Annotated[str, typer.Option("--layers", help="blocks, stages or globs.")] = "blocks",
    everything: Annotated[bool, typer.Option("--all", help="List every layer that can be recorded.")] = False,
) -> None:
    """List an encoder's layers with output shapes and depth; no weights are needed."""
    from repalign.encoders import load_structure
    from repalign.encoders.structure import select
    from repalign.report.listings import layer_table

    encoder = load_structure(model)
    _print(layer_table(encoder.layers if everything else select(encoder.layers, choice)))


@app.command("filter")
def filter_(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help=r"Filter: name\[:key=value,…], more after a comma: cat:fov_deg=60,jpeg:q=50."
        ),
    ],
    data: Annotated[str, typer.Argument(metavar="IN", help="Stimuli as for --data of compare, or a single picture.")],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="New folder: a PNG a stimulus under its name, for compare --data-b.")
    ],
    limit: Annotated[int | None, typer.Option(min=1, help="Only the subset that compare --limit takes.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of that subset.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace what this command wrote to OUT before.")] = False,
    skip_unreadable: Annotated[
        bool,
        typer.Option("--skip-unreadable", help="Go on without pictures that can't be decoded; OUT.json lists them."),
    ] = False,
) -> None:
    """Write pictures as a filter shows them; beside the folder, OUT.png is a sheet to look at, OUT.json a record."""
    from repalign.filtering import filter_pictures

    done = filter_pictures(name, data, out, force, skip_unreadable, limit, seed, track, command_line())
    print("\n".join(done.lines))  # plain: rich would read brackets in paths as markup


@app.command()
def models() -> None:
    """List the pocket encoders with their measured accuracy, and the short names of well-known models."""
    from repalign.encoders.pocket import catalogue
    from repalign.encoders.timm import ALIASES
    from repalign.report.listings import model_table

    _print(model_table(catalogue(), ALIASES))


@app.command()
def report(study: Annotated[Path, typer.Argument(help="A study, diagnosis or run folder.")]) -> None:
    """Draw a study's figures and page again from its saved files."""
    from repalign.report import render

    _print(f"report: {render(study)}")


def main() -> None:
    """Run the command line; every error repalign raises is one message and an exit code."""
    debug = "--debug" in sys.argv
    sys.argv = [argument for argument in sys.argv if argument != "--debug"]
    try:
        code = app(standalone_mode=False)
        if code == INTERRUPTED:  # typer's answer to Ctrl-C
            raise KeyboardInterrupt
    except (KeyboardInterrupt, typer.Abort):
        _stop(f"interrupted; {_left_behind(sys.argv[1:])}", INTERRUPTED, debug)
    except RepalignError as error:
        _stop(str(error), error.exit_code, debug)
    except Exception as error:
        if hasattr(error, "format_message"):  # a wrong option; click's class, which newer typer keeps private
            said = error.format_message()  # type: ignore[attr-defined]
            _stop(f"{said} (see repalign --help)" if said else "give a command", 2, debug)
        _stop(f"{type(error).__name__}: {error} (our fault; --debug shows where)", 1, debug)
    sys.exit(code if isinstance(code, int) else 0)


def _left_behind(arguments: list[str]) -> str:
    """Say what stays of a command that was stopped."""
    if arguments[:1] == ["distill"]:
        return "finished epochs are kept, and --resume with the same --out goes on"
    if arguments[:1] != ["study"]:
        return "nothing was written"
    again = "the same command without --force" if "--force" in arguments else "the same command"
    return f"finished parts are kept, and {again} goes on"


def _run(comparison: "Comparison") -> None:
    """Compute a study and print its closing table."""
    from repalign.report.study_folder import read_study
    from repalign.report.table import closing_table
    from repalign.study import run

    folder = run(comparison, track)
    if os.environ.get("RANK", "0") == "0":  # of several processes, one has written it
        _print(closing_table(read_study(folder)))


def _names(listed: str) -> tuple[str, ...]:
    """Split a list of names at its commas; `none` is an empty one."""
    return () if listed == "none" else tuple(filter(None, listed.split(",")))


def _print(what: Any) -> None:  # noqa: ANN401  anything rich can print
    from rich.console import Console

    Console(soft_wrap=isinstance(what, str)).print(what, highlight=False)


def _stop(message: str, code: int, debug: bool) -> NoReturn:
    """Print one message and end with `code`, or raise what is being handled under --debug."""
    if debug:
        raise  # noqa: PLE0704  called from an except block only
    print(f"repalign: {message}", file=sys.stderr)
    sys.exit(code)
