"""The words of `docs/explanation/comparison.md`; `comparison_page` puts the figures in."""

PAGE = """\
# Clear text, TEE, MPC, HE: what each costs

The same network and the same inputs through each way of computing on data that nobody else may
see. `make compare` measures, and writes this page anew (`bench/compare`). The talk that Wardian
implements opens with such a comparison; its figures stand in the first table beside ours.

**What is not measured here: hardware.** Enclaves are SIMULATED, so *TEE* is the cost of the
software alone: sealing, queue, front end, TLS. What hardware adds stands below, from papers.

## The talk, and what was measured

How many times the clear text, over all networks: *of in process* is divided by the bare inference
in one process, *of served* by the clear text behind the same front end over HTTPS.

{where}. {versions}.

{claims}

{pictures}

Read it with care:

- **A ratio is as good as what it is divided by.** In process that is a few microseconds of ONNX
  Runtime, for networks of a few thousand multiplications; a request over HTTPS costs many times
  that, sealed or not. Parties and the client of HE are on a network, too, so that *of served* is
  the fairer ratio for them; but what they send went by loopback or nowhere, and not through TLS.
- A request to Wardian takes so many times the clear text behind the same front end:
  {twin}. *TEE, in process* is what a worker does with a request: open
  it, infer, seal the answer.
- The larger the network, the less of this is left: [a request to a network of the size of
  ResNet-50, beside the bare inference](../reference/benchmarks.md#a-large-model).
- The talk's range of a TEE is about hardware and larger networks. Ours is neither. Where ours
  lies outside of it says nothing against it, and where inside, nothing for it.
- HE pays by ciphertext, which samples share until it is full; MPC by round and by byte. The clear
  text gets cheaper by sample in a batch as well.

## Published overheads of hardware, not measured here

| source | what | overhead |
|---|---|---|
{hardware}

Read in abstracts and documentation. They support both ends of the talk's range; the far end is of
networks larger than the protected memory that they ran in.

## The networks

| | parameters | multiplications a sample | ONNX, bytes | accuracy, held out | largest score |
|---|---:|---:|---:|---:|---:|
{nets}

Made by `bench/compare/trained.py` from data that scikit-learn brings along, with fixed seeds.
*lr*: logistic regression, breast cancer, 30 inputs. *mlp*: 64-32-10 on digits. *cnn*: four
filters of 3x3 on digits of 8x8, then 144-10. The last two are trained by numpy and **square**
their hidden values, where one would take ReLU: CKKS compares nothing, and all paths are to run
one network. *mlp-relu* is the usual form. All end in scores: sigmoid and softmax are left to
whoever gets them, so that nobody pays for them.

## Every figure

*Times clear text*: by the clear text in process, median of the rounds (least-most); *times, CPU*:
the same of processor time, of all processes that take part, which tells less of what else the
machine does. *Times served*: by the clear text served. *Bytes*: moved for one request, both ways,
between all who take part. *Errors*: absolute, of scores, against the clear text in float32.
*Labels*: how many are those of the clear text.
{tables}

What is moved once, before the first request:

| path | bytes, by network |
|---|---:|
{once}

Where the time of a request goes, milliseconds:

| path | network | batch | steps |
|---|---|---:|---|
{steps}

## How each was measured

Everything was up at once and asked in turn, round after round; each ratio is of one round.

- *Clear text*: the engine of a worker (ONNX Runtime, one thread) in this process. Bytes: inputs
  and scores.
- *TEE, in process*: the worker of `wardian.serving`, its model from a sealed file. Bytes: request
  and answer as they lie in the queue.
- *Clear text, served*: `bench/clear_twin.py` over HTTPS, which is front end, queue and worker
  with nothing sealed. Bytes: payload of TCP, counted by a relay in a request that is not timed.
- *TEE, served*: `wardian up` over HTTPS, on one connection of Wardian's client after it verified
  the evidence. Bytes: likewise; connecting and evidence are moved once. What is in the queue is
  that of *TEE, in process*.
- *MPC, ABY3*: SPU, three parties, of whom no two may collude, each a process; a ring of 64 bits,
  18 of them the fraction. The owner has shared the weights before. Bytes: what the kernel says
  that each party wrote, and shares from and to the client.
- *MPC, CHEETAH*: SPU, two parties without a dealer, likewise. Moved once: also the oblivious
  transfer that the first run sets up.
- *HE, CKKS*: Microsoft SEAL through `tenseal.sealapi`, N = 8192. *lr*: primes of 60-40-60 bits
  and a scale of 2^40; the others 50-38-38-38-50 and 2^38, within the 218 bits that 128 bits of
  security allow. 128, 32 or 16 samples (*lr*, *mlp*, *cnn*) share a ciphertext. Time: encrypting,
  evaluating, decrypting. Bytes: ciphertexts as SEAL writes them; moved once: evaluation keys.

Compiling, keys, encoding of weights and first runs are not timed: a server does them once.

## What cannot be compared

- **The network of MPC is loopback**: in the clear and with next to no delay. Between two machines
  each round waits for it. HE was not sent at all.
- **All parties share two cores** here. With a machine each they would compute side by side.
- **The TEE is simulated**: nothing of what hardware costs is in it.
- They do not keep the same secrets from the same people. Of a TEE one trusts the maker of the
  processor. In MPC, parties that collude see everything, and these protocols hold against parties
  that do as they should. In HE the server has the weights in the clear, and what it answers is
  not masked: slots beside the scores tell the client something of the weights.
- In MPC every party has shares of the weights. Where one party owns the network, less has to
  move.
- Neither MPC nor HE says here which network was evaluated. The evidence of a TEE does.
- One machine, small networks, batches of at most 64.

What is not installed stands in the tables as such. `make mpc` (SPU, for Python 3.11: it has
wheels for no later one) and `make he` (TenSEAL) install each in an environment of its own.
"""
