"""Sealed tables at the broker: what owners consented to, and what jobs are given of it.

kept            what the broker remembers of each table, for good, and keeps
protocol        the four messages by which a job gets tables' keys, `content` what message 4 holds,
                with `terms`
broker_session  the broker's end of them; `job_session` the job's, `client` on a socket
asked           what can be said of a plan before anything is attested
debits          job ids, and the seeds of noise that hang on them
releases        the decision, its debits and audit lines; `desk` serves it
"""
