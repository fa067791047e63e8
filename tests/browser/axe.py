"""Check pages with axe-core: ``python tests/browser/axe.py AXE_JS PAGE...`` prints what it finds, by impact.

axe-core (Mozilla Public License 2.0) is no part of this repository: ``npm install axe-core`` brings
``node_modules/axe-core/axe.min.js``. Ends with 1 when anything serious or critical is found.
"""

import sys
from pathlib import Path

from chromium import Chromium, find

RUN = "axe.run(document, {resultTypes: ['violations']}).then((r) => JSON.parse(JSON.stringify(r.violations)))"


def main(script, *pages):
    """Check each page as it is, dark, and on a phone; return the number of serious findings."""
    browser = Chromium(find())
    source = Path(script).read_text(encoding="utf-8")
    serious = 0
    for page in map(Path, pages):
        for look in ({"prefers_color_scheme": "light"}, {"prefers_color_scheme": "dark"}, {"width": 390}):
            browser.open(page, **look)
            browser.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
            browser.evaluate(source + "; 0")
            found = browser.evaluate(RUN)
            serious += sum(one["impact"] in ("serious", "critical") for one in found)
            print(f"{page.name} {look}: {len(found)} findings")
            for one in found:
                print(f"  {one['impact']} {one['id']}: {one['help']} ({len(one['nodes'])} times)")
                for node in one["nodes"][:3]:
                    print(f"    {node['html'][:160]}")
    browser.close()
    return serious


if __name__ == "__main__":
    sys.exit(1 if main(*sys.argv[1:]) else 0)
