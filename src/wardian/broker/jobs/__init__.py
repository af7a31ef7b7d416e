"""Shared learning, the part that decides: owners' policies over sealed tables, and plans of jobs.

    parties     who a person's file speaks of, by name; what counts is the keys behind the names
    trainers    the closed table of what a job may run
    policy      what one owner says of one table; `signing` makes it a word of the owner's
    canonical   the one form of both that is signed and digested
    plan        what one job wants; its digest is what the evidence of the job binds
    rules       the names of all that can refuse
    conditions  what each of them looks at, on paper and at the run
    standing    what the broker knows when it decides
    decision    the plan against the policies of all owners
    merge       what then holds for what comes out
    explain     the same for people; `template` is the file that an owner begins with

All of it is pure: no store, no clock, no socket. Counts and times are arguments; `broker.tables`
has them.
"""
