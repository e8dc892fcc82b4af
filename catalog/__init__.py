"""What is recorded: commits, refs, record trees, staging, diff, merge and history."""
