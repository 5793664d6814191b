"""The verbs of the `sentinel` command, by what they work on."""
