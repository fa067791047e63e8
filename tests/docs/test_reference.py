"""The docs name all that there is: tables are made from the code, and nothing that has a name is left out.

``NNCOMP_UPDATE=1 pytest tests/docs`` writes the tables anew; the diff is read.
"""

import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import typer

import nncomp
from nncomp import hookspecs, testing
from nncomp.cli.app import app
from nncomp.cli.lists import _pass, _type, _value
from nncomp.data import PRESETS, DataOptions, Preprocess
from nncomp.errors import CODES, NncompError
from nncomp.plugins import Registry
from nncomp.recipe import Recipe
from nncomp.rewrite import Match, op
from nncomp.targets import Int8Form
from nncomp_sparse.hardware import Hardware

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
BUILT_IN = ("cleanup", "fusion", "lowrank", "prune", "quant", "ort", "sparse", "tvm")


@pytest.fixture(scope="module")
def registry():
    """Return what nncomp itself brings, whatever else is installed."""
    found = Registry.discover()
    ours = {key for key, owner in found.owners.items() if owner in BUILT_IN}
    for sort, table in (("pass", found.passes), ("target", found.targets), ("recipe", found.recipes)):
        for name in [name for name in table if (sort, name) not in ours]:
            del table[name]
    return found


def page(name):
    return (DOCS / f"{name}.md").read_text(encoding="utf-8")


def cell(text):
    return str(text).replace("|", "\\|").replace("\n", " ")


def table(header, rows):
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell(item) for item in line) + " |" for line in lines)


# ------------------------------------------------------------------------------------------- tables made from the code


def exit_statuses(registry):
    kinds, found = [NncompError], {}
    while kinds:
        kind = kinds.pop()
        kinds += kind.__subclasses__()
        if kind.__module__ == "nncomp.errors":
            found.setdefault(kind.exit_status, []).append((kind.__name__, inspect.getdoc(kind).partition("\n")[0]))
    return table(
        ("status", "exception", "when"),
        [(status, f"`{name}`", text) for status, names in sorted(found.items()) for name, text in sorted(names)],
    )


def error_codes(registry):
    return table(("code", "what it means"), [(f"`{code}`", text) for code, text in CODES.items()])


def passes(registry):
    parts = []
    for name, found in sorted(registry.passes.items()):
        shown = _pass(found, registry.owner("pass", name))
        doc = shown["doc"].replace("``", "`").replace("\n\n", "\0").replace("\n", " ").replace("\0", "\n\n")
        parts.append(f"### `{name}`\n\n{doc}\n\nEffect: {shown['effect']}. Plugin: `{shown['plugin']}`.")
        if shown["after"]:
            parts[-1] += f" Not before: {', '.join(f'`{other}`' for other in shown['after'])}."
        if shown["options"]:
            options = [(f"`{key}`", one) for key, one in shown["options"].items()]
            rows = [
                (key, _type(one, shown["definitions"]), f"`{_value(one.get('default'))}`", one["description"])
                for key, one in options
            ]
            parts.append(table(("option", "type", "default", "what it does"), rows))
    return "\n\n".join(parts)


def command_line(registry):
    parts = []
    root = typer.main.get_command(app)
    for name, command in root.commands.items():
        arguments = [one for one in command.params if one.param_type_name == "argument"]
        usage = " ".join(["nncomp", name, *(one.metavar for one in arguments)])
        parts.append(f"### `{usage}`\n\n{inspect.cleandoc(command.help)}")
        rows = [
            (", ".join(f"`{flag}`" for flag in one.opts) + (f" {one.metavar}" if one.metavar else ""), one.help)
            for one in command.params
            if one.param_type_name == "option" and one.name != "help"
        ]
        parts.append(table(("option", "what it does"), rows))
    return "\n\n".join(parts)


def ort_kernels(registry):
    int8 = registry.target("ort").capabilities.int8
    forms = {Int8Form.QDQ: "static", Int8Form.QDQ_FLOAT_OUT: "static, float output", Int8Form.DYNAMIC: "dynamic"}
    return table(
        ("operator", "form", "absorbs", "one scale for input and output", "worth"),
        [
            (
                f"`{kind}`",
                " or ".join(forms[form] for form in (one.form, *sorted(one.also))),
                ", ".join(sorted(one.absorbs)),
                "yes" if one.same_scale else "",
                one.worth,
            )
            for kind, one in int8.kernels.items()
        ],
    )


def ort_float_causes(registry):
    causes = registry.target("ort").capabilities.int8.float_causes
    return table(("operator", "why it stays float"), [(f"`{kind}`", why) for kind, why in causes.items()])


def default_recipe(registry):
    text = registry.recipe_path("ort-int8").read_text(encoding="utf-8").strip()
    return f"```toml\n# file: ort-int8.toml\n{text}\n```"


class Bare(str):
    """Text that is its own ``repr``: annotations are texts already."""

    def __repr__(self):
        return str(self)


def signature(function):
    """Return a function's signature as its source has it."""
    found = inspect.signature(function)
    bare = [
        one.replace(annotation=Bare(one.annotation) if isinstance(one.annotation, str) else one.annotation)
        for one in found.parameters.values()
    ]
    returns = Bare(found.return_annotation) if isinstance(found.return_annotation, str) else found.return_annotation
    return str(found.replace(parameters=bare, return_annotation=returns))


def prose(text):
    """Return text of a docstring as Markdown."""
    return re.sub(r":\w+:`~?(?:[\w.]+\.)?(\w+)`", r"`\1`", text.replace("``", "`"))


def summary(thing):
    return prose((inspect.getdoc(thing) or "").partition("\n")[0])


def attributes(base, heading="Attributes"):
    """Return what the docstring says of each attribute."""
    section = inspect.getdoc(base).partition(f"{heading}:\n")[2].partition("\n\n")[0]
    entries = re.findall(r"^    (\w[\w, ]*): (.*(?:\n      .*)*)", section, re.MULTILINE)
    return {name: prose(" ".join(text.split())) for names, text in entries for name in names.split(", ")}


def hooks(registry):
    found = [(name, hook) for name, hook in vars(hookspecs).items() if name.startswith("nncomp_")]
    return table(("hook", "what it does"), [(f"`{name}{signature(hook)}`", summary(hook)) for name, hook in found])


def base_classes(registry):
    parts = []
    for base in (nncomp.Pass, nncomp.Target, nncomp.Artifact):
        rows = []
        for name, member in vars(base).items():
            if name.startswith(("_", "model_")):
                continue
            function = getattr(member, "__func__", member)
            if isinstance(member, property):
                rows.append((f"`{name}: {member.fget.__annotations__['return']}`", summary(member)))
            elif inspect.isfunction(function):
                rows.append((f"`{name}{signature(function)}`", summary(function)))
        kinds, said = inspect.get_annotations(base), attributes(base, "Class attributes")
        rows += [(f"`{name}: {kind}`", said[name]) for name, kind in kinds.items() if str(kind).startswith("ClassVar")]
        parts.append(f"`nncomp.{base.__name__}`:\n\n" + table(("member", "what it does"), rows))
    return "\n\n".join(parts)


def names_of(module, names):
    rows = []
    for name in names:
        thing = getattr(module, name)
        if inspect.isclass(thing):
            rows.append((f"`class {name}`", summary(thing)))
        elif callable(thing) and thing.__module__.startswith("nncomp"):
            rows.append((f"`{name}{signature(thing)}`", summary(thing)))
        elif isinstance(thing, int):
            rows.append((f"`{name} = {thing}`", "the version of the plugin API"))
        else:
            rows.append((f"`{name}`", "marks a hook" if name == "hookimpl" else "laws, by name"))
    return table(("name", "what it is"), rows)


def python_names(registry):
    return names_of(nncomp, sorted(set(nncomp.__all__) - {"__version__"}, key=str.casefold))


def names_for_tests(registry):
    return names_of(testing, sorted(testing.__all__, key=str.casefold))


def pass_laws(registry):
    return table(("law", "what it says"), [(f"`{name}`", text) for name, text in testing.PASS_LAWS.items()])


def target_laws(registry):
    return table(("law", "what it says"), [(f"`{name}`", text) for name, text in testing.TARGET_LAWS.items()])


def target_options(registry):
    parts = []
    for name in sorted(registry.targets):
        options = getattr(registry.target(name), "options", None)
        if options is None:
            parts.append(f"`{name}` has no options.")
            continue
        schema = type(options).model_json_schema()
        rows = [
            (f"`{key}`", _type(one, schema.get("$defs", {})), f"`{_value(one.get('default'))}`", one["description"])
            for key, one in schema["properties"].items()
        ]
        parts.append(f"`{name}`:\n\n" + table(("option", "type", "default", "what it does"), rows))
    return "\n\n".join(parts)


def sections(model, path=()):
    """Yield (path, model) for the tables that a TOML file of ``model`` may hold, itself included."""
    yield path, model
    for name, field in model.model_fields.items():
        for inner in (field.annotation, *get_args(field.annotation)):
            if hasattr(inner, "model_fields"):
                yield from sections(inner, (*path, name))


def hardware_fields(registry):
    """Return a table for each section of a machine's file; sections with the same fields share one."""
    named = {}
    for path, model in sections(Hardware):
        named.setdefault(model, []).append(path)
    parts = []
    for model, paths in named.items():
        schema, said = model.model_json_schema(), attributes(model)
        brackets = "[[{}]]" if paths == [("levels",)] else "[{}]"
        title = ", ".join(f"`{brackets.format('.'.join(path))}`" for path in paths) if paths[0] else "At the top"
        if "kind" in schema["properties"]:
            title += f" with `kind` {_type(schema['properties']['kind'], {})}"
        about = prose(inspect.getdoc(model).partition("\n\nAttributes:")[0])
        parts.append(f"{title}: " + re.sub(r"(?<!\n)\n(?!\n)", " ", about))
        elsewhere = {"kind", *(path[0] for path, _ in sections(model) if path)}
        rows = []
        for key, one in schema["properties"].items():
            if key not in elsewhere:
                kind = _type(one, {}).replace("object", "table").removesuffix(" | null").removesuffix(f", <= {2**31:g}")
                default = "required" if key in schema.get("required", ()) else "not given"
                if one.get("default") is not None:
                    default = f"`{_value(one['default'])}`"
                rows.append((f"`{key}`", kind, default, said[key]))
        if rows:
            parts.append(table(("field", "type", "default", "what it is"), rows))
    return "\n\n".join(parts)


MADE = {
    "exit statuses": ("reports", exit_statuses),
    "error codes": ("reports", error_codes),
    "passes": ("passes", passes),
    "commands": ("commands", command_line),
    "hooks": ("plugins", hooks),
    "base classes": ("plugins", base_classes),
    "pass laws": ("write-a-pass", pass_laws),
    "target laws": ("write-a-target", target_laws),
    "target options": ("targets", target_options),
    "hardware fields": ("accelerator", hardware_fields),
    "python names": ("python", python_names),
    "testing names": ("python", names_for_tests),
    "recipe": ("recipes", default_recipe),
    "ort kernels": ("targets", ort_kernels),
    "ort float causes": ("targets", ort_float_causes),
}


@pytest.mark.parametrize("name", MADE)
def test_a_table_in_the_docs_is_what_the_code_says(name, registry):
    where, make = MADE[name]
    text, made = page(where), make(registry)
    begin, end = f"<!-- made: {name} -->\n\n", "\n\n<!-- end -->"
    before, found, rest = text.partition(begin)
    assert found, f"docs/{where}.md has no place for {name}"
    old, _, after = rest.partition(end)
    if old != made and os.environ.get("NNCOMP_UPDATE"):
        (DOCS / f"{where}.md").write_text(before + begin + made + end + after, encoding="utf-8")
        return
    assert old == made, f"docs/{where}.md is behind the code: NNCOMP_UPDATE=1 pytest tests/docs"


# -------------------------------------------------------------------------------------------- names that stand in prose


def missing(names, text):
    """Return those of ``names`` that do not stand in ``text`` as code."""
    return [name for name in names if not re.search(rf"`[^`\n]*(?<![\w-]){re.escape(name)}(?![\w-])[^`\n]*`", text)]


def test_a_hook_whose_signature_changes_is_noticed(registry, monkeypatch):
    def nncomp_passes(extra=0):
        """Return passes."""

    nncomp_passes.__annotations__ = {"extra": "int", "return": "Iterable[type[Pass]]"}
    assert "`nncomp_passes() -> Iterable[type[Pass]]`" in page("plugins")
    monkeypatch.delenv("NNCOMP_UPDATE", raising=False)
    monkeypatch.setattr(hookspecs, "nncomp_passes", nncomp_passes)
    assert "`nncomp_passes(extra: int = 0) -> Iterable[type[Pass]]`" in hooks(registry)
    with pytest.raises(AssertionError, match=r"docs/plugins\.md is behind the code"):
        test_a_table_in_the_docs_is_what_the_code_says("hooks", registry)


def test_an_option_whose_type_or_default_changes_is_noticed(registry, monkeypatch):
    class Other(registry.pass_type("quantize")):
        """Quantize."""

        skip: tuple[int, ...] = nncomp.option((1,), help="ops to leave alone")

    before = passes(registry)
    monkeypatch.setitem(registry.passes, "quantize", Other)
    changed = [line for line in passes(registry).splitlines() if line not in before.splitlines()]
    assert "| `skip` | list of integer | `[1]` | ops to leave alone |" in changed


def test_every_target_and_recipe_is_described(registry):
    assert missing(registry.targets, page("targets")) == []
    assert missing(registry.recipes, page("recipes")) == []


@pytest.mark.parametrize("name", ["equalize", "smooth", "quantize"])
def test_every_option_of_quantization_is_described(name, registry):
    assert missing(registry.pass_type(name).model_fields, page("quantization")) == []


def keys(model):
    for name, info in model.model_fields.items():
        yield name
        for inner in (info.annotation, *getattr(info.annotation, "__args__", ())):
            if hasattr(inner, "model_fields") and inner is not DataOptions:
                yield from keys(inner)


def test_every_key_of_a_recipe_is_described():
    assert missing(keys(Recipe), page("recipes")) == []


def test_every_option_and_preset_of_data_is_described():
    names = [*DataOptions.model_fields, *Preprocess.model_fields, *PRESETS]
    assert missing(names, page("data")) == []


def test_every_argument_by_name_of_a_pattern_and_of_a_new_op_is_described():
    taken = [one for call in (op, Match.add) for one in inspect.signature(call).parameters.values()]
    assert missing([one.name for one in taken if one.kind is one.KEYWORD_ONLY], page("rules")) == []


def codes_in(paths):
    return {code for path in paths for code in re.findall(r"NNC-[A-Z]\d{3}", path.read_text(encoding="utf-8"))}


def test_every_code_is_described_and_no_other():
    used = codes_in(path for part in ("nncomp", "plugins", "targets") for path in (ROOT / part).rglob("*.py"))
    assert missing(sorted(used), page("reports")) == []
    assert codes_in(DOCS.glob("*.md")) <= used


def test_every_key_of_a_report_is_described(classifier, tmp_path):
    from nncomp.compiler import CompileRequest, compile_model

    steps = ("cleanup", "fuse", "quantize")
    request = CompileRequest(model=classifier, passes=steps, data="random:4", measure_seconds=0)
    report = json.loads(compile_model(request).report.to_json())
    free = ("kinds", "unpriced", "opsets", "results", "target_report", "budget")  # whose keys come from elsewhere

    def walk(value, inside=""):
        if isinstance(value, list):
            for item in value:
                yield from walk(item, inside)
        elif isinstance(value, dict) and inside not in free:
            for key, item in value.items():
                yield key
                yield from walk(item, key)

    text = page("reports")
    assert missing(sorted(set(walk(report))), text) == []
    assert missing(report["target_report"], text) == []


def test_the_plugin_of_the_readme_is_short_and_needs_nothing_else():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (plugin,) = re.findall(r"```python\n(# file: .*?)```", readme, re.DOTALL)
    assert len([line for line in plugin.splitlines() if line.strip()]) <= 23, "the README promises 20 lines"
    subprocess.run([sys.executable, "-c", plugin], check=True)
