"""The web page for people: see what is served, decide about replies, override, stop, and read the log.

endpoint, table    what there is, and the right that each page and button takes
serving            session, right, origin and CSRF token, before a handler is called; headers, after
visit              one request, as handlers see it
pages/             the handlers, a file a page
templates/         what they show
static/            the style sheet and the one script
"""

from safetylayers.oversee.console.app import add_console
from safetylayers.oversee.console.roles_page import roles_page

__all__ = ["add_console", "roles_page"]
