"""Templates of HTML pages, and how they are filled in: the same way for every page that gmd writes."""

from jinja2 import Environment, PackageLoader, StrictUndefined


def html_templates(package: str) -> Environment:
    """Returns the templates of a package, those in its folder `templates`.

    Every value is escaped, whatever the template's suffix; a name that is missing is an error and not a gap.
    """
    return Environment(
        loader=PackageLoader(package),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
