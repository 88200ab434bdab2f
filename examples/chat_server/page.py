"""The web page, put together from its parts in page/, and what it is allowed to do.

It writes what people say as text, never as HTML. That a browser would run no other script, and parse no text as HTML,
is a second line of defence.
"""

from __future__ import annotations

import base64
import hashlib
import html
from pathlib import Path

PARTS = Path(__file__).with_name("page")


def part(*names: str) -> str:
    return "\n".join((PARTS / name).read_text(encoding="utf-8") for name in names)


STYLE = part("style.css")
SCRIPT = part("markdown.js", "chat.js")


def digest(content: str) -> str:
    """How a Content-Security-Policy names the page's own script, or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


POLICY = "; ".join(
    [
        "default-src 'none'",
        f"script-src {digest(SCRIPT)}",
        f"style-src {digest(STYLE)}",
        "connect-src 'self'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    ]
)


def page(**settings: str) -> str:
    """The page, whose script finds these settings in `document.body.dataset`."""
    data = " ".join(f'data-{name}="{html.escape(value)}"' for name, value in settings.items())
    body = part("page.html").replace("<body>", f"<body {data}>", 1)
    return body.replace("<style></style>", f"<style>{STYLE}</style>").replace(
        "<script></script>", f"<script>{SCRIPT}</script>"
    )
