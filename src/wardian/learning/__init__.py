"""Learning together: rounds whose coordinator is attested, and what parties need for them."""
