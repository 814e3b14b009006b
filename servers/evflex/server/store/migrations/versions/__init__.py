"""One module a version of the schema, each leading from the one before."""
