"""A headless Chromium that tests drive by real mouse and key events.

It is spoken to over the pipe of the DevTools protocol, which takes no further package.
"""

import fcntl
import json
import os
import select
import shutil
import subprocess
import time

FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--disable-extensions", "--remote-debugging-pipe", "--hide-scrollbars")
PLACES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
KEYS = {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Tab": 9, "Home": 36,
        "End": 35, "Enter": 13, " ": 32}


def find():
    """The path of a Chromium or Chrome, or None."""
    return next(filter(None, map(shutil.which, PLACES)), None)


def start(profile):
    """Start Chromium; returns (process, end of the pipe to it, end of the pipe from it)."""
    (commands_in, commands), (answers, answers_in) = os.pipe(), os.pipe()
    # Chromium reads from 3 and writes to 4: first clear of them, in case a pipe has these numbers
    high = [fcntl.fcntl(end, fcntl.F_DUPFD, 20) for end in (commands_in, answers_in)]

    def place():
        for end, target in zip(high, (3, 4)):
            os.dup2(end, target)

    process = subprocess.Popen([find(), *FLAGS, f"--user-data-dir={profile}", "about:blank"],
                               preexec_fn=place, pass_fds=(3, 4), stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    for end in (commands_in, answers_in, *high):
        os.close(end)
    return process, commands, answers


class Chromium:
    """One page.

    Attributes:
        faults: console errors, uncaught exceptions and blocked resources of the page that is open.
        requests: every URL that it asked for.
    """

    def __init__(self, profile, seconds=60):
        """Start Chromium with a folder for its profile; it may take so many seconds to answer."""
        self.seconds, self.number, self.buffer = seconds, 0, b""
        self.faults, self.requests = [], []
        self.process, self.commands, self.answers = start(profile)

        self.session = None
        targets = self.ask("Target.getTargets")["targetInfos"]
        page = next(target for target in targets if target["type"] == "page")
        attached = self.ask("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.commands)
        os.close(self.answers)

    def ask(self, method, **parameters):
        """Send a command and wait for its result; events that come meanwhile are noted."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        while (answer := self.read()).get("id") != self.number:
            self.note(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def read(self):
        """The next message; events and results come on one pipe, each ended by a zero byte."""
        end = time.monotonic() + self.seconds
        while b"\0" not in self.buffer:
            if not select.select([self.answers], [], [], max(0, end - time.monotonic()))[0]:
                raise TimeoutError(f"no answer from Chromium in {self.seconds} s")
            if not (part := os.read(self.answers, 1 << 20)):
                raise RuntimeError("Chromium has ended")
            self.buffer += part
        message, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(message)

    def note(self, message):
        """Keep what an event says about faults and requests."""
        method, about = message.get("method"), message.get("params", {})
        if method == "Runtime.exceptionThrown":
            exception = about["exceptionDetails"]["exception"]
            self.faults.append(exception.get("description", "exception"))
        elif method == "Runtime.consoleAPICalled":
            if about["type"] in ("error", "warning", "assert"):
                self.faults.append(" ".join(str(value.get("value")) for value in about["args"]))
        elif method == "Log.entryAdded" and about["entry"]["level"] in ("error", "warning"):
            self.faults.append(about["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(about["request"]["url"])

    def open(self, path, width=1200, height=900, script=True, **media):
        """Load a file at this size.

        `media` are CSS features such as prefers_color_scheme="dark".
        """
        self.faults, self.requests = [], []
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height,
                 deviceScaleFactor=1, mobile=width < 600)
        self.ask("Emulation.setScriptExecutionDisabled", value=not script)
        features = [{"name": name.replace("_", "-"), "value": value}
                    for name, value in media.items()]
        self.ask("Emulation.setEmulatedMedia", media="", features=features)

        self.ask("Page.navigate", url=f"file://{path}")
        while (message := self.read()).get("method") != "Page.loadEventFired":
            self.note(message)
        self.note(message)

    def value(self, expression):
        """What an expression of JavaScript gives, as JSON."""
        found = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"]["exception"]["description"])
        return found["result"].get("value")

    def place(self, selector, x=0.5, y=0.5):
        """Scroll an element into view; returns where a point of it is in the viewport.

        Args:
            selector: of the element.
            x, y: the point, in parts of the element's size.
        """
        left, top, width, height = self.value(f"""(() => {{
            const element = document.querySelector({json.dumps(selector)});
            element.scrollIntoView({{block: "center", behavior: "instant"}});
            const box = element.getBoundingClientRect();
            return [box.x, box.y, box.width, box.height];
        }})()""")
        return left + x * width, top + y * height

    def move(self, selector, x=0.5, y=0.5):
        """Move the mouse to a point of an element."""
        left, top = self.place(selector, x, y)
        self.ask("Input.dispatchMouseEvent", type="mouseMoved", x=left, y=top)
        return left, top

    def click(self, selector):
        """Click into the middle of an element."""
        left, top = self.move(selector)
        for kind in ("mousePressed", "mouseReleased"):
            self.ask("Input.dispatchMouseEvent", type=kind, x=left, y=top, button="left",
                     clickCount=1)

    def press(self, key, times=1):
        """Press and release a key of KEYS."""
        text = {"Enter": {"text": "\r"}, " ": {"text": " "}}.get(key, {})
        about = {"key": key, "code": "Space" if key == " " else key,
                 "windowsVirtualKeyCode": KEYS[key]}
        for _ in range(times):
            self.ask("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", **about,
                     **text)
            self.ask("Input.dispatchKeyEvent", type="keyUp", **about)
