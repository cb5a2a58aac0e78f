"""Every policy of the supervisor: pure functions from what is wanted, known and seen to what is done."""
