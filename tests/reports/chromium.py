"""Chromium without a window, driven through its own pipe: what a page asks for, how wide it is, what it looks like."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pytest

Scheme = Literal["light", "dark"]
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-pipe",
)  # fmt: skip
PATIENCE_SECONDS = 60
_DRIVEN = 'exec "$@" 3<&"$COMMANDS" 4>&"$ANSWERS"'
"""The browser reads commands from descriptor 3 and answers on 4."""


class Page:
    """One tab, and every address that it has asked for."""

    def __init__(self, commands: int, answers: int) -> None:
        self.asked_for: list[str] = []
        self._commands, self._answers, self._number, self._rest, self._session = commands, answers, 0, b"", ""
        self._loaded = False
        target = self.do("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.do("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime"):
            self.do(f"{domain}.enable")

    def show(self, path: Path, width: int, scheme: Scheme, media: str = "screen") -> None:
        """Open a file in a window `width` CSS pixels wide."""
        self.resize(width, 900)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.do("Emulation.setEmulatedMedia", media=media, features=features)
        self.open(path.as_uri())

    def resize(self, width: int, height: int) -> None:
        """Make the window so large, in CSS pixels."""
        self.do("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def open(self, address: str) -> None:
        """Open an address, and wait until it is loaded."""
        self._loaded = False
        self.do("Page.navigate", url=address)
        while not self._loaded:
            self._receive()

    def wait_for(self, expression: str, seconds: float = PATIENCE_SECONDS) -> Any:
        """What a piece of JavaScript gives as soon as it is true; a page fills itself after it is loaded."""
        until = time.monotonic() + seconds
        while not (found := self.value(expression)):
            assert time.monotonic() < until, f"the page never came to {expression}"
            time.sleep(0.2)
        return found

    def value(self, expression: str) -> Any:
        """What a piece of JavaScript gives, as a plain value."""
        found = self.do("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def picture(self, path: Path, whole: bool = False) -> None:
        """Save what is seen, or all that could be scrolled to, as PNG."""
        found = self.do("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(found["data"]))

    def do(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command of the DevTools protocol, and what it gives."""
        self._number += 1
        number = self._number
        command: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session:
            command["sessionId"] = self._session
        os.write(self._commands, json.dumps(command).encode() + b"\0")
        while (answer := self._receive()).get("id") != number:
            pass
        assert "error" not in answer, answer
        found: dict[str, Any] = answer["result"]
        return found

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._answers], [], [], PATIENCE_SECONDS)
            more = os.read(self._answers, 1 << 20) if ready else b""
            assert more, "the browser has ended, or says nothing"
            self._rest += more
        line, self._rest = self._rest.split(b"\0", 1)
        message: dict[str, Any] = json.loads(line)
        if message.get("method") == "Network.requestWillBeSent":
            self.asked_for.append(message["params"]["request"]["url"])
        elif message.get("method") == "Page.loadEventFired":
            self._loaded = True
        return message


@contextmanager
def opened_page(folder: Path, proxy: str) -> Iterator[Page]:
    """A browser with a profile in `folder`, whose every request goes to `proxy`; a skipped test where there is none."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip(f"no browser is installed (looked for {', '.join(NAMES)})")
    (read_commands, commands), (answers, write_answers) = os.pipe(), os.pipe()
    environment = os.environ | {"COMMANDS": str(read_commands), "ANSWERS": str(write_answers)}
    arguments = [program, *FLAGS, f"--user-data-dir={folder}", f"--proxy-server={proxy}", "about:blank"]
    with (folder.parent / "browser.log").open("wb") as log:
        browser = subprocess.Popen(
            ["/bin/bash", "-c", _DRIVEN, "browser", *arguments],
            pass_fds=(read_commands, write_answers), env=environment, stdout=log, stderr=log,
        )  # fmt: skip
    os.close(read_commands)
    os.close(write_answers)
    try:
        page = Page(commands, answers)
        yield page
        page._session = ""
        page.do("Browser.close")
    finally:
        os.close(commands)
        os.close(answers)
        try:
            browser.wait(20)
        except subprocess.TimeoutExpired:
            browser.kill()
            browser.wait()
