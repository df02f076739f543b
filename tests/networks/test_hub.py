"""Without a network a name that is no folder is refused at once, and one that was fetched before is not."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import NoReturn

import pytest
from huggingface_hub import constants

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.networks import hub
from soul_lightning.networks.hub import refuse_unreachable
from soul_lightning.networks.loading import PretrainedNetwork


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """No host has an address and no proxy knows any; those that were asked for."""
    asked: list[str] = []

    def getaddrinfo(host: str, *_: object) -> NoReturn:
        asked.append(host)
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(hub, "getproxies", dict)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return asked


def test_a_name_without_a_network_is_refused(alone: list[str]) -> None:
    with pytest.raises(MisconfigurationError, match=r"there is no folder 'smolm2', and no network .*check the path"):
        PretrainedNetwork("smolm2").load_network()
    with pytest.raises(MisconfigurationError, match="there is no folder 'of/mine', and no network"):
        PretrainedNetwork("packaged:tiny_world/clean", tokenizer="of/mine").load_tokenizer()
    assert len(alone) == 2
    with pytest.raises(MisconfigurationError, match="there is no folder 'smol lm 2', and the hub gives no tokenizer"):
        PretrainedNetwork("smol lm 2").load_tokenizer()
    assert len(alone) == 2


def test_what_is_there_asks_nobody(
    alone: list[str], model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_unreachable(str(model_folder))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    fetched = tmp_path / "models--of--mine"
    (fetched / "snapshots" / "abc").mkdir(parents=True)
    (fetched / "snapshots" / "abc" / "config.json").write_text("{}")
    (fetched / "refs").mkdir()
    (fetched / "refs" / "main").write_text("abc")
    refuse_unreachable("of/mine")
    monkeypatch.setattr(hub, "getproxies", lambda: {"https": "http://localhost:3128"})
    refuse_unreachable("of/others")
    assert not alone


def test_with_a_network_the_hub_is_asked(alone: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *_: alone.append(host))
    refuse_unreachable("of/mine")
    assert alone
