"""The program: find the command, layer its configuration, run it, say how it went."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, cast, get_type_hints

from continuon import __version__
from continuon.cli.entry import guarded
from continuon.cli.options import Common, layer, split_common
from continuon.cli.plain import bind_plain
from continuon.cli.ranges import check_ranges
from continuon.cli.render import Result, emit, emit_error
from continuon.cli.table import COMMANDS, Command
from continuon.errors import UsageError

__all__ = ["run"]


def run(argv: Sequence[str]) -> int:
    """Run one command and return its exit code; never raises for a user's mistake."""
    if argv[:1] == ["tuf"]:
        # Its contract has exit codes 0 and 1 only, and options of its own.
        from continuon.ota.tuf_cli import main as tuf_main

        return tuf_main(list(argv[1:]))
    try:
        common, tokens = split_common(argv)
    except UsageError as error:
        return emit_error(error, Common(json=True))
    return guarded(
        lambda: _dispatch(common, tokens),
        lambda error: emit_error(error, common),
        debug=common.debug,
    )


def _dispatch(common: Common, tokens: list[str]) -> int:
    if tokens[:1] == ["--version"]:
        print(__version__)
        return 0
    command, rest = _find(tokens)
    if command is None:
        return _overview(tokens, common)
    module, _, name = command.target.partition(":")
    function = getattr(import_module(f"continuon.cli.{module}"), name)
    if any(token in ("--help", "-h") for token in rest):
        _parser(command, function)(["--help"])
        return 0
    plain = bind_plain(function, rest, partial=True)
    given = (plain or _bind(command, _all_optional(function), rest)).arguments
    known = {one.words for one in COMMANDS}
    extra, origins = layer(command.words, function, given, commands=known)
    whole = [*extra, *rest]
    bound = bind_plain(function, whole) or _bind(command, function, whole)
    bound.apply_defaults()
    values = dict(bound.arguments)
    check_ranges(values)
    if common.show_config:
        rows = {
            name: {"value": values.get(name), "origin": origin}
            for name, origin in origins.items()
        }
        return emit(Result(data=rows), common)
    if common.dry_run and not command.steps:
        return emit(_plan(command, values), common)
    if common.dry_run:
        values |= dict.fromkeys(command.steps, False)
    result = function(**values)
    return emit(cast("Result", result), common)


def _find(tokens: Sequence[str]) -> tuple[Command | None, list[str]]:
    named = {command.words: command for command in COMMANDS}
    for length in (2, 1):
        words = " ".join(tokens[:length])
        if len(tokens) >= length and words in named:
            return named[words], list(tokens[length:])
    words = " ".join(token for token in tokens[:2] if token[:1] != "-")
    groups = {command.words.split()[0] for command in COMMANDS}
    if not words or words in groups:
        return None, list(tokens)
    if tokens[0] in groups and len(words.split()) == 1:
        return None, list(tokens)
    import difflib

    near = difflib.get_close_matches(words, named, n=3)
    raise UsageError(
        "E-CLI-COMMAND-001",
        "there is no such command",
        seen=words,
        allowed=", ".join(near) if near else "see `continuon --help`",
    )


def _overview(tokens: Sequence[str], common: Common) -> int:
    """Print the table of commands; without --help a group alone is a usage error."""
    words = " ".join(token for token in tokens if token[:1] != "-")
    flags = [token for token in tokens if token[:1] == "-"]
    unknown = [flag for flag in flags if flag not in ("--help", "-h")]
    if unknown:
        raise UsageError(
            "E-CLI-USAGE-001",
            f"Unknown option: {unknown[0]}.",
            hint="`continuon --help`",
        )
    if flags or not words:
        print(_help(words))
        return 0
    if not common.json:
        print(_help(words))
    raise UsageError(
        "E-CLI-COMMAND-002",
        "this is a group of commands, and none of them was named",
        seen=words,
        allowed=", ".join(c.words for c in COMMANDS if c.words.startswith(f"{words} ")),
    )


def _help(prefix: str) -> str:
    rows = [c for c in COMMANDS if c.words.startswith(prefix)]
    width = max(len(command.words) for command in rows)
    lines = [
        "continuon: from a robot's demonstrations to a better policy on that robot",
        "",
        "usage: continuon COMMAND [OPTIONS]     continuon COMMAND --help",
        "",
        *(f"  {command.words:<{width}}  {command.summary}" for command in rows),
        "",
        f"  {'tuf':<{width}}  A TUF client: init, refresh, download (exit 0 or 1)",
        "",
        "everywhere: --json [PATH]  --dry-run  --show-config  --quiet  --debug",
        "exit codes: 0 done, 1 failed, 2 usage, 3 gate missed or data lost,",
        "            4 a person must act, 5 refused for safety or trust",
    ]
    return "\n".join(lines)


def _parser(command: Command, function: Callable[..., Any]) -> Any:
    import cyclopts

    app = cyclopts.App(
        name=f"continuon {command.words}",
        help_format="plaintext",
        version_flags=[],
        result_action="return_value",
    )
    app.default(function)
    return app


def _bind(
    command: Command, function: Callable[..., Any], tokens: Sequence[str]
) -> inspect.BoundArguments:
    """Return the arguments that `tokens` name, and no defaults."""
    import cyclopts

    app = _parser(command, function)
    try:
        _, bound, _ = app.parse_args(
            list(tokens), exit_on_error=False, print_error=False
        )
    except cyclopts.CycloptsError as error:
        raise _usage(command, error) from error
    return cast("inspect.BoundArguments", bound)


def _all_optional(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a stand-in that also binds a command line with arguments left out."""

    def stand_in(*_args: Any, **_options: Any) -> None:
        """Only its signature is used."""

    hints = get_type_hints(function, include_extras=True)
    parameters = [
        parameter.replace(annotation=hints.get(name, parameter.annotation))
        if parameter.default is not inspect.Parameter.empty
        else parameter.replace(default=None, annotation=hints.get(name, str) | None)
        for name, parameter in inspect.signature(function).parameters.items()
    ]
    stand_in.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    stand_in.__annotations__ = {p.name: p.annotation for p in parameters}
    return stand_in


def _usage(command: Command, error: Exception) -> UsageError:
    return UsageError(
        "E-CLI-USAGE-001",
        " ".join(str(error).split()),
        hint=f"`continuon {command.words} --help`",
    )


def _plan(command: Command, values: dict[str, Any]) -> Result:
    if not command.writes:
        data = {"command": command.words, "would_write": [], "done": False}
        return Result(data=data, text=f"{command.words} only reads; nothing was done")
    targets = {
        name: "its default (see --help)" if values.get(name) is None else str(value)
        for name in command.writes
        for value in [values.get(name)]
    }
    data = {
        "command": command.words,
        "would_write": targets,
        "with": {key: str(value) for key, value in values.items()},
        "done": False,
    }
    lines = [f"would write {name}: {path}" for name, path in targets.items()]
    return Result(data=data, text="\n".join([*lines, "dry run: nothing was done"]))
