"""Sessions of four messages: what a release of models, one of tables and a standby have in common.

form       the messages, and labels that differ from kind to kind; `turns` whose turn it is
asking     the end that asks; `answering` the end that answers
shown      what the broker shows in message 2 to who is released something
obtaining  the end that such a release is for; `releasing` the broker's end of it
client     carries `obtaining` over a connection; `desk` serves `releasing`
"""
