"""static/vendor: every file is the one its README says, and nothing is fetched from anywhere else."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
VENDOR = ROOT / "static" / "vendor"
_ROW = re.compile(r"^\| (\S+) \|.*\| ([0-9a-f]{64}) \|$", re.MULTILINE)
_INLINE = re.compile(
    r"<script(?![^>]*\bsrc=)|<style\b|\sstyle=|\son[a-z]+=|javascript:|hx-on|hx-vals=.js:", re.IGNORECASE
)


def test_every_vendored_file_has_the_sha256_of_its_readme() -> None:
    said = dict(_ROW.findall((VENDOR / "README.md").read_text()))
    found = {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in VENDOR.iterdir() if file.suffix != ".md"
    }
    assert said == found


def test_no_template_has_a_script_or_a_style_of_its_own() -> None:
    for template in (ROOT / "templates").rglob("*.html"):
        assert not _INLINE.search(template.read_text()), template


def test_our_own_files_name_no_other_host() -> None:
    own = [
        *(ROOT / "templates").rglob("*.html"),
        *(ROOT / "static" / "js").glob("*.js"),
        *(ROOT / "static" / "css").rglob("*.css"),
    ]
    for file in own:
        hosts = set(re.findall(r"https?://([^/\s\"'`{]+)", file.read_text()))
        assert hosts <= {"www.w3.org", "api.example.com"}, file


def test_every_icon_a_template_asks_for_is_in_the_sprite() -> None:
    sprite = set(re.findall(r'<symbol id="([^"]+)"', (VENDOR / "lucide-1.62.0.svg").read_text()))
    asked = set()
    for template in (ROOT / "templates").rglob("*.html"):
        asked |= set(re.findall(r'icon\("([a-z0-9-]+)"', template.read_text()))
    for module in (ROOT / "webapp" / "console").glob("*.py"):
        asked |= set(
            re.findall(r'"(layout-dashboard|server|route|key-round|database-zap|history)"', module.read_text())
        )
    assert asked <= sprite
    assert asked
