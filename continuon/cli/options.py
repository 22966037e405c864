"""Options that every command takes, and where a parameter's value came from."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import attrs

from continuon.environment import OFF, ON
from continuon.errors import UsageError

__all__ = ["Common", "check_at_least_one", "layer", "split_common"]

CONFIG_NAME = "continuon.toml"
END_OF_OPTIONS, JSON, STDOUT = "--", "--json", "-"


@attrs.frozen(kw_only=True)
class Common:
    """What was asked of the program itself, not of the command.

    Attributes:
        json: write one JSON object, to standard output or to `json_path`.
        dry_run: say what would be written and do nothing.
        show_config: print each parameter's value and origin and do nothing.
        debug: let a traceback through.
        quiet: no progress, no table.
    """

    json: bool = False
    json_path: Path | None = None
    dry_run: bool = False
    show_config: bool = False
    debug: bool = False
    quiet: bool = False


def split_common(tokens: Sequence[str]) -> tuple[Common, list[str]]:
    """Take the common options out of the command line; the rest keeps its order.

    `--json` may be followed by a path when that ends in `.json` or when the command is
    `health`, whose plan says `--json PATH`; `--json=PATH` always names one. A path of
    `-` is standard output, as without one.
    """
    found: dict[str, Any] = {}
    rest: list[str] = []
    queue = list(tokens)
    while queue:
        token = queue.pop(0)
        if token == END_OF_OPTIONS:
            return Common(**found), [*rest, token, *queue]
        if token == JSON:
            found["json"] = True
            takes = rest[:1] == ["health"] and bool(queue) and queue[0][:1] != "-"
            if queue and queue[0] == STDOUT:
                queue.pop(0)
            elif queue and (takes or queue[0].endswith(".json")):
                found["json_path"] = _json_path(queue.pop(0))
        elif token.startswith(f"{JSON}="):
            found["json"] = True
            named = token.removeprefix(f"{JSON}=")
            if named != STDOUT:
                found["json_path"] = _json_path(named)
        elif token in ("--dry-run", "--show-config", "--debug", "--quiet"):
            found[token[2:].replace("-", "_")] = True
        else:
            rest.append(token)
    return Common(**found), rest


def _json_path(text: str) -> Path:
    """Return where a report goes; refused before anything is done, not after.

    Raises:
        UsageError: E-CLI-JSON-001.
    """
    path = Path(text)
    if not text or path.is_dir():
        raise UsageError(
            "E-CLI-JSON-001",
            "--json names a folder, and the report is a file",
            where=path,
            allowed="a file, or nothing for standard output",
        )
    return path


def layer(
    words: str,
    function: Callable[..., Any],
    given: Mapping[str, Any],
    environ: Mapping[str, str] | None = None,
    commands: Collection[str] | None = None,
) -> tuple[list[str], dict[str, str]]:
    """Find values that the command line left out: file first, environment over it.

    The file is `continuon.toml` in the working directory, or the one that
    CONTINUON_CONFIG names; its table is the command's words joined by dots. A variable
    is CONTINUON_<WORDS>_<PARAMETER>. Several values are an array in the file, and are
    separated by the system's path separator in a variable. `commands` are all whose
    tables the file may hold.

    Returns:
        Tokens to append to the command line, and each parameter's origin.

    Raises:
        UsageError: the file is no TOML, names a command or parameter that does not
            exist, or has anything where no command looks.
    """
    env = os.environ if environ is None else environ
    parameters = inspect.signature(function).parameters
    hints = get_type_hints(function)
    tree, file = _read_file(env)
    _check_tables(tree, commands or {words}, file)
    table = {k: v for k, v in _table_of(words, tree).items() if not isinstance(v, dict)}
    for name in table:
        if name.replace("-", "_") not in parameters:
            raise UsageError(
                "E-CLI-CONFIG-002",
                f"the command {words} has no parameter {name}",
                where=file,
                allowed=", ".join(parameters),
            )
    tokens: list[str] = []
    origins: dict[str, str] = {}
    prefix = "CONTINUON_" + words.replace(" ", "_").replace("-", "_").upper()
    for name, parameter in parameters.items():
        variable = f"{prefix}_{name.upper()}"
        stored = table.get(name, table.get(name.replace("_", "-")))
        if name in given:
            origins[name] = "flag"
        elif variable in env:
            tokens += _tokens(
                parameter, _from_text(hints[name], env[variable], variable)
            )
            origins[name] = f"environment {variable}"
        elif stored is not None:
            tokens += _tokens(parameter, stored)
            origins[name] = f"file {file}"
        else:
            origins[name] = "default"
    return tokens, origins


def check_at_least_one(**counts: int) -> None:
    """Refuse counts below one.

    Raises:
        UsageError: names the parameter.
    """
    for name, count in counts.items():
        if count < 1:
            raise UsageError(
                "E-CLI-COUNT-001",
                f"{name} is out of range",
                seen=count,
                allowed="1 or more",
            )


def _read_file(env: Mapping[str, str]) -> tuple[dict[str, Any], Path]:
    named = env.get("CONTINUON_CONFIG")
    path = Path(named) if named else Path(CONFIG_NAME)
    if not path.exists():
        if named:
            raise UsageError(
                "E-CLI-CONFIG-003",
                "CONTINUON_CONFIG names a file that is not there",
                where=path,
            )
        return {}, path
    import tomllib

    try:
        return tomllib.loads(path.read_text("utf-8")), path
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(
            "E-CLI-CONFIG-001",
            "the configuration file is no TOML",
            where=path,
            seen=error,
        ) from error


def _table_of(words: str, tree: dict[str, Any]) -> dict[str, Any]:
    table = tree
    for word in words.split():
        table = table.get(word, {})
    return table


def _check_tables(
    tree: Mapping[str, Any], known: Collection[str], file: Path, above: str = ""
) -> None:
    """Refuse what no command would ever read: it was meant for one.

    Raises:
        UsageError: E-CLI-CONFIG-005.
    """
    for name, value in tree.items():
        words = f"{above} {name}".strip()
        leads = any(f"{one} ".startswith(f"{words} ") for one in known)
        is_table = isinstance(value, dict)
        if leads and is_table:
            _check_tables(value, known, file, words)
        elif leads or is_table or above not in known:
            raise _misplaced(words, file)


def _misplaced(words: str, file: Path) -> UsageError:
    return UsageError(
        "E-CLI-CONFIG-005",
        "the configuration has something where no command looks",
        where=file,
        seen=words,
        allowed="tables named by a command's words, with its parameters as values",
        hint="continuon --help names the commands; each has --help of its own",
    )


def _from_text(kind: Any, text: str, variable: str) -> Any:
    """Return a variable's text as the kind of value that its parameter takes.

    Raises:
        UsageError: E-CLI-CONFIG-004, a switch that is neither on nor off.
    """
    kinds = (kind, *get_args(kind))
    if any(get_origin(one) in (Sequence, tuple, list) for one in kinds):
        return text.split(os.pathsep)
    if bool not in kinds:
        return text
    if text.lower() in ON or text.lower() in OFF:
        return text.lower() in ON
    raise UsageError(
        "E-CLI-CONFIG-004",
        f"{variable} is neither on nor off",
        seen=text,
        allowed=", ".join((*ON, *OFF)),
    )


def _tokens(parameter: inspect.Parameter, value: Any) -> list[str]:
    """Return the command line that says `value`, of a file or a variable."""
    flag = "--" + parameter.name.strip("_").replace("_", "-")
    if isinstance(value, bool):
        return [flag if value else f"--no-{flag[2:]}"]
    values = value if isinstance(value, list) else [value]
    return [f"{flag}={item}" for item in values]
