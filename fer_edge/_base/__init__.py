"""What every wing may use and what needs nothing but `fer_edge.errors`."""
