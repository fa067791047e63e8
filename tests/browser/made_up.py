"""Reports that no compilation wrote: one of a large model, one whose names attack the page."""

import random

ATTACK = '<script>document.title="hacked"</script><img src=x onerror=\'document.title="hacked"\'>"\u202e&\ud800'


def hostile(report):
    """Return a report in which each name and reason is an attack."""

    def changed(value, key=""):
        if isinstance(value, dict):
            return {name: changed(item, name) for name, item in value.items()}
        if isinstance(value, list):
            return [changed(item, key) for item in value]
        return ATTACK if isinstance(value, str) and key not in ("precision", "status", "event") else value

    return changed(report)


def large_report(report, count):
    """Return a report of ``count`` layers in blocks with branches, with histograms, made of the layers of another."""
    layers, times = report["layers"]["items"], report["measured"]["layers"]
    chance = random.Random(0)
    items, taken = [], []
    for number in range(count):
        layer = dict(layers[number % len(layers)])
        step = number % 5
        inputs = [number - 1] if number else []
        if step == 4:
            inputs = [number - 4, number - 1]
        name = f"/encoder/stage.{number // 50}/block.{number // 5}/{layer['kind'].lower()}_{step}"
        layer |= {"name": name, "output": f"{name}_output", "inputs": inputs, "error": 10 ** chance.uniform(-3, -1)}
        if number % 11 == 3 and layer["macs"]:
            layer |= {"precision": "float", "cause": "Softmax loses too much in 8 bits, so that it stays float"}
        items.append(layer)
        time = times[number % len(times)]
        taken.append({key: None if us is None else us * chance.uniform(0.5, 2) for key, us in time.items()})
    return {
        **report,
        "layers": {**report["layers"], "items": items},
        "measured": {**report["measured"], "layers": taken},
    }
