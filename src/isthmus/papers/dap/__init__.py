"""DAP: a policy with an action for each domain, learned by a log of the target."""
