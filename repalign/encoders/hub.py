"""Weights that live elsewhere: looked up in the cache first, then asked for once, under a deadline."""

import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from repalign.encoders.spec import Spec
from repalign.errors import HubError

DEADLINE = 3.0  # seconds for name look-up, connection and answer; with the imports before it the user waits 5 at most
CONFIG = "config.json"
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
PROXY_REFUSES = 407
REFUSALS = {
    401: "there is no such repository, or it needs a login (hf auth login)",
    403: "access is refused; ask for it on the model's page, then: hf auth login",
    404: "there is no such repository",
}


@dataclass(frozen=True)
class Remote:
    """Files on a server: `label` names them, `url` is asked, `cache` is the folder looked in.

    `variable` moves the cache; with `login` the user's token for the hub is sent along.
    """

    label: str
    url: str
    cache: Path
    variable: str = "HF_HOME"
    login: bool = False


def on_hub(repository: str) -> Remote:
    """Describe a repository of the Hugging Face hub; HF_ENDPOINT, HF_HOME and a login are respected."""
    from huggingface_hub import constants

    url = f"{constants.ENDPOINT}/{repository}/resolve/main/{CONFIG}"
    return Remote(repository, url, Path(constants.HF_HUB_CACHE), login=True)


def cached(repository: str, files: Sequence[str] = WEIGHT_FILES) -> Path | None:
    """Find the first of `files` in the hub's cache, without asking the network."""
    from huggingface_hub import try_to_load_from_cache

    for file in files:
        found = try_to_load_from_cache(repository, file)
        if isinstance(found, str):
            return Path(found)
    return None


def snapshot(repository: str) -> Path | None:
    """Find the folder in which the hub's cache keeps a repository's files.

    Libraries that are given the folder ask the network for nothing; given the repository's name and
    `local_files_only`, huggingface_hub 2.4 still fetches a list for its user agent.
    """
    found = cached(repository, (CONFIG,))
    return found.parent if found else None


def require_reachable(spec: Spec, remote: Remote) -> None:
    """Return when the server of `remote` answers within DEADLINE.

    Raises HubError with the reason and the ways out when it does not, or refuses.
    """
    from huggingface_hub import constants

    reason = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else _ask(remote, DEADLINE)
    if reason:
        raise unavailable(spec, remote, reason)


def unavailable(spec: Spec, remote: Remote, reason: str) -> HubError:
    """Build the error that says what was looked for, where, and the three ways out."""
    own = "hf:path/to/folder" if spec.source == "hf" else f"{spec.text.partition('@')[0]}@path/to/weights.safetensors"
    server = "/".join(remote.url.split("/")[:3])
    return HubError(
        f"{spec}: {remote.label} is not in the cache {remote.cache}, and {server} can't give it: {reason}. "
        f"Three ways out: name files that you have, {own}; point {remote.variable} at a filled cache; or take an "
        "encoder that comes with repalign, such as pocket:vit"
    )


def first_line(error: Exception) -> str:
    """Keep the first line of an exception's message; the libraries write paragraphs."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _ask(remote: Remote, deadline: float) -> str:
    """Send one HEAD request and say why the server can't be used, or nothing when it can.

    It runs in a daemon thread: looking a name up can hang, and no timeout of the client covers that.
    """
    from huggingface_hub import get_token
    from huggingface_hub.utils import get_session

    answers: queue.SimpleQueue[str] = queue.SimpleQueue()

    def head() -> None:
        try:
            token = get_token() if remote.login else None
            headers = {"authorization": f"Bearer {token}"} if token else {}
            status = get_session().head(remote.url, headers=headers, timeout=deadline).status_code
        except Exception as error:  # whatever the client, its proxy or its certificates raise
            answers.put(f"it can't be reached ({type(error).__name__}: {first_line(error)})")
        else:
            unusable = status >= 500 or status == PROXY_REFUSES
            answers.put(REFUSALS.get(status, f"it answers with status {status}" if unusable else ""))

    threading.Thread(target=head, daemon=True).start()
    try:
        return answers.get(timeout=deadline)
    except queue.Empty:
        return f"no answer within {deadline:g} s"
