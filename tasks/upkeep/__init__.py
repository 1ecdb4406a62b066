"""What a lake needs now and then: leases, cubes, staging, copies, an audit, freshness and cost. A chore a module."""
