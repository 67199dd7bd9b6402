"""Tokens: only hashes are kept, a file that breaks a rule is refused by name, and names fit subjects."""

from __future__ import annotations

from pathlib import Path

import pytest

from splitmesh.errors import SettingsError, WireError
from splitmesh.gateway.tokens import Account, Tokens, entry, new_token

GOOD = entry("smt_secret", Account("acme", "app"))


def tokens_of(folder: Path, text: str) -> Tokens:
    (folder / "tokens.toml").write_text(text)
    return Tokens(folder / "tokens.toml")


def test_a_token_opens_its_tenant_and_no_other_text_does(tmp_path: Path) -> None:
    tokens = tokens_of(tmp_path, GOOD + "\n" + entry("smt_other", Account("globex", "app")))
    assert tokens.account("smt_secret") == Account("acme", "app")
    assert tokens.account("smt_other") == Account("globex", "app")
    assert tokens.tenants == ["acme", "globex"] and tokens.open_account is None
    digest = GOOD.split('sha256 = "')[1][:64]
    for text in ("", "smt_secre", "smt_secret ", "SMT_SECRET", digest, "x" * 10_000, "smt_secret\0"):
        assert tokens.account(text) is None


def test_tokens_differ_and_their_files_hold_none() -> None:
    made = {new_token() for _ in range(100)}
    assert len(made) == 100 and all(token.startswith("smt_") and len(token) == 47 for token in made)
    assert "smt_secret" not in GOOD


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds none"),
        ("token = 3", r"\[\[token\]\]"),
        ("[[token]]\ntenant = 'acme'", "just tenant, name and sha256"),
        (GOOD + "extra = 'x'\n", "just tenant, name and sha256"),
        (GOOD.replace('"acme"', "7"), "all texts"),
        (GOOD.replace("acme", "a.b"), "tenant 'a.b'"),
        (GOOD.replace("acme", ">"), "tenant '>'"),
        (GOOD.replace("app", ""), "name ''"),
        (GOOD.replace("sha256 = ", "sha256 = 'short' #"), "sha256 'short'"),
        ("[[token", "not TOML"),
    ],
)
def test_a_file_that_breaks_a_rule_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words) as caught:
        tokens_of(tmp_path, text)
    assert caught.value.key == "tokens"


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="can't be read"):
        Tokens(tmp_path / "no.toml")


def test_a_changed_file_is_read_again_and_a_broken_one_changes_nothing(tmp_path: Path) -> None:
    tokens = tokens_of(tmp_path, GOOD)
    assert not tokens.refresh()
    (tmp_path / "tokens.toml").write_text(entry("smt_newer", Account("initech", "app")))
    assert tokens.refresh() and tokens.tenants == ["initech"] and tokens.account("smt_secret") is None
    (tmp_path / "tokens.toml").write_text("[[token]]")
    with pytest.raises(SettingsError):
        tokens.refresh()
    assert tokens.account("smt_newer") == Account("initech", "app") and not tokens.refresh()
    (tmp_path / "tokens.toml").unlink()
    with pytest.raises(SettingsError, match="can't be read"):
        tokens.refresh()
    assert tokens.account("smt_newer") is not None


def test_without_a_file_everybody_is_one_account() -> None:
    tokens = Tokens(None, Account("default", "anyone"))
    assert tokens.open_account == Account("default", "anyone") and tokens.tenants == ["default"]
    assert tokens.account("smt_any") is None


@pytest.mark.parametrize("account", [Account("a b", "x"), Account("acme", "x.y"), Account("", "x")])
def test_names_that_fit_no_subject_get_no_token(account: Account) -> None:
    with pytest.raises(WireError):
        entry(new_token(), account)
