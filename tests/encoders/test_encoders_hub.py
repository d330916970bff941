import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from huggingface_hub import constants

from repalign.encoders import ENCODERS, hub
from repalign.encoders.spec import parse_spec
from repalign.errors import HubError

SPEC = parse_spec("dino_vitb16", ENCODERS)


@pytest.fixture
def server():
    """Serve one status code to every request on a local port."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.server.seen.append(self.path)
            self.send_response(self.server.status)
            self.end_headers()

        def log_message(self, *args):
            pass

    running = HTTPServer(("127.0.0.1", 0), Handler)
    running.status, running.seen = 200, []
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield running
    running.shutdown()
    thread.join()
    running.server_close()


@pytest.fixture
def endpoint(server, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    return server


def message(repository="timm/vit"):
    with pytest.raises(HubError) as caught:
        hub.require_reachable(SPEC, hub.on_hub(repository))
    return str(caught.value)


def test_one_short_request_goes_to_the_endpoint(endpoint):
    hub.require_reachable(SPEC, hub.on_hub("timm/vit"))
    assert endpoint.seen == ["/timm/vit/resolve/main/config.json"]


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (401, "there is no such repository, or it needs a login (hf auth login)"),
        (403, "access is refused; ask for it on the model's page"),
        (404, "there is no such repository"),
        (407, "it answers with status 407"),
        (503, "it answers with status 503"),
    ],
)
def test_refusals_are_explained(endpoint, status, reason):
    endpoint.status = status
    assert f"http://127.0.0.1:{endpoint.server_port} can't give it: {reason}" in message()


def test_the_error_says_what_where_and_the_three_ways_out(no_network, hub_cache):
    text = message("timm/vit_base_patch16_224.dino")
    assert "dino_vitb16: timm/vit_base_patch16_224.dino is not in the cache" in text
    assert str(hub_cache.folder) in text
    assert f"{constants.ENDPOINT} can't give it: it can't be reached (" in text
    assert "dino_vitb16@path/to/weights.safetensors" in text
    assert "HF_HOME" in text
    assert "pocket:vit" in text


def test_a_hanging_name_look_up_ends_at_the_deadline(monkeypatch):
    assert hub.DEADLINE <= 4
    release = threading.Event()
    monkeypatch.setattr(hub, "DEADLINE", 0.05)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: release.wait(30) and [])
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    try:
        assert "no answer within 0.05 s" in message()
    finally:
        release.set()


def test_offline_mode_asks_nothing(no_network, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "can't give it: HF_HUB_OFFLINE is set" in message()
    assert no_network == []


def test_the_cache_is_looked_up_without_the_network(no_network, hub_cache):
    assert hub.cached("org/net") is None
    hub_cache("org/net", "pytorch_model.bin", lambda path: path.write_bytes(b"b"))
    assert hub.cached("org/net").name == "pytorch_model.bin"
    hub_cache("org/net", "model.safetensors", lambda path: path.write_bytes(b"s"))
    assert hub.cached("org/net").name == "model.safetensors"
    assert no_network == []
