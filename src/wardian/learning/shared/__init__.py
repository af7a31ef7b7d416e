"""Shared learning, the part that runs: inside a job's enclave, once it has the keys of its tables.

    columns        what is read of a table: numbers, or texts
    tables         a sealed table, opened in memory; `csv_table` and `parquet_table` read it
    fixed          sealed files that are read as they were before the job asked for their keys
    parquet_keys   Parquet's own encryption, with keys that come from the table's key
    rows           rows in passes: of tables that are opened anew for each, or of memory
    exact          sums over rows that no order of them changes
    joining        several tables as one, in an order of rows that no file decides
    cohort         whether rows enough of each owner stand behind what is told
    sound          what is wrong with a table, before it is joined
    seeds          what training tosses and what noise is drawn from
    trainers       the code behind the closed table of trainers
    outputs        what comes out, sealed to each recipient, held until it is approved
    telling        what of it the broker is told, before anything leaves
    extra          the libraries that it trains and reads with
    report         what was used, under whose rule, and what came out: for people
    running        all of that, in order
    keeping        what a job keeps sealed, to be killed at any step; `outbox` what it shows
    approvals      who signed that what came out may leave
    trial          every trainer on tables that are made up

No part of it has a connection, and none writes anything in the clear. The role `job` starts it.
"""
