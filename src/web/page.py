"""A page: its frame, its look, and the policy that lets a browser load nothing else."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from html import escape

STYLE = """
:root { color-scheme: light dark; --ink: #1d2530; --soft: #566170; --line: #d5dbe3; --paper: #fff; --shade: #f4f6f9;
  --accent: #0b5cad; --good: #12703c; --bad: #a3261c; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e9f0; --soft: #a3aebd; --line: #38424f; --paper: #12171e;
  --shade: #1a212b; --accent: #7cb8ff; --good: #6fd49b; --bad: #ff9b8f; } }
* { box-sizing: border-box; }
body { margin: 0; color: var(--ink); background: var(--paper); font: 1rem/1.55 system-ui, sans-serif; }
a { color: var(--accent); }
a:focus-visible, summary:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
.skip { position: absolute; left: -100rem; }
.skip:focus { left: 1rem; top: 1rem; background: var(--paper); padding: .5rem; }
header, main, footer { max-width: 68rem; margin: 0 auto; padding: 1.2rem 1.2rem 0; }
footer { padding-bottom: 2rem; color: var(--soft); }
h1 { font-size: 1.9rem; margin: .4rem 0; } h2 { margin: 2.6rem 0 .6rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 0; display: inline; } h4 { margin: 1rem 0 .3rem; font-size: .95rem; }
p { max-width: 46rem; } nav ul { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; }
code, pre { font: .92em/1.45 ui-monospace, monospace; }
pre { background: var(--shade); padding: .8rem; overflow-x: auto; }
details { border: 1px solid var(--line); border-radius: .4rem; margin: .5rem 0; padding: .5rem .8rem; }
summary { cursor: pointer; } summary span { color: var(--soft); }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: .95rem; }
th, td { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; }
.verb { font-weight: 700; color: var(--good); } .DELETE { color: var(--bad); }
"""

_DIGEST = b64encode(sha256(STYLE.encode()).digest()).decode()

POLICY = (
    f"default-src 'none'; style-src 'sha256-{_DIGEST}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The `Content-Security-Policy` of every page of these."""


def page(title: str, lead: str, main: str, links: dict[str, str]) -> bytes:
    """A whole page; `lead` and `main` are HTML, the rest is text."""
    items = "".join(f'<li><a href="{escape(url)}">{escape(name)}</a></li>' for name, url in links.items())
    contents = f'<nav aria-label="Contents"><ul>{items}</ul></nav>' if items else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<a class="skip" href="#main">Skip to the content</a>
<header><h1>{escape(title)}</h1>{lead}{contents}</header>
<main id="main">
{main}
</main>
</body>
</html>
""".encode()


def table(caption: str, head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A table of HTML cells; nothing where it would be empty."""
    if not rows:
        return ""
    top = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        f'<h4>{escape(caption)}</h4><div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}">'
        f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def code(text: object) -> str:
    """A text as code."""
    return f"<code>{escape(str(text))}</code>"


def prose(text: str) -> str:
    """Plain text with `code` in backticks."""
    pieces = text.split("`")
    return "".join(code(piece) if index % 2 else escape(piece) for index, piece in enumerate(pieces))
