#!/usr/bin/python3
"""Looks at a page as Chromium shows it, and says what there is to say of it, as JSON on standard output.

    browser.py FOLDER URL REBOUND

The page at URL is loaded for each colour scheme and width, with scripts forbidden, and a picture of each is put into FOLDER. REBOUND is the URL of
the same listener by a name that is made to lead there. The browser has a profile of its own, finds no host by any other name, and is spoken to over two
pipes (--remote-debugging-pipe), so that no port is open.
"""

import base64
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from urllib.parse import urlsplit

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
# Seconds for one command, on a busy machine.
PATIENCE = 60
# Name, width in pixels.
WIDTHS = [("wide", 1600), ("middle", 900), ("narrow", 400)]
SCHEMES = ["light", "dark"]

# Runs in the browser, not as part of the page: what lies wider than the window, and text too faint to be read (WCAG 2.1, 1.4.3: 4.5, and 3 for
# large letters). Colours of text are solid here, and so are those behind it.
LOOK = r"""
(() => {
  const parse = text => (text.match(/[\d.]+/g) || [0, 0, 0, 0]).map(Number);
  const light = ([r, g, b]) => {
    const part = [r, g, b].map(v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * part[0] + 0.7152 * part[1] + 0.0722 * part[2];
  };
  const ratio = (a, b) => { const [x, y] = [light(a), light(b)].sort((m, n) => n - m); return (x + 0.05) / (y + 0.05); };
  const behind = node => {
    for (let at = node; at; at = at.parentElement) {
      const box = at.tagName === 'g' && at.querySelector(':scope > rect');
      const style = getComputedStyle(box || at);
      const colour = parse(box ? style.fill : style.backgroundColor);
      if (colour.length < 4 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const faint = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let seen = 0;
  while (walker.nextNode()) {
    const text = walker.currentNode, node = text.parentElement;
    if (!text.data.trim() || ['TITLE', 'title', 'desc'].includes(node.tagName) || !node.getClientRects().length) continue;
    const style = getComputedStyle(node);
    const colour = parse(node.tagName === 'text' ? style.fill : style.color);
    const large = parseFloat(style.fontSize) >= 24;
    const found = ratio(colour, behind(node));
    seen += 1;
    if (found < (large ? 3 : 4.5)) faint.push(`${text.data.trim().slice(0, 40)}: ${found.toFixed(2)}`);
  }
  const shown = [...document.querySelectorAll('svg.way')].filter(svg => svg.getClientRects().length);
  const spilt = shown.flatMap(svg => [...svg.querySelectorAll('.node')].flatMap(node => {
    const box = node.querySelector('rect').getBoundingClientRect();
    return [...node.querySelectorAll('text')].filter(text => text.getBoundingClientRect().right > box.right).map(text => text.textContent);
  }));
  return {
    title: document.title,
    text: document.body.innerText,
    overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    drawings: shown.map(svg => svg.querySelector('desc').textContent),
    lines: shown.flatMap(svg => [...svg.querySelectorAll('.edge path')].map(path => `${path.getAttribute('class')} ${getComputedStyle(path).stroke}`)),
    back: getComputedStyle(document.body).backgroundColor,
    seen, faint, spilt,
  };
})()
"""


class Browser:
    """A browser and its one tab."""

    def __init__(self, profile, rules):
        down_read, self.down = os.pipe()
        self.up, up_write = os.pipe()
        # The browser reads at 3 and writes at 4.
        command = [
            "/bin/sh", "-c", f'exec "$0" "$@" 3<&{down_read} 4>&{up_write}', CHROMIUM,
            "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--no-default-browser-check", "--disable-background-networking",
            "--disable-component-update", "--disable-sync", "--disable-extensions", "--disable-default-apps", "--disable-domain-reliability", "--metrics-recording-only",
            "--no-pings", "--no-proxy-server", "--disable-dev-shm-usage", "--hide-scrollbars", "--force-device-scale-factor=1", f"--host-resolver-rules={rules}",
            "--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank",
        ]
        self.log = open(os.path.join(profile, "chromium.log"), "w+b")
        environment = {"PATH": "/usr/bin:/bin", "HOME": profile, "XDG_CONFIG_HOME": profile, "XDG_CACHE_HOME": profile}
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, env=environment, pass_fds=(down_read, up_write))
        os.close(down_read)
        os.close(up_write)
        self.rest, self.number, self.events, self.session = b"", 0, [], None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Log", "Runtime", "Network"):
            self.call(f"{domain}.enable")
        self.call("Page.setLifecycleEventsEnabled", enabled=True)

    def call(self, method, **params):
        """What a command gives."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.down, json.dumps(message).encode() + b"\0")
        answer = self.until(lambda said: said.get("id") == self.number)
        if "error" in answer:
            raise SystemExit(f"{method}: {answer['error']}")
        return answer["result"]

    def wait(self, loader):
        """Until this page has been loaded, and asks for nothing more."""
        def is_it(said):
            params = said.get("params", {})
            return said.get("method") == "Page.lifecycleEvent" and (params["loaderId"], params["name"]) == (loader, "networkIdle")

        if not any(map(is_it, self.events)):
            self.until(is_it)

    def until(self, is_it):
        end = time.monotonic() + PATIENCE
        while True:
            while b"\0" not in self.rest:
                ready, _, _ = select.select([self.up], [], [], max(0, end - time.monotonic()))
                more = os.read(self.up, 1 << 16) if ready else b""
                if not more:
                    self.log.seek(0)
                    raise SystemExit(f"the browser says nothing more; its log:\n{self.log.read().decode(errors='replace')[-4000:]}")
                self.rest += more
            text, self.rest = self.rest.split(b"\0", 1)
            said = json.loads(text)
            if "method" in said:
                self.events.append(said)
            if is_it(said):
                return said

    def open(self, url):
        """Loads a page. Gives what it made the browser say and ask for."""
        self.events.clear()
        self.wait(self.call("Page.navigate", url=url)["loaderId"])
        said = []
        for event in self.events:
            params = event["params"]
            if event["method"] == "Log.entryAdded":
                said.append(params["entry"]["text"])
            elif event["method"] == "Runtime.consoleAPICalled":
                said.append(json.dumps(params["args"]))
            elif event["method"] == "Runtime.exceptionThrown":
                said.append(params["exceptionDetails"]["text"])
        requests = [event["params"]["request"]["url"] for event in self.events if event["method"] == "Network.requestWillBeSent"]
        statuses = [event["params"]["response"]["status"] for event in self.events if event["method"] == "Network.responseReceived"]
        return {"console": said, "requests": requests, "statuses": statuses}

    def evaluate(self, expression):
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in result:
            raise SystemExit(json.dumps(result["exceptionDetails"]))
        return result["result"]["value"]

    def close(self):
        self.session = None
        os.write(self.down, json.dumps({"id": 0, "method": "Browser.close"}).encode() + b"\0")
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def views(browser, folder, url):
    for scheme in SCHEMES:
        browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        for name, width in WIDTHS:
            browser.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
            browser.call("Emulation.setScriptExecutionDisabled", value=True)
            view = {"scheme": scheme, "width": width, **browser.open(url)}
            browser.call("Emulation.setScriptExecutionDisabled", value=False)
            view.update(browser.evaluate(LOOK))
            picture = browser.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"]
            view["picture"] = os.path.join(folder, f"{scheme}-{name}.png")
            with open(view["picture"], "wb") as file:
                file.write(base64.b64decode(picture))
            yield view


def main():
    folder, url, rebound = sys.argv[1:]
    os.makedirs(folder, exist_ok=True)
    rules = f"MAP {urlsplit(rebound).hostname} 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser(profile, rules)
        try:
            seen = {"views": list(views(browser, folder, url))}
            seen["rebound"] = browser.open(rebound)
            seen["rebound"]["text"] = browser.evaluate("document.body.innerText")
        finally:
            browser.close()
    json.dump(seen, sys.stdout, indent=1)


main()
