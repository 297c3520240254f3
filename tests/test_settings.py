"""Settings: where they come from, what stops the start, and that a refusal names the variable and keeps the secret."""

import pickle
from pathlib import Path

import pytest

from taskgraph.errors import ConfigurationError
from taskgraph.settings import DEVELOPMENT_SECRET, Environment, Settings, load, names_set_without_effect

STRONG = "Zm9yIHRlc3RzIG9ubHksIGJ1dCBsb25nIGVub3VnaA"


def loaded(**given: str) -> Settings:
    return load({f"TASKGRAPH_{name}": value for name, value in given.items()}, env_file=None)


def refusal(**given: str) -> str:
    with pytest.raises(ConfigurationError) as refused:
        loaded(**given)
    said = str(refused.value)
    assert "\n" not in said
    return said


def test_development_needs_nothing() -> None:
    settings = loaded()
    assert settings.is_development
    assert (settings.has_introspection, settings.has_graphiql, settings.is_log_json) == (True, True, False)
    assert settings.signing_secrets == (DEVELOPMENT_SECRET,)


def test_production_hides_what_only_developers_need() -> None:
    settings = loaded(ENVIRONMENT="production", JWT_SECRETS=STRONG)
    assert (settings.has_introspection, settings.has_graphiql, settings.is_log_json) == (False, False, True)


def test_what_is_given_wins_over_the_default_of_the_environment() -> None:
    settings = loaded(ENVIRONMENT="production", JWT_SECRETS=STRONG, INTROSPECTION="true", GRAPHIQL="true", LOG_FORMAT="console")
    assert (settings.has_introspection, settings.has_graphiql, settings.is_log_json) == (True, True, False)


def test_an_empty_value_is_the_default() -> None:
    assert loaded(ACCESS_TOKEN_SECONDS="").access_token_seconds == 900


def test_lists_are_separated_by_commas() -> None:
    settings = loaded(ALLOWED_ORIGINS="https://a.example, http://localhost:3000,", JWT_SECRETS=f"{STRONG}1, {STRONG}2")
    assert settings.allowed_origins == ("https://a.example", "http://localhost:3000")
    assert settings.signing_secrets == (f"{STRONG}1", f"{STRONG}2")


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("TASKGRAPH_MAX_DEPTH=7\nTASKGRAPH_MAX_ALIASES=8\nOTHER=1\n")
    settings = load({"TASKGRAPH_MAX_DEPTH": "9"}, env_file=file)
    assert (settings.max_depth, settings.max_aliases) == (9, 8)


def test_a_secret_may_stand_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "secrets").write_text(f"{STRONG}\n")
    assert loaded(JWT_SECRETS_FILE=str(tmp_path / "secrets")).signing_secrets == (STRONG,)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"MONGO_ULR": "x"}, "TASKGRAPH_MONGO_ULR is not a setting; did you mean TASKGRAPH_MONGO_URL?"),
        ({"XYZZY": "x"}, "TASKGRAPH_XYZZY is not a setting"),
        ({"MAX_DEPTH_FILE": "x"}, "TASKGRAPH_MAX_DEPTH_FILE is not a setting; did you mean TASKGRAPH_MAX_DEPTH?"),
        ({"MAX_DEPTH": "many"}, "TASKGRAPH_MAX_DEPTH: input should be a valid integer, unable to parse string as an integer"),
        ({"MAX_DEPTH": "0"}, "TASKGRAPH_MAX_DEPTH: input should be greater than 0"),
        ({"LOG_LEVEL": "LOUD"}, "TASKGRAPH_LOG_LEVEL: input should be 'DEBUG', 'INFO', 'WARNING', 'ERROR' or 'CRITICAL'"),
        ({"ENVIRONMENT": "test"}, "TASKGRAPH_ENVIRONMENT: input should be 'development', 'staging' or 'production'"),
        ({"MONGO_URL": "http://x"}, "TASKGRAPH_MONGO_URL must start with mongodb:// or mongodb+srv://"),
        ({"MONGO_POOL_MIN": "9", "MONGO_POOL_MAX": "8"}, "TASKGRAPH_MONGO_POOL_MIN is above TASKGRAPH_MONGO_POOL_MAX"),
        (
            {"ALLOWED_ORIGINS": "https://a.example/app"},
            "TASKGRAPH_ALLOWED_ORIGINS: 'https://a.example/app' is not an origin such as https://app.example.com",
        ),
        (
            {"JWT_SECRETS_FILE": "/nonexistent"},
            "TASKGRAPH_JWT_SECRETS_FILE: cannot read '/nonexistent' (FileNotFoundError)",
        ),
        (
            {"JWT_SECRETS_FILE": "x", "JWT_SECRETS": STRONG},
            "TASKGRAPH_JWT_SECRETS_FILE and TASKGRAPH_JWT_SECRETS are both set; keep one",
        ),
    ],
)
def test_a_wrong_setting_is_named(given: dict[str, str], said: str) -> None:
    assert refusal(**given) == said


def test_every_fault_is_named_at_once() -> None:
    assert refusal(MAX_DEPTH="many", MAX_TOKENS="0", NONSENSE="1").split("; ") == [
        "TASKGRAPH_NONSENSE is not a setting",
        "TASKGRAPH_MAX_DEPTH: input should be a valid integer, unable to parse string as an integer",
        "TASKGRAPH_MAX_TOKENS: input should be greater than 0",
    ]


@pytest.mark.parametrize("environment", [Environment.STAGING, Environment.PRODUCTION])
def test_outside_development_a_secret_is_needed(environment: str) -> None:
    assert refusal(ENVIRONMENT=environment).startswith("TASKGRAPH_JWT_SECRETS is not set; outside development give at least one")


@pytest.mark.parametrize(
    ("secrets", "said"),
    [
        ("brief", "TASKGRAPH_JWT_SECRETS: secret 1 is shorter than 32 bytes"),
        (f"{STRONG},brief", "TASKGRAPH_JWT_SECRETS: secret 2 is shorter than 32 bytes"),
        ("abcabc" * 10, "TASKGRAPH_JWT_SECRETS: secret 1 is easy to guess; use random bytes"),
        (DEVELOPMENT_SECRET, "TASKGRAPH_JWT_SECRETS: secret 1 is easy to guess; use random bytes"),
    ],
)
def test_a_weak_secret_is_refused_and_not_repeated(secrets: str, said: str) -> None:
    assert refusal(ENVIRONMENT="production", JWT_SECRETS=secrets) == said
    assert secrets not in said


def test_secrets_are_not_shown() -> None:
    settings = loaded(JWT_SECRETS=STRONG, MONGO_URL="mongodb://user:hunter22@db/")
    assert STRONG not in repr(settings)
    assert "hunter22" not in repr(settings)


def test_settings_do_not_change() -> None:
    settings = loaded()
    with pytest.raises(ValueError, match="frozen"):
        settings.max_depth = 1  # type: ignore[misc]


def test_settings_travel_to_worker_processes() -> None:
    settings = loaded(JWT_SECRETS=STRONG, MAX_DEPTH="7")
    assert pickle.loads(pickle.dumps(settings)) == settings  # noqa: S301 - our own


def test_a_name_without_effect_is_known_and_reported() -> None:
    assert names_set_without_effect(loaded(SENTRY_DSN="https://x@y/1", OTLP_ENDPOINT="http://z", MAX_DEPTH="7")) == [
        "TASKGRAPH_OTLP_ENDPOINT",
        "TASKGRAPH_SENTRY_DSN",
    ]
