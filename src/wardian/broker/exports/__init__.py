"""What jobs tell the broker of what they give out, before anything leaves them.

statement       what a job tells
used            the tables in it, under their owners' words of now
exports         what has to hold of it, and its audit lines
served          likewise, of the model that goes to be served
protocol        the four messages by which it is told
broker_session  the broker's end of them; `job_session` the job's, `exported` what it then holds,
                `client` on a socket
desk            serves it
"""
