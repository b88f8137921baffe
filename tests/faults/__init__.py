"""Programs that do to runs what machines do to them; docs/reliability.md has what they found."""
