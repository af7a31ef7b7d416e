"""What roles that are of no mesh agree to, at its smallest."""

AGREED = {
    "aggregator": f"""\
name = "one"
run = {{ rounds = 1, quorum = 1 }}
strategy = {{ name = "fedavg" }}
parties = {{ a = {{ key = "{"ab" * 32}" }} }}
""",
    "keeper": 'service = "keeper"\n',
}
