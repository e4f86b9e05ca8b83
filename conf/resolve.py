"""Where a setting comes from: option, then environment variable, then file, then default."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any, Generic, Literal, NoReturn, TypeVar, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from conf.environments import Environment, load_environment
from conf.errors import UsageError
from conf.settings import Settings

VARIABLE_PREFIX = "CAPTIONLAKE_"

S = TypeVar("S", bound=Settings)


@dataclass(frozen=True)
class Resolved(Generic[S]):
    """A job's settings, the environment they run in, and each value's origin."""

    settings: S
    environment: Environment
    origins: Mapping[str, str]

    def describe(self) -> str:
        """Return one line per setting: name, value and where the value came from."""
        values = self.settings.model_dump()
        return "\n".join(
            f"{_option(name)[2:]} = {value!r}  ({self.origins[name]})"
            for name, value in values.items()
        )


def resolve(
    settings_type: type[S],
    arguments: Sequence[str],
    *,
    command: str,
    description: str,
    variables: Mapping[str, str],
) -> tuple[Resolved[S], argparse.Namespace]:
    """Return the settings and the switches (`print_config`) that a command line asks for.

    Raises:
        UsageError: an unknown option or environment, or a value that fails validation.
    """
    parser = _build_parser(settings_type, command=command, description=description)
    options = vars(parser.parse_args(arguments))
    switches = argparse.Namespace(print_config=options.pop("print_config", False))
    environment = load_environment(
        options.pop("env", variables.get(f"{VARIABLE_PREFIX}ENV", "local"))
    )
    layers = [
        ("option", options),
        ("variable", _from_variables(settings_type, variables)),
        (f"conf/{environment.name}.toml", _known_only(settings_type, environment.job)),
    ]
    values: dict[str, Any] = {}
    origins = dict.fromkeys(settings_type.model_fields, "default")
    for origin, layer in reversed(layers):
        values |= layer
        origins |= dict.fromkeys(layer, origin)
    return Resolved(_validate(settings_type, values, origins), environment, origins), switches


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message[:1].upper()}{message[1:]}.", remedy="See --help.")


def _build_parser(
    settings_type: type[Settings], *, command: str, description: str
) -> argparse.ArgumentParser:
    parser = _Parser(
        prog=f"./spark-submit.sh {command}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    parser.add_argument("--env", metavar="NAME", help="a file of conf/ (default: local)")
    parser.add_argument(
        "--print-config", action="store_true", help="show each setting and its origin, then stop"
    )
    for name, field in settings_type.model_fields.items():
        _add_option(parser, name, field)
    return parser


def _add_option(parser: argparse.ArgumentParser, name: str, field: FieldInfo) -> None:
    kind = _plain_type(field.annotation)
    help_text = (field.description or "").replace("%", "%%") + _default_text(field)
    if kind is bool:
        parser.add_argument(_option(name), action=argparse.BooleanOptionalAction, help=help_text)
    elif get_origin(kind) is Literal:
        parser.add_argument(_option(name), choices=get_args(kind), help=help_text)
    else:
        metavar = {int: "N", float: "X"}.get(kind, name.rsplit("_", maxsplit=1)[-1].upper())
        parser.add_argument(_option(name), metavar=metavar, help=help_text)


def _default_text(field: FieldInfo) -> str:
    if field.is_required():
        return " (required)"
    if field.default_factory is not None or field.default in (None, False):
        return ""
    return f" (default: {field.default})".replace("%", "%%")


def _plain_type(annotation: Any) -> Any:
    """Return the type behind `X | None`."""
    if get_origin(annotation) in (Union, UnionType):
        return next(part for part in get_args(annotation) if part is not NoneType)
    return annotation


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _from_variables(settings_type: type[Settings], variables: Mapping[str, str]) -> dict[str, str]:
    names = {name: VARIABLE_PREFIX + name.upper() for name in settings_type.model_fields}
    return {name: variables[key] for name, key in names.items() if key in variables}


def _known_only(settings_type: type[Settings], job: Mapping[str, Any]) -> dict[str, Any]:
    """An environment file serves every job, so it may hold settings that this one lacks."""
    return {name: value for name, value in job.items() if name in settings_type.model_fields}


def _validate(settings_type: type[S], values: dict[str, Any], origins: Mapping[str, str]) -> S:
    try:
        return settings_type.model_validate(values)
    except ValidationError as failure:
        first = failure.errors()[0]
        name = str(first["loc"][0])
        given = "" if first["type"] == "missing" else f", not {first['input']!r}"
        raise UsageError(
            f"{_option(name)} ({origins.get(name, 'option')}): {_reason(first['msg'])}{given}.",
            remedy="See --help.",
        ) from None


def _reason(message: str) -> str:
    return message.removeprefix("Value error, ").removeprefix("Input should be ")
