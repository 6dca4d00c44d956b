"""The admin: the pages that show what the store holds, as one mountable ASGI app behind its own lock."""

from asgi_llmobs.admin.app import Admin
from asgi_llmobs.admin.page import Action, Done, Download, File, NotFound, Page, Permission, View

__all__ = ["Action", "Admin", "Done", "Download", "File", "NotFound", "Page", "Permission", "View"]
