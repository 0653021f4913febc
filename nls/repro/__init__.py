"""The command `nls`: which notebook shows which tables, batch execution, the site."""
