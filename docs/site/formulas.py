"""Formulas as MathML, which browsers read by themselves: nothing has to be fetched to show them."""

import html as entities
import re

from latex2mathml.converter import convert

FORMULA = re.compile(r'<(div|span) class="arithmatex">\\([\[(])(.*?)\\[\])]</\1>', re.DOTALL)


def in_mathml(html: str) -> str:
    r"""Returns a page's HTML with MathML for what pymdownx.arithmatex left as TeX, \(...\) in a line or \[...\]."""

    def formula(match: re.Match[str]) -> str:
        tag, opening, tex = match.groups()
        display = "block" if opening == "[" else "inline"
        return f'<{tag} class="formula">{convert(entities.unescape(tex).strip(), display=display)}</{tag}>'

    return FORMULA.sub(formula, html)
