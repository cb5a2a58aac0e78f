"""Secrets are planted wherever a machine keeps them, and looked for in everything that is handed on."""

import json
import tarfile
from pathlib import Path

import pytest

from support.daemon import Daemon

IN_FILE = "planted-in-environment-file-1f9c"
IN_ENVIRONMENT = "planted.in environment/7d31"
UNNAMED = "Zx81kkQ0p4planted9aYb2vW"  # under a harmless name, and random to look at
IN_URL = "planted-userinfo-55ab"
IN_QUERY = "planted-query-0c4e"
IN_WORD = "planted-option-77aa"
IN_LOG = "planted-in-a-log-9921"
IN_WEBHOOK = "planted-webhook-31c8"
PLANTED = (IN_FILE, IN_ENVIRONMENT, UNNAMED, IN_URL, IN_QUERY, IN_WORD, IN_LOG, IN_WEBHOOK)

# Prints every secret that it was given in the ways in which programs print them, and fails.
SCRIPT = """\
import os, sys
e = os.environ
print("GET / Authorization: Bearer {log}", flush=True)
print("connecting to " + e["DATABASE"], flush=True)
print("refused: password of user is " + e["DATABASE"].split(":")[2].split("@")[0], flush=True)
print("token", repr(e["API_TOKEN"]), "was refused", flush=True)
print({{"api_key": e["API_TOKEN"], "harmless": e["HARMLESS"]}}, flush=True)
print("argv", sys.argv[1:], flush=True)
print("this line stays", flush=True)
sys.exit(3)
"""


@pytest.fixture
def planted(daemon: Daemon) -> Daemon:
    """A daemon whose worker has every secret, has printed them and is held."""
    script = daemon.folder / "worker.py"
    script.write_text(SCRIPT.format(log=IN_LOG))
    environment_file = daemon.folder / "worker.env"
    environment_file.write_text(f"HF_TOKEN={IN_FILE}\n")
    environment_file.chmod(0o600)
    daemon.configure(
        f"""
launcher: direct
alerts: {{notify: [{{webhook: "https://hooks.example/services/{IN_WEBHOOK}"}}]}}
# API_TOKEN was {IN_ENVIRONMENT}
workers:
  leaky:
    command: [python3, {script}, --api-key, {IN_WORD}, "--url=http://h/x?token={IN_QUERY}"]
    environment:
      API_TOKEN: "{IN_ENVIRONMENT}"
      HARMLESS: {UNNAMED}
      DATABASE: "postgres://user:{IN_URL}@db.example/x"
      THREADS: "6"
    environment_file: {environment_file}
    health: {{http: "http://127.0.0.1:9/health?api_key={IN_QUERY}"}}
    restart: {{first: 100ms, max: 200ms, starts: 2, within: 1min}}
"""
    )
    daemon.start()
    daemon.until_phase("leaky", "held")
    return daemon


def test_no_secret_is_in_what_is_handed_on(planted: Daemon) -> None:
    bundle = planted.folder / "report.tar.gz"
    shown = planted.run("diagnose", "--json", "--bundle", str(bundle))
    read = planted.run("diagnose", "--verbose")
    assert (shown.returncode, shown.stderr, read.returncode) == (1, "", 1)
    held = next(each for each in json.loads(shown.stdout)["findings"] if each["id"] == "worker-held")
    assert held["subject"] == "worker leaky"
    assert "this line stays" in held["lines"]
    assert "GET / Authorization: Bearer [removed]" in held["lines"]
    with tarfile.open(bundle) as archive:
        texts = {
            member.name.partition("/")[2]: file.read().decode()
            for member in archive
            if (file := archive.extractfile(member)) is not None
        }
    found = {
        (name, secret)
        for name, text in {**texts, "--json": shown.stdout, "text": read.stdout}.items()
        for secret in PLANTED
        if secret in text or json.dumps(secret)[1:-1] in text
    }
    assert found == set()
    assert "this line stays" in texts["logs/leaky.log"]
    assert "THREADS: '6'" in texts["config.yaml"]
    assert "API_TOKEN: '[removed]'" in texts["config.yaml"]
    assert [file["size_bytes"] for file in json.loads(texts["files.json"])["files"]].count(42) == 1
    assert json.loads(texts["status.json"])["workers"][0]["phase"] == "held"
    assert json.loads(texts["incidents.json"])["details"][0]["incident"]["worker"] == "leaky"


def test_a_configuration_that_is_no_yaml_is_left_out_and_its_secrets_are_known(
    planted: Daemon, tmp_path: Path
) -> None:
    planted.configure(planted.config.read_text() + "\n  broken: [\n")
    bundle = tmp_path / "report.tar.gz"
    shown = planted.run("diagnose", "--json", "--bundle", str(bundle))
    assert "config-broken" in {each["id"] for each in json.loads(shown.stdout)["findings"]}
    with tarfile.open(bundle) as archive:
        whole = b"".join(file.read() for member in archive if (file := archive.extractfile(member)))
    assert [secret for secret in PLANTED if secret.encode() in whole or secret in shown.stdout] == []
    assert b"it cannot be parsed" in whole
