"""Reports from a study folder and nothing else: the closing table, figures for paper, one page for everything."""

from pathlib import Path

from repalign.report.study_folder import read_kind, read_study

__all__ = ["read_study", "render"]


def render(study_path: Path) -> Path:
    """Draw figures and page of a saved study, diagnosis or distillation again; return the path of `report.html`.

    The same folder gives the same bytes. Raises InputError when `study_path` is no such folder or is damaged.
    """
    from repalign.report.figures import write_whole

    draw = {"study": _render_many, "diagnosis": _render_diagnosis, "distillation": _render_distillation}
    text = draw.get(read_kind(study_path), _render_pair)(study_path)
    return write_whole(study_path / "report.html", text.encode("utf-8"))


def _render_pair(study_path: Path) -> str:
    """Draw the figures of a comparison and return its page."""
    from repalign.report.figures import draw_figures
    from repalign.report.html import page

    study = read_study(study_path)
    text = page(study)
    draw_figures(study)
    return text


def _render_many(study_path: Path) -> str:
    """Draw the figures of a study of many encoders and return its page."""
    from repalign.report.many.figures import draw_many_figures
    from repalign.report.many.folder import read_many
    from repalign.report.many.page import many_page

    study = read_many(study_path)
    text = many_page(study)
    draw_many_figures(study)
    return text


def _render_diagnosis(folder: Path) -> str:
    """Draw the figures of a diagnosis and return its page."""
    from repalign.report.diagnosis.figures import draw_diagnosis_figures
    from repalign.report.diagnosis.folder import read_diagnosis
    from repalign.report.diagnosis.page import diagnosis_page

    found = read_diagnosis(folder)
    text = diagnosis_page(found)
    draw_diagnosis_figures(found)
    return text


def _render_distillation(folder: Path) -> str:
    """Draw the figures of a distillation and return its page."""
    from repalign.report.distillation.figures import draw_distillation_figures
    from repalign.report.distillation.folder import read_distillation
    from repalign.report.distillation.page import distillation_page

    found = read_distillation(folder)
    text = distillation_page(found)
    draw_distillation_figures(found)
    return text
