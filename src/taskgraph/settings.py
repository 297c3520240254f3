"""The one reader of the environment: TASKGRAPH_ variables, a `.env` file and `*_FILE` variants of the secrets.

Everything else receives a frozen `Settings`. An unknown name, a bad value or a missing secret is a `ConfigurationError` of one line.
"""

import difflib
import os
import re
from collections.abc import Mapping
from enum import StrEnum
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from taskgraph.errors import ConfigurationError

PREFIX = "TASKGRAPH_"
SECRETS = frozenset({"mongo_url", "redis_url", "jwt_secrets", "sentry_dsn"})
MIN_SECRET_BYTES = 32
# Known to everybody who reads this file, so `serve` refuses to listen beyond this machine with it.
DEVELOPMENT_SECRET = "taskgraph-development-only-secret-never-for-production"  # noqa: S105 - it is no secret
# Names of the interface whose part of the server is not built yet: accepted, so that one environment file fits every version.
WITHOUT_EFFECT = frozenset(
    {
        "sentry_dsn",
        "otlp_endpoint",
    }
)


class Environment(StrEnum):
    """Where the server runs; staging and production have no insecure defaults."""

    DEVELOPMENT = "development"
    STAGING = "staging"
    PRODUCTION = "production"


def _split(value: Any) -> Any:
    """`a, b` -> ["a", "b"]; what is no text passes through."""
    return [item.strip() for item in value.split(",") if item.strip()] if isinstance(value, str) else value


Texts = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Secrets = Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_split)]
Positive = Annotated[int, Field(gt=0)]
NotNegative = Annotated[int, Field(ge=0)]
Switch = Literal["on", "off"]


class Settings(BaseSettings):
    """What an operator decides. Sizes are bytes, times are in the unit of the name; fields read as in the table of docs/operations.md."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid")

    environment: Environment = Environment.DEVELOPMENT
    mongo_url: SecretStr | None = None
    mongo_database: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,60}$")] = "taskgraph"
    mongo_pool_max: Positive = 50
    mongo_pool_min: NotNegative = 10
    redis_url: SecretStr | None = None

    jwt_secrets: Secrets = ()
    access_token_seconds: Positive = 900
    refresh_token_seconds: Positive = 604_800
    allowed_origins: Texts = ()
    trusted_proxies: Texts = ()
    login_failures: Positive = 5

    introspection: bool | None = None
    graphiql: bool | None = None
    max_depth: Positive = 12
    max_aliases: Positive = 30
    max_tokens: Positive = 2000
    max_body_bytes: Positive = 262_144
    max_cost: Positive = 5000
    rate_limits: Switch | None = None
    rate_limit_window_seconds: Positive = 900
    rate_limit_anonymous: Positive = 100
    rate_limit_free: Positive = 10_000
    rate_limit_premium: Positive = 100_000
    response_cache_seconds: NotNegative = 30
    trusted_documents: Literal["off", "log", "enforce"] = "off"
    trusted_documents_file: Path | None = None
    compiled_execution: Switch = "on"

    event_retention_days: Positive = 30
    audit_retention_days: Positive = 90
    completed_task_retention_days: NotNegative = 0

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "INFO"
    log_format: Literal["json", "console"] | None = None
    sentry_dsn: SecretStr | None = None
    otlp_endpoint: str | None = None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - given by name, as are the others
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what `load` hands over: it has merged the environment, the files and `.env` and knows their names."""
        return (init_settings,)

    @model_validator(mode="after")
    def _secrets_are_strong(self) -> Self:
        if not self.jwt_secrets and not self.is_development:
            raise ValueError(
                f"{PREFIX}JWT_SECRETS is not set; outside development give at least one secret of {MIN_SECRET_BYTES} bytes, "
                'for example: python3 -c "import secrets; print(secrets.token_urlsafe(48))"'
            )
        for position, secret in enumerate(self.jwt_secrets, start=1):
            text = secret.get_secret_value()
            if len(text.encode()) < MIN_SECRET_BYTES:
                raise ValueError(f"{PREFIX}JWT_SECRETS: secret {position} is shorter than {MIN_SECRET_BYTES} bytes")
            if len(set(text)) < 8 or (text == DEVELOPMENT_SECRET and not self.is_development):
                raise ValueError(f"{PREFIX}JWT_SECRETS: secret {position} is easy to guess; use random bytes")
        return self

    @model_validator(mode="after")
    def _addresses_are_addresses(self) -> Self:
        _expect_scheme("MONGO_URL", self.mongo_url, ("mongodb", "mongodb+srv"))
        _expect_scheme("REDIS_URL", self.redis_url, ("redis", "rediss", "unix", "valkey", "valkeys"))
        if self.mongo_pool_min > self.mongo_pool_max:
            raise ValueError(f"{PREFIX}MONGO_POOL_MIN is above {PREFIX}MONGO_POOL_MAX")
        for origin in self.allowed_origins:
            parts = urlsplit(origin)
            if parts.scheme not in {"http", "https"} or not parts.netloc or parts.path or parts.query:
                raise ValueError(f"{PREFIX}ALLOWED_ORIGINS: {origin!r} is not an origin such as https://app.example.com")
        for proxy in self.trusted_proxies:
            # A name would match nothing, and `*` would believe whatever the client itself has written.
            _expect_network(proxy)
        return self

    @model_validator(mode="after")
    def _trust_has_a_list(self) -> Self:
        if self.trusted_documents != "off" and self.trusted_documents_file is None:
            raise ValueError(f"{PREFIX}TRUSTED_DOCUMENTS={self.trusted_documents} needs {PREFIX}TRUSTED_DOCUMENTS_FILE")
        return self

    @property
    def is_development(self) -> bool:
        """Whether insecure conveniences are allowed."""
        return self.environment is Environment.DEVELOPMENT

    @property
    def has_introspection(self) -> bool:
        """Default: everywhere but in production."""
        return self.environment is not Environment.PRODUCTION if self.introspection is None else self.introspection

    @property
    def has_graphiql(self) -> bool:
        """Default: everywhere but in production."""
        return self.environment is not Environment.PRODUCTION if self.graphiql is None else self.graphiql

    @property
    def has_rate_limits(self) -> bool:
        """Default: everywhere but in development."""
        return not self.is_development if self.rate_limits is None else self.rate_limits == "on"

    @property
    def origin_pattern(self) -> str:
        """A regular expression for the origins whose pages may use this server with credentials, in CORS and for WebSockets."""
        if self.is_development and not self.allowed_origins:
            # A frontend's development server has a port of its own.
            return r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?"
        return "|".join(re.escape(origin) for origin in self.allowed_origins)

    @property
    def signing_secrets(self) -> tuple[str, ...]:
        """Newest first; the first signs, all verify."""
        return tuple(secret.get_secret_value() for secret in self.jwt_secrets) or (DEVELOPMENT_SECRET,)

    @property
    def is_log_json(self) -> bool:
        """Default: for machines in production, for people in development."""
        return self.log_format == "json" or (self.log_format is None and not self.is_development)


def load(environ: Mapping[str, str] | None = None, *, env_file: Path | None = Path(".env")) -> Settings:
    """The settings of this process; `environ` defaults to the real environment, which wins over `env_file`.

    Raises ConfigurationError naming every fault, the known name nearest to an unknown one included.
    """
    in_file = {k: v for k, v in dotenv_values(env_file).items() if v is not None} if env_file and env_file.is_file() else {}
    merged = in_file | dict(os.environ if environ is None else environ)
    given: dict[str, str] = {}
    problems: list[str] = []
    for variable in sorted(name for name in merged if name.startswith(PREFIX)):
        name = variable.removeprefix(PREFIX).lower()
        secret = name.removesuffix("_file")
        if name in Settings.model_fields:
            if merged[variable]:
                given[name] = merged[variable]
        elif name.endswith("_file") and secret in SECRETS:
            if f"{PREFIX}{secret.upper()}" in merged:
                problems.append(f"{variable} and {PREFIX}{secret.upper()} are both set; keep one")
                continue
            try:
                given[secret] = Path(merged[variable]).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                problems.append(f"{variable}: cannot read {merged[variable]!r} ({type(error).__name__})")
        else:
            problems.append(f"{variable} is not a setting{_suggestion(name)}")
    try:
        settings = Settings(**given)  # type: ignore[arg-type]  # pydantic parses the text
    except ValidationError as error:
        problems += [_sentence(fault["loc"], fault["msg"], fault["type"]) for fault in error.errors()]
    if problems:
        raise ConfigurationError("; ".join(problems))
    return settings


def names_set_without_effect(settings: Settings) -> list[str]:
    """The variables that were given although nothing reads them in this version."""
    return [f"{PREFIX}{name.upper()}" for name in sorted(settings.model_fields_set & WITHOUT_EFFECT)]


def _suggestion(name: str) -> str:
    near = difflib.get_close_matches(name, Settings.model_fields, n=1)
    return f"; did you mean {PREFIX}{near[0].upper()}?" if near else ""


def _sentence(location: tuple[int | str, ...], message: str, kind: str) -> str:
    if kind == "value_error":
        return message.removeprefix("Value error, ")
    return f"{PREFIX}{str(location[0]).upper()}: {message[0].lower()}{message[1:]}"


def _expect_network(proxy: str) -> None:
    try:
        ip_network(proxy)
    except ValueError as error:
        wanted = "is not an address or a network such as 10.0.0.7 or 10.0.0.0/8"
        raise ValueError(f"{PREFIX}TRUSTED_PROXIES: {proxy!r} {wanted}") from error


def _expect_scheme(name: str, url: SecretStr | None, schemes: tuple[str, ...]) -> None:
    if url is not None and urlsplit(url.get_secret_value()).scheme not in schemes:
        raise ValueError(f"{PREFIX}{name} must start with {' or '.join(f'{scheme}://' for scheme in schemes)}")
