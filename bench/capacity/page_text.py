"""The words of `docs/explanation/capacity.md`."""

# ruff: noqa: E501  figures take the place of names that are longer or shorter

HEAD = """\
# Capacity

How many requests a mesh answers can be told before it is built: from what each kind of work costs,
by a model that knows the rules of the queue. This page says what the costs are, how well the model
predicts what was measured, and what a million requests a second would take. `make capacity`
measures, checks and writes it anew (`bench/capacity`).

## The model

```
clients -> N front ends -> K Redis -> M workers -> Redis -> front ends -> clients
```

*Simulation* (`simulate.py`): each process is one thread with turns of work. A front end takes all
that came since its last turn, makes one message of it, and holds it back while every worker is busy
and few wait; a worker takes up to half of its credit (the code's own `Pace`) in batches. Where
processes share cores (`processors.py`), each core has a queue, as in Linux: who wakes up runs on an
idle core, or interrupts who runs where it is woken from or ran last, unless that has just begun; an
idle core helps another, but moves nobody who ran a moment ago. Now and then a core stands still, as
one does whose host has other guests. The same seed gives the same figures.

*Pen and paper* (`queueing.py`): the utilization law for each role and for all cores, the bounds of a
closed loop, and M/G/c (Erlang C with the correction of Allen and Cunneen) where the worker is what
requests wait for. They ignore the rules, and so catch mistakes of the simulation.

A *message* is what a front end sends to a worker: the requests of one turn. Most of the cost is by
message and not by request, so requests get cheaper as the load grows.

## What work costs

{where}: the others were measured while other processes took more than 3 % of the machine. Microseconds
of processor time, calibrated with **one** worker, by closed loops of few connections and one open
loop at a quarter of the capacity:

| | digits (64-128-128-10) | heavy (8 convolutions) |
|---|---:|---:|
{costs}

Time by role follows from the scheduler's accounts. Figures that no account shows are set so that the
simulation agrees with the calibration: how long waking takes (median of one connection), how much
work varies (p99 of one connection), how often cores stand still (for digits by the p99 at a quarter
of the capacity; for the heavy model as often as a program saw that only counts), and for the heavy
model how much dearer work is after a sleep (accounts at a quarter of the capacity). A message of the
heavy model costs more everywhere, since its weights take the caches.
"""

CHECK = """
## Predicted against measured

One run; both meshes up at once, loads in turn. Generator, front end, Redis and workers share two
cores, which the model knows; the simulated arrivals are those of the measured rounds (same seeds).
*Rounds*: in how many nobody disturbed the load; where it is one or two, the figure is weak. *p99*: the median of the rounds, and the least and most of
any. Rows in brackets are the calibration; all others are predictions.

| model | workers | load | rounds | answers/s | predicted | off | by hand | p99 ms (rounds) | predicted | off | M/G/c |
|---|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|
{rows}

{verdict}

![p99, predicted against measured, with a band of 20 %](capacity-check.svg)
"""

MILLION = """
## A million requests a second

Each process has a core of its own here, and each front end has workers of its own and carries 60 %
of the most that it sustains in the simulation; Redis and workers are busy for 60 % of their time at
most. **All of it is scaled from the two shared cores above**: that other cores are as fast, that
twice the processes do twice the work, and that no network is between them.

| | digits | heavy |
|---|---:|---:|
{needs}

![How many processes a rate takes](capacity-plan.svg)

What saturates first, from the left of the picture to the right:

1. **A worker of the heavy model**: an inference of {heavy_row_ms} ms a row is a few hundred requests a
   second. A front end admits 256 workers over one Redis: there have to be {meshes_heavy} groups or more.
   A million a second takes {workers_heavy} workers: buy the arithmetic first, the rest is small beside it.
2. **A front end**: {digits_rate} requests a second of the small model ({digits_pack} in a message, p99
   {digits_p99} ms, {digits_workers} of its workers), {heavy_rate} of the heavy one, of which no more than
   two share a message ({heavy_pack} on average): its batches set what a front end can do. It is one
   process on one core; any number of them stand behind a balancer of TCP connections.
3. **Redis**: it pays by message, so one carries several front ends, and a million a second take
   {shards}. *What exists*: all keys of a mesh have one hash tag, so a mesh has one Redis, however
   many nodes a cluster has; beyond it, several meshes (cells of front ends, a Redis, workers and a
   broker) behind one balancer, which need nothing new. *What would have to be built*: streams
   sharded by model and a hash (a tag for each shard in `redis_access.Keys`, a connection of each
   front end to each, a shard named to each worker), so that one broker and one manifest stand over
   all. Several models today share one Redis even then.
4. **The network**: {network_bytes} bytes a request on all hops together at the full load of the check,
   with TLS, sealing and acknowledgements: {gbit} Gbit/s for a million a second. An image of 600 KB is
   another matter: that is what the slab of the embedded queue is for, and then bytes come first.
5. **Handshakes**: {handshake_ms} ms of a front end's processor for a new connection (TLS 1.3; a client asks
   for evidence once). At ten minutes a
   connection and one request a second of each, they stand in the table; clients that connect anew for
   each request cost a front end many times what the request does.
6. **The broker at a mass restart**: {releases} releases a second ({release_ms} ms of processor each)
   with its limits lifted; by default it lets strangers cause 50 quotes a second, and that decides. After
   a power failure all processes ask at once: the last has its keys after {ration_digits} s in the digits
   plan and {ration_heavy} s in the heavy one ({restart_digits} and {restart_heavy} s without that limit),
   when one broker serves all. Each cell with a broker of its own divides it. The second broker of a mesh
   stands by; it does not share the work.
7. **Renewals**: each process renews at half of its lease of an hour: {renewals_heavy} a second at most,
   in the heavy plan. That is little, and a chance of up to a tenth spreads it.
8. **The audit log**: {release_bytes} bytes of the broker's state for each release, renewals
   included; the table has the growth of a day. The broker also keeps 34 bytes a line in memory.
9. **Memory**: {frontend_mb} MB a front end, {worker_mb} MB a worker of the small model with its launcher
   (proportional set size, SIMULATED enclaves). An enclave has its own copy of everything.

"""

LIMITS = """\
## Where it is wrong

- Enclaves are SIMULATED: entering and leaving one, and encrypted memory, cost what only hardware
  shows. Calibrate there before you buy.
- How a role's work on a message divides (sending, hearing, opening) is assumed; only sums are
  measured. So is the sleep after which caches have forgotten. For how long the scheduler protects who
  runs, and whom it does not move, is what Linux' source says of two cores.
- What a process pays for waking another one on an idle core is part of what its messages cost: so a
  full machine, on which nobody is idle, is a little cheaper than predicted.
- A stall is drawn from what a program that only counts saw while the machine was else idle. A host
  stalls more under load.
- Messages of Redis are taken one by one; a busy Redis reads several at once and is cheaper.
- Inputs are small and all alike. Large tensors, retries, tenants, faults, generation, network
  latency and loss, and what a balancer costs are not in it.
- The costs come from the calibration alone. The rules of the model were settled while looking at
  earlier runs, and not at the newest line of `bench/results/capacity.jsonl`.
- **The p99 is missed more often than met**, most of all where two workers and everything else share two
  cores: it is underestimated. Two things stand in the way: one load's own p99 differs by a factor of two
  and more from round to round, and why it is late cannot be looked at, since a guest of this host sees
  no scheduler traces. Tried, and left in where they help: a run queue for each core with late
  migration, work that varies by piece in place of by turn, cold caches after sleep, stalls as a
  program that only counts sees them. Throughput is within 20 %, and it is what the plan stands on.
- In the plan a front end has workers of its own. Where many front ends share them, messages get smaller
  and dearer.
- Every figure of the plan scales what two cores of a shared virtual machine did. The order of the
  bottlenecks is safer than the counts.
"""
