"""Every setting of the product, from the environment (12-factor), each with a help line and its unit in its name.

A wrong setting stops the start with one clear line: `InvalidSetting("PORT", "must be at most 65535, got 70000 ...")`.
`unwind settings` lists all of them; `.env.example` is written from them and a test keeps it so.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal, get_args
from urllib.parse import urlsplit, urlunsplit

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from models.broker import checked_broker
from models.errors import InvalidSetting

OLDEST_API_VERSION = "2026-01"  # refunds are read with fields that older versions do not have
WEB_PATH = re.compile(r"(/[\w.~%-]+)*", re.ASCII)
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
FERNET_KEY_BYTES = 32


def split_list(value: object) -> object:
    """`a, b` -> `("a", "b")`; anything that is not text stays as it is."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


CommaList = Annotated[tuple[str, ...], NoDecode, BeforeValidator(split_list)]
SecretList = Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(split_list)]


class Settings(BaseSettings):
    """All settings. Read once a process with `load_settings()`; never changed afterwards."""

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True
    )

    database_url: str | None = Field(
        None,
        repr=False,
        description="PostgreSQL address, postgresql://user:password@host/name; ?pooler=transaction at its end behind"
        " PgBouncer. Empty: an embedded server under --data",
    )
    redis_url: str | None = Field(
        None,
        repr=False,
        description="Redis or Valkey address of the queue, redis://host:6379/0, or of the Sentinels that know it,"
        " sentinel://host:26379,host:26379/NAME/0. Empty: an embedded server under --data",
    )
    shopify_api_key: str = Field("", description="Client id of your Shopify app")
    shopify_api_secret: SecretList = Field(
        (),
        description="Client secret of your Shopify app; while rotating several, comma separated, the new one first",
    )
    shopify_app_url: str = Field(
        "", description="Public https address of this server, where Shopify sends merchants and webhooks"
    )
    shopify_api_version: str = Field("2026-10", description="Version of Shopify's Admin API, YYYY-MM")
    shopify_scopes: CommaList = Field(
        (
            "read_orders",
            "read_all_orders",
            "read_returns",
            "read_customers",
            "read_customer_merge",
            "read_discounts",
            "write_discounts",
        ),
        description="Access scopes asked of the merchant, comma separated",
    )
    webhook_registration: Literal["auto", "app", "shop"] = Field(
        "auto",
        description="Who subscribes to webhooks. app: shopify.app.toml; shop: this server at each shop, through the"
        " Admin API; auto: shop where the token does not expire (custom apps), else app",
    )
    shopify_base_url: str | None = Field(
        None,
        description="Send Admin API calls here instead of to https://SHOP: a pretend Shopify; {shop} in it becomes the"
        " shop's domain. Empty in production",
    )
    shopify_timeout_seconds: int = Field(
        10, ge=1, le=120, description="Longest wait for one answer of Shopify, in seconds"
    )
    token_encryption_keys: SecretList = Field(
        (),
        description="Keys (32 bytes, URL-safe base64) that encrypt stored access tokens, comma separated; the first"
        " encrypts, all decrypt. Embedded database: made at first use",
    )
    trusted_proxies: int = Field(
        0,
        ge=0,
        le=5,
        description="Proxies in front of this server, each of which adds to X-Forwarded-For: whoever is not known yet is"
        " counted by the address that the first of them saw. 0: nobody's header is believed",
    )
    webhook_max_bytes: int = Field(
        8 * 1024 * 1024, ge=64 * 1024, le=64 * 1024 * 1024, description="Largest webhook body taken, in bytes"
    )
    raw_body_days: int = Field(
        30,
        ge=1,
        le=3650,
        description="Days that the raw body of a processed webhook is kept; then it is erased",
    )
    endpoints_allow_networks: CommaList = Field(
        (),
        description="Networks that are not public and may be called as webhook endpoints all the same, over http too,"
        " comma separated, such as 127.0.0.0/8. Empty in production",
    )
    auto_refund_after_hours: int = Field(
        0,
        ge=0,
        le=87_600,
        description="Hours after which a redemption that no order used is given back, its code taken away first. 0: never",
    )
    max_attempts: int = Field(
        8, ge=1, le=100, description="Tries of one event before it is parked under failed"
    )
    worker_processes: int = Field(2, ge=1, le=256, description="Processes of the worker")
    receiver_threads: int = Field(
        32, ge=1, le=256, description="Threads of the receiver, which is one process"
    )
    database_connections: int = Field(
        10, ge=1, le=500, description="Most database connections of one process"
    )
    stop_grace_seconds: int = Field(
        25,
        ge=1,
        le=600,
        description="Time to finish the work in hand after SIGTERM, in seconds; then it is returned",
    )
    host: str = Field("127.0.0.1", min_length=1, description="Address that the receiver listens on")
    port: int = Field(8000, ge=1, le=65535, description="Port that the receiver listens on")
    flower_address: str = Field("127.0.0.1", min_length=1, description="Address that Flower listens on")
    flower_port: int = Field(5555, ge=1, le=65535, description="Port that Flower listens on")
    flower_basic_auth: SecretStr = Field(
        SecretStr(""),
        description="Login of Flower, user:password; several, comma separated. Needed when it listens outside loopback,"
        " and for its API everywhere",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Least severe log line kept"
    )
    log_format: Literal["json", "console"] = Field(
        "json", description="json for machines, console for people"
    )

    otel_exporter_otlp_endpoint: str | None = Field(
        None,
        description="OpenTelemetry collector (OTLP over HTTP) that is told what took how long, such as"
        " http://127.0.0.1:4318. Needs unwind[otel]. Empty: nothing is traced",
    )
    sentry_dsn: SecretStr = Field(
        SecretStr(""),
        description="Sentry project that errors are reported to, without anything personal. Needs unwind[sentry]",
    )

    @field_validator("database_url")
    @classmethod
    def _postgres_only(cls, value: str | None) -> str | None:
        return None if value is None else sqlalchemy_url(value)

    @field_validator("redis_url")
    @classmethod
    def _redis_only(cls, value: str | None) -> str | None:
        return None if value is None else checked_broker(value)

    @field_validator("shopify_app_url", "shopify_base_url")
    @classmethod
    def _web_address(cls, value: str | None) -> str | None:
        return web_address(value) if value else value

    @field_validator("shopify_app_url")
    @classmethod
    def _with_a_plain_path(cls, value: str) -> str:
        if {"?", "#"} & set(value) or not WEB_PATH.fullmatch(urlsplit(value).path):
            raise ValueError("must end with its host, or a path of letters, digits and -._~%")
        return value

    @field_validator("shopify_api_version")
    @classmethod
    def _quarterly(cls, value: str) -> str:
        if not re.fullmatch(r"\d{4}-(01|04|07|10)", value):
            raise ValueError("must be a stable version such as 2026-10 (month 01, 04, 07 or 10)")
        if value < OLDEST_API_VERSION:
            raise ValueError(f"must be {OLDEST_API_VERSION} or later")
        return value

    @field_validator("shopify_scopes")
    @classmethod
    def _scope_names(cls, scopes: tuple[str, ...]) -> tuple[str, ...]:
        for scope in scopes:
            if not re.fullmatch(r"[a-z]+(_[a-z0-9]+)+", scope):
                raise ValueError("must be access scopes such as read_orders, comma separated")
        return scopes

    @field_validator("endpoints_allow_networks")
    @classmethod
    def _networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        for network in networks:
            try:
                ip_network(network)
            except ValueError:
                raise ValueError("must be networks such as 127.0.0.0/8, comma separated") from None
        return networks

    @field_validator("token_encryption_keys")
    @classmethod
    def _fernet_keys(cls, keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for key in keys:
            if not is_fernet_key(key.get_secret_value()):
                raise ValueError("each key must be 32 bytes in URL-safe base64 (44 characters)")
        return keys

    @field_validator("flower_basic_auth")
    @classmethod
    def _logins(cls, value: SecretStr) -> SecretStr:
        """Flower takes each part between commas for a login: a comma in a password would make a login of its end."""
        for login in value.get_secret_value().split(",") if value.get_secret_value() else ():
            if not re.fullmatch(r"[!-9;-~]+:[!-~]+", login):
                raise ValueError("must be user:password, without spaces, commas or other alphabets in it")
        return value

    @field_validator("otel_exporter_otlp_endpoint")
    @classmethod
    def _collector(cls, value: str | None) -> str | None:
        if value is not None and (
            urlsplit(value).scheme not in {"http", "https"} or not urlsplit(value).hostname
        ):
            raise ValueError("must be an address such as http://127.0.0.1:4318")
        return value

    @field_validator("sentry_dsn")
    @classmethod
    def _dsn(cls, value: SecretStr) -> SecretStr:
        parts = urlsplit(value.get_secret_value())
        if value.get_secret_value() and not (
            parts.scheme in {"http", "https"} and parts.username and parts.hostname
        ):
            raise ValueError("must be a client key (DSN) such as https://KEY@sentry.example.com/1")
        return value

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @property
    def webhook_secrets(self) -> tuple[bytes, ...]:
        """The keys of webhook signatures, newest first. Empty: nothing can be verified, so nothing may be taken."""
        return tuple(secret.get_secret_value().encode() for secret in self.shopify_api_secret)

    @property
    def token_keys(self) -> tuple[bytes, ...]:
        """The Fernet keys of stored tokens; the first encrypts."""
        return tuple(key.get_secret_value().encode() for key in self.token_encryption_keys)

    @property
    def path(self) -> str:
        """The path below which this server is known outside, mostly none. The proxy before us takes it away."""
        return urlsplit(self.shopify_app_url).path

    def require_receiver(self) -> None:
        """Refuse to take webhooks that could be forged by anyone."""
        if not self.webhook_secrets:
            raise InvalidSetting(
                "SHOPIFY_API_SECRET",
                "is empty, so nobody's webhooks could be told from a forgery; copy the client secret of your app into it",
            )

    def require_flower(self) -> None:
        """Flower shows arguments and can stop workers: outside loopback it needs a login."""
        if self.flower_address not in LOOPBACK and not self.flower_basic_auth.get_secret_value():
            raise InvalidSetting(
                "FLOWER_BASIC_AUTH",
                f"is empty, but Flower would listen on {self.flower_address}; set user:password",
            )

    def environment(self) -> dict[str, str]:
        """The settings as environment variables, so that a child process reads the same ones. Holds secrets."""
        return {
            name.upper(): text for name in type(self).model_fields if (text := plain(getattr(self, name)))
        }


def sqlalchemy_url(value: str) -> str:
    """`postgres://...` as platforms give it -> `postgresql+psycopg://...`; other databases are refused."""
    scheme, separator, rest = value.partition("://")
    if not separator or scheme.split("+")[0] not in {"postgres", "postgresql"}:
        raise ValueError("must start with postgresql://; no other database is supported")
    return f"postgresql+psycopg://{rest}"


def web_address(value: str) -> str:
    """An https address without a slash at its end; http only for this machine."""
    parts = urlsplit(value)
    if parts.hostname is None or parts.scheme not in {"http", "https"}:
        raise ValueError("must be an address such as https://loyalty.example.com")
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        raise ValueError("must be https outside this machine")
    return value.rstrip("/")


def is_fernet_key(key: str) -> bool:
    try:
        return len(base64.b64decode(key, altchars=b"-_", validate=True)) == FERNET_KEY_BYTES
    except (binascii.Error, ValueError):
        return False


def without_password(url: str) -> str:
    """The address for people: `redis://user:***@host/0`."""
    parts = urlsplit(re.sub(r"(?<=password=)[^&]+", "***", url))
    if parts.password is None:
        return urlunsplit(parts)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:***@{host}"))


def load_settings(env_file: Path | None = None, **given: object) -> Settings:
    """Read the environment (and `env_file`, which it overrules); `given` overrules both.

    Raises `InvalidSetting` with the name of the first wrong setting, the reason, and where to look.
    """
    values = {name: value for name, value in given.items() if value is not None}
    reader: Callable[..., Settings] = Settings  # its signature hides the arguments of pydantic-settings
    try:
        return reader(_env_file=env_file, **values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        name = str(first["loc"][0]).upper()
        raise InvalidSetting(name, f"{reason_of(first['msg'])} (`unwind settings` explains it)") from None


def reason_of(message: str) -> str:
    """Pydantic's sentence without its prefix."""
    text = message.removeprefix("Value error, ")
    return text[0].lower() + text[1:]


@dataclass(frozen=True)
class Described:
    """One setting for people: `default` and `value` as they stand in an environment file."""

    name: str
    help: str
    default: str
    value: str
    secret: bool
    choices: tuple[str, ...]


def described(settings: Settings) -> Iterator[Described]:
    """All settings in the order of this file; secrets and passwords are hidden in `value`."""
    for name, field in Settings.model_fields.items():
        secret = is_secret(field)
        value = plain(getattr(settings, name))
        yield Described(
            name=name.upper(),
            help=field.description or "",
            default=plain(field.default),
            value=("(set)" if value else "") if secret else without_password(value),
            secret=secret,
            choices=choices_of(field),
        )


def env_example() -> str:
    """The text of `.env.example`: every setting with its help line, commented out at its default."""
    lines = ["# Settings of Unwind. Written by `unwind settings --example`; remove the # of what you change."]
    for name, field in Settings.model_fields.items():
        choices = choices_of(field)
        lines += ["", f"# {field.description}" + (f" ({', '.join(choices)})" if choices else "")]
        lines.append(f"#{name.upper()}={plain(field.default)}")
    return "\n".join(lines) + "\n"


def plain(value: object) -> str:
    """A value as it is written in an environment file."""
    if value is None:
        return ""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, tuple):
        return ",".join(plain(part) for part in value)
    return str(value)


def is_secret(field: FieldInfo) -> bool:
    return SecretStr in {field.annotation, *get_args(field.annotation)}


def choices_of(field: FieldInfo) -> tuple[str, ...]:
    chosen = get_args(field.annotation)
    return chosen if chosen and all(isinstance(choice, str) for choice in chosen) else ()
