"""Reports from a study folder and nothing else: the closing table, figures for paper, one page for everything."""

from pathlib import Path

from repalign.report.study_folder import read_study

__all__ = ["read_study", "render"]


def render(study_path: Path) -> Path:
    """Draw figures and page of a saved study again; return the path of `report.html`.

    The same folder gives the same bytes. Raises InputError when `study_path` is no study folder or is damaged.
    """
    from repalign.report.figures import draw_figures, write_whole
    from repalign.report.html import page

    study = read_study(study_path)
    text = page(study)
    draw_figures(study)
    return write_whole(study_path / "report.html", text.encode("utf-8"))
