"""One module a simulator or scene; ``postbc.sims.get_task`` finds them by name. Loaded when first used."""
